"""`edgekit capture`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.terminal import megabytes, print_json

HELP = "Bring diverse pictures of a board's camera home, for calibration and training."


def capture(
    target: Annotated[str, typer.Argument(help="ssh://user@host[:port], or a name from fleet.toml")],
    out: Annotated[Path, typer.Option("-o", "--output", help="Folder for the pictures.")],
    count: Annotated[int, typer.Option(min=1, help="Pictures.")] = 20,
    source: Annotated[str | None, typer.Option(help="Another source than the board's own.")] = None,
    seconds: Annotated[float, typer.Option(help="How long the board may look.")] = 120.0,
    budget_mb: Annotated[float, typer.Option(help="Most that the pictures may weigh, in MB.")] = 100.0,
    as_json: Annotated[bool, typer.Option("--json", help="One object on stdout.")] = False,
) -> None:
    """Run the verb; see HELP."""
    from edgekit.cli.flash import _asker
    from edgekit.flashing.flashed import Options
    from edgekit.flashing.looking import bring_pictures
    from edgekit.flashing.naming import read_boards
    from edgekit.flashing.targets import parse_target

    names = read_boards() if ":" not in target else {}
    done = bring_pictures(
        parse_target(target, names),
        out,
        count,
        source=source,
        seconds=seconds,
        budget_mb=budget_mb,
        options=Options(ask=_asker(None)),
        say=(lambda words: None) if as_json else typer.echo,
    )
    if as_json:
        document = {"folder": str(done.folder), "pictures": list(done.pictures), "bytes": done.bytes}
        print_json({**document, "seen": done.seen, "paused": done.paused})
        return
    typer.echo(f"{done.folder}: {len(done.pictures)} pictures of {done.seen} frames, {megabytes(done.bytes)}")
    if done.paused:
        typer.echo("its service runs again")
    typer.echo(f"next: edgekit doctor calibration {done.folder}")
