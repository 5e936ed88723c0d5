"""`edgekit fleet audit`: who did what."""

from __future__ import annotations

from typing import Annotated

import typer

from edgekit.cli.terminal import print_json

_STORE = "fleet.db"


def audit(
    words: Annotated[str, typer.Argument(help="Only lines that hold this text: a name, an act, a board.")] = "",
    limit: Annotated[int, typer.Option("-n", "--limit", help="At most so many lines.", min=1, max=100_000)] = 50,
    store: Annotated[
        str, typer.Option(envvar="EDGEKIT_STORE", help="A file for SQLite, or postgresql://USER@HOST/DATABASE.")
    ] = _STORE,
    as_json: Annotated[bool, typer.Option("--json", help="One object on stdout.")] = False,
) -> None:
    """Run the verb; see its help."""
    from edgekit.cli.fleet import store_url
    from edgekit.fleet import audit as log
    from edgekit.fleet.store import Store
    from edgekit.fleet.web.drawing import clock, plain

    with Store(store_url(store, must_exist=True)) as opened:
        found = log.entries(opened, limit=limit, words=words)
    if as_json:
        print_json({"entries": [entry._asdict() for entry in found]})
        return
    for entry in found:
        outcome = "" if entry.outcome == log.DONE else f": {plain(entry.outcome, 120)}"
        typer.echo(
            f"{clock(entry.at_ms)}  {plain(entry.who, 80)}  {plain(entry.what)} {plain(entry.target, 120)}{outcome}"
        )
    typer.echo(f"{len(found)} lines, newest first")
