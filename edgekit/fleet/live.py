"""The fleet as a table in the terminal: a pure function of a snapshot."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from edgekit.fleet.snapshot import BoardSnapshot, FleetSnapshot
from edgekit_device.contract.telemetry import Event, Reading, Status

WIDTH = 80
# Shape and colour both: the dot must also speak without colour.
_DOTS = {"online": ("●", "green"), "stopped": ("○", "yellow"), "offline": ("✕", "red")}


def render(snapshot: FleetSnapshot, limit: int = 40) -> RenderableType:
    """Draw the fleet in at most 80 columns.

    Args:
        snapshot: As `Collector.latest` gives it.
        limit: Most boards to list; the rest is counted.
    """
    table = Table(box=None, pad_edge=False, width=WIDTH, header_style="bold")
    table.add_column("", width=1)
    table.add_column("board", ratio=3, no_wrap=True, overflow="ellipsis")
    table.add_column("sees", ratio=4, no_wrap=True, overflow="ellipsis")
    table.add_column("FPS", justify="right", width=6)
    table.add_column("p50/p95 ms", justify="right", width=11)
    table.add_column("rung", width=7, no_wrap=True, overflow="ellipsis")
    table.add_column("release", ratio=3, no_wrap=True, overflow="ellipsis")
    table.add_column("stored", justify="right", width=7)
    for board in snapshot.boards[:limit]:
        table.add_row(*_cells(board))
    return Group(table, _footer(snapshot, limit))


def spoken(heard: Reading | Event | Status) -> str:
    """One line for what a board said."""
    if isinstance(heard, Status):
        return _plain(f"{heard.state}{f': {heard.reason}' if heard.reason else ''}")
    if isinstance(heard, Event):
        return _plain(f"{heard.at}  {heard.kind}{f': {heard.reason}' if heard.reason else ''}")
    times = heard.latency_ms.get("end_to_end", {})
    sees = "sees nothing" if heard.label is None else f"{_number(heard.score, 2)} {heard.label}"
    line = (
        f"{heard.at}  {_number(heard.fps, 1)} FPS  {_number(times.get('p50'), 1)}/{_number(times.get('p95'), 1)} ms  "
    )
    warm = "" if heard.cpu_temp_c is None else f"{_number(heard.cpu_temp_c, 0)} °C  "
    return _plain(f"{line}{warm}{heard.delegate or '-'}  {heard.bundle or '-'}  {sees}")


def _cells(board: BoardSnapshot) -> list[Text]:
    dot, colour = _DOTS.get(board.state or "", ("?", "dim"))
    sees = "-" if board.label is None else f"{_number(board.score, 2)} {_plain(board.label)}"
    # Text, not str: labels and ids come from boards, and a str would be read as markup.
    return [
        Text(dot, colour),
        Text(f"{board.site}/{board.device}"),
        Text(sees),
        Text(_number(board.fps, 1)),
        Text(f"{_number(board.p50_ms, 1)}/{_number(board.p95_ms, 1)}"),
        Text(_plain(board.delegate or "-")),
        Text(_plain(board.release or "-")),
        Text(_count(board.stored)),
    ]


def _footer(snapshot: FleetSnapshot, limit: int) -> Text:
    online = sum(board.state == "online" for board in snapshot.boards)
    parts = [f"{online} of {len(snapshot.boards)} online", f"{snapshot.stored} stored"]
    if snapshot.rejected:
        parts.append(f"{snapshot.rejected} rejected")
    if len(snapshot.boards) > limit:
        parts.append(f"{len(snapshot.boards) - limit} more boards")
    text = Text(", ".join(parts), "dim", overflow="ellipsis", no_wrap=True)
    if snapshot.problem:
        text.append(f"\n{_plain(snapshot.problem)}", "red")
    return text


def _number(value: float | None, digits: int) -> str:
    if value is None:
        return "-"
    return f"{value:.{digits}f}" if abs(value) < 1000 else f"{value:.0f}" if abs(value) < 100_000 else f"{value:.0e}"


def _count(value: int) -> str:
    return str(value) if value < 1_000_000 else f"{value / 1e6:.1f}M"


def _plain(text: str) -> str:
    """What a board sent, without control characters that would move the cursor."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
