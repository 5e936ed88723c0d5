"""`edgekit devices`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli.terminal import print_json

if TYPE_CHECKING:
    from edgekit.flashing.discovery import FoundBoard

HELP = "Find boards on this network by mDNS (_edgekit._tcp); a board that was flashed says that it is there."


def devices(
    seconds: Annotated[float, typer.Option(min=0.1, max=60, help="How long to listen.")] = 3.0,
    interface: Annotated[
        list[str] | None, typer.Option(help="Address of this machine to ask from; again for more. Default: all.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One object on stdout.")] = False,
) -> None:
    """Run the verb; see HELP."""
    from edgekit.flashing.discovery import find_boards

    found = find_boards(seconds, interface)
    if as_json:
        print_json({"boards": [_row(board) for board in found]})
        return
    if not found:
        typer.echo(f"no board answered within {seconds:g} s")
        typer.echo("  same network? not a guest Wi-Fi? on the board: sudo apt install avahi-daemon, then flash again")
        return
    for line in table(found):
        typer.echo(line)
    typer.echo(f"next: edgekit flash BUNDLE ssh://USER@{found[0].target.removeprefix('ssh://')}")


def _row(board: FoundBoard) -> dict[str, object]:
    return {
        "id": board.device or None,
        "site": board.site or None,
        "host": board.host,
        "addresses": list(board.addresses),
        "port": board.port,
        "target": board.target,
    }


def table(found: list[FoundBoard]) -> list[str]:
    """One line a board, within 80 columns while names are short."""
    rows = [("site.id", "target", "address")]
    rows += [(f"{b.site or '?'}.{b.device or '?'}", b.target, b.addresses[0] if b.addresses else "") for b in found]
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    return [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c}".rstrip() for a, b, c in rows]
