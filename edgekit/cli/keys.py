"""`edgekit keys`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.terminal import print_json

HELP = "Signing keys."
app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.callback()
def _keys() -> None:
    """Signing keys."""


@app.command()
def new(
    folder: Annotated[Path, typer.Argument(help="Where edgekit.key (0600) and edgekit.pub go.")],
    protect: Annotated[bool, typer.Option("--protect", help="With the passphrase in EDGEKIT_KEY_PASSPHRASE.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One object on stdout.")] = False,
) -> None:
    """Make a pair of signing keys; one that is there already is never overwritten."""
    from edgekit.trust.keys import new_keys, passphrase_for

    key = new_keys(folder, passphrase=passphrase_for(folder) if protect else None)
    if as_json:
        print_json({"key_id": key.key_id, "secret": str(key.path), "public": str(key.public_path)})
        return
    typer.echo(f"key {key.key_id}: keep {key.path} to yourself and back it up; boards get {key.public_path}")
    typer.echo(f"next: edgekit bundle MODEL --sign {key.path} -o OUT.edgekit")
