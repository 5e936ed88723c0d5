"""`edgekit fleet backup` and `restore`, and the passphrase that a key or a backup is locked with."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.terminal import print_json

_Json = Annotated[bool, typer.Option("--json", help="One object on stdout.")]
_Folder = Annotated[
    Path | None, typer.Option("--fleet", envvar="EDGEKIT_FLEET", help="The fleet folder (~/.config/edgekit/fleet).")
]
_Passphrase = Annotated[
    Path | None,
    typer.Option("--passphrase-file", help="File with a passphrase; else EDGEKIT_KEY_PASSPHRASE or its _FILE."),
]


def register(app: typer.Typer) -> None:
    """Add these verbs to `edgekit fleet`."""
    app.command(help="Write the whole fleet into one file, encrypted if a passphrase is given.")(backup)
    app.command(help="Make the fleet folder again from a backup.")(restore)


def backup(
    output: Annotated[Path, typer.Argument(metavar="OUT", help="The file.")],
    folder: _Folder = None,
    passphrase_file: _Passphrase = None,
    ask: Annotated[bool, typer.Option("--protect", help="Ask for a passphrase.")] = False,
    as_json: _Json = False,
) -> None:
    """Run the verb; see its help."""
    from edgekit.trust.backup import backup as write
    from edgekit.trust.fleet_folder import Fleet

    word = passphrase(passphrase_file, ask=ask)
    names = write(Fleet(folder), output, word)
    if as_json:
        print_json({"path": str(output), "files": names, "encrypted": word is not None})
        return
    typer.echo(f"{output}: {len(names)} files{', encrypted' if word else ', NOT encrypted: guard it like a key'}")
    typer.echo(f"next: copy it off this machine; it comes back with: edgekit fleet restore {output}")


def restore(
    source: Annotated[Path, typer.Argument(metavar="BACKUP", help="What `edgekit fleet backup` wrote.")],
    folder: _Folder = None,
    passphrase_file: _Passphrase = None,
    ask: Annotated[bool, typer.Option("--protect", help="Ask for the passphrase.")] = False,
    as_json: _Json = False,
) -> None:
    """Run the verb; see its help."""
    from edgekit.trust.backup import restore as read

    fleet = read(source, folder, passphrase(passphrase_file, ask=ask))
    text = f"{fleet.folder}: restored\nnext: edgekit fleet broker; boards come back by themselves"
    print_json({"folder": str(fleet.folder)}) if as_json else typer.echo(text)


def passphrase(file: Path | None, *, ask: bool) -> str | None:
    """A passphrase from a file, from a question or from the environment; None where none of them has one."""
    from edgekit.errors import LockedKeyError
    from edgekit.trust import keys

    if file is not None:
        try:
            found = file.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as cause:
            raise LockedKeyError(str(file), "the passphrase file cannot be read", keys.PASSPHRASE_ENV) from cause
        if not found:
            raise LockedKeyError(str(file), "the passphrase file is empty", keys.PASSPHRASE_ENV)
        return found
    if ask:
        return str(typer.prompt("passphrase", hide_input=True, confirmation_prompt=True))
    named = os.environ.get(f"{keys.PASSPHRASE_ENV}_FILE") or os.environ.get(keys.PASSPHRASE_ENV)
    return keys.passphrase_for(Path("fleet")) if named else None
