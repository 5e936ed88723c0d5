"""`edgekit fleet publish`: offer releases to boards, and keep the keys and signatures of that in order."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli.terminal import print_json

if TYPE_CHECKING:
    from edgekit.fleet.home_updates import Offered
    from edgekit.fleet.up import Plan
    from edgekit.publishing.repository import Repository

HELP = "Offer a signed bundle or runtime release to boards, over the air; with no file, say what is offered."
UPDATES = Path("updates")
_WARN_DAYS = 90


class Key(StrEnum):
    """Which key."""

    ROOT = "root"
    TARGETS = "targets"
    ONLINE = "online"


Updates = Annotated[
    Path, typer.Option("--updates", envvar="EDGEKIT_UPDATES", help="Folder of the repository (default: ./updates).")
]


def publish(
    releases: Annotated[list[Path] | None, typer.Argument(metavar="[RELEASE]...", help="The .edgekit files.")] = None,
    updates: Updates = UPDATES,
    notes: Annotated[str | None, typer.Option(help="What is new, for people.")] = None,
    withdraw: Annotated[
        list[str] | None, typer.Option(metavar="NAME-VERSION", help="Offer it no more; boards that run it go on.")
    ] = None,
    renew: Annotated[
        bool, typer.Option("--renew", help="Sign root (10 years) and targets (2 years) again with full lives.")
    ] = False,
    rotate_key: Annotated[
        Key | None, typer.Option("--rotate-key", help="Put a new key in the place of one; boards follow by themselves.")
    ] = None,
    keys: Annotated[
        Path | None, typer.Option("--keys", envvar="EDGEKIT_UPDATE_KEYS", help="Folder of the offline keys.")
    ] = None,
    pubkey: Annotated[Path | None, typer.Option(help="Public key that the releases are signed with.")] = None,
    passphrase_file: Annotated[
        Path | None, typer.Option("--passphrase-file", help="Of the offline keys; else EDGEKIT_KEY_PASSPHRASE.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One object on stdout.")] = False,
) -> None:
    """Run the verb; see its help."""
    from edgekit.cli.fleet_backup import passphrase
    from edgekit.publishing import releases as offering
    from edgekit.publishing.keys import UpdateKeys, keys_folder
    from edgekit.publishing.repository import Repository

    word = passphrase(passphrase_file, ask=False)
    repository = Repository(updates, UpdateKeys(keys, word, online=keys_folder() if keys else None))
    fresh = [
        offer.path
        for release in releases or []
        for offer in offering.publish(repository, release, notes=notes, public_key=pubkey)
    ]
    for name in withdraw or []:
        offering.withdraw(repository, name)
    if rotate_key is not None:
        repository.rotate(rotate_key.value)
    if renew:
        repository.renew()
    rows = offering.offered(repository)
    ends = {role: f"{end:%Y-%m-%d}" for role, end in repository.expiries().items()}
    shown = _is_shown(repository)
    if as_json:
        print_json({"updates": str(updates), "published": fresh, "offered": rows, "expires": ends, "shown": shown})
        return
    for row in rows:
        said = f"  {row['notes']}" if row["notes"] else ""
        typer.echo(f"{row['name']:<36} {row['kind']:<8} {row['bytes'] / 1e6:8.1f} MB{said}")
    typer.echo(f"{updates}: {len(rows)} offered" + "".join(f"; {role} until {end}" for role, end in ends.items()))
    if not shown and rows:
        typer.echo("signed offline; boards see it once `edgekit fleet up` has these files and its online key")
    elif rows:
        typer.echo(f"next: edgekit fleet up --updates {updates}   # boards fetch it once it is desired of them")


def _is_shown(repository: Repository) -> bool:
    seen = repository.shown() if repository.exists else None
    newest = {offer.path for offer in repository.offers()}
    return seen is not None and set(seen[2].signed.targets) == newest


@contextmanager
def served(plan: Plan, folder: Path, stop: threading.Event) -> Iterator[Plan]:
    """A repository that `fleet up` serves, signs again each day, and warns about before anything in it ends.

    Args:
        plan: What is brought up.
        folder: Of the repository; it may come later.
        stop: Set when the program ends.
    """
    import sys
    from dataclasses import replace
    from functools import partial

    from edgekit.publishing.upkeep import Upkeep

    def say(line: str) -> None:
        sys.stderr.write(f"edgekit: {line}\n")

    upkeep = Upkeep(folder.absolute(), say=say)
    upkeep.look()
    thread = threading.Thread(target=upkeep.run, args=(stop,), name="repository", daemon=True)
    thread.start()
    try:

        def ends(now_s: float) -> list[tuple[str, str]]:
            return upkeep.ends(now_s) + _authority_ends(plan.folder / "ca" / "authority.pem", now_s)

        check = partial(check_published, updates=folder.absolute())
        options = replace(plan.dashboard, updates=folder.absolute(), check_release=check, ends=ends)
        yield replace(plan, dashboard=options)
    finally:
        stop.set()
        thread.join(15)


def check_published(named: str, updates: Path) -> None:
    """Boards could not fetch what is not offered. Without a repository here it is served elsewhere, and not asked.

    Raises:
        NotPublishedError: The repository here does not offer it.
    """
    from edgekit.publishing.errors import NotPublishedError

    offered = [offer.bundle for offer in offered_in(updates)]
    if updates.is_dir() and named not in offered:
        raise NotPublishedError(named, offered)


def offered_in(updates: Path) -> list[Offered]:
    """The bundles that a repository offers, with their notes; none where there is no repository."""
    from edgekit.fleet.home_updates import Offered
    from edgekit.publishing.reading import RepositoryFiles

    files = RepositoryFiles(updates)
    found = []
    for offer in files.offers() if files.exists else ():
        folder, _, name = offer.path.rpartition("/")
        if folder == "bundles" and name.endswith(".edgekit"):
            notes = offer.custom.get("notes")
            found.append(Offered(name.removesuffix(".edgekit"), notes if isinstance(notes, str) else ""))
    return found


def _authority_ends(certificate: Path, now_s: float) -> list[tuple[str, str]]:
    """The fleet's authority ends within 90 days; all other certificates are renewed by themselves."""
    from cryptography import x509

    try:
        end = x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
    except (OSError, ValueError):
        return []  # No fleet init, or damaged, which the broker says.
    left = (end.timestamp() - now_s) / 86_400
    if left > _WARN_DAYS:
        return []
    text = f"the fleet's authority ends on {end:%Y-%m-%d}: found a new fleet and enrol every board again before"
    return [("critical" if left < 14 else "warning", text)]
