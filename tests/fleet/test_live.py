"""The live table: a pure picture that fits a terminal, whatever boards send."""

from __future__ import annotations

import io
import subprocess
import sys

from rich.console import Console

from edgekit.fleet.batch import BoardKey, Received
from edgekit.fleet.live import WIDTH, render
from edgekit.fleet.snapshot import BoardSnapshot, FleetSnapshot, after
from tests.worlds.readings import reading, status

BOARD = BoardSnapshot(
    "home", "porch", "online", label="tabby", score=0.83, fps=29.84, p50_ms=12.5, p95_ms=14.6, delegate="xnnpack",
    release="lite0-1.0.0", stored=412,
)  # fmt: skip


def drawn(snapshot: FleetSnapshot) -> str:
    out = io.StringIO()
    Console(file=out, width=WIDTH, color_system=None).print(render(snapshot))
    return out.getvalue()


def test_a_board_is_one_line_with_all_that_matters() -> None:
    text = drawn(FleetSnapshot((BOARD,), stored=412))
    line = next(line for line in text.splitlines() if "porch" in line)
    for part in ("●", "home/porch", "0.83 tabby", "29.8", "12.5/14.6", "xnnpack", "lite0", "412"):
        assert part in line
    assert "1 of 1 online, 412 stored" in text


def test_it_fits_80_columns_with_the_longest_names_and_largest_numbers() -> None:
    large = BoardSnapshot(
        "s" * 63, "d" * 63, "offline", label="l" * 900, score=1e300, fps=123456.789, p50_ms=1e9, p95_ms=99999.9,
        delegate="x" * 200, release="r" * 200, stored=10**12,
    )  # fmt: skip
    text = drawn(FleetSnapshot((large, BOARD, BoardSnapshot("a", "b")), problem="p" * 70))
    assert max(map(len, text.splitlines())) <= WIDTH
    assert sum("/" in line and "p50" not in line for line in text.splitlines()) == 3


def test_what_a_board_sends_is_text_not_markup_and_not_control() -> None:
    hostile = BoardSnapshot("home", "porch", label="[red]\x1b[2J\r\n[/]", delegate="\x07")
    text = drawn(FleetSnapshot((hostile,)))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "[red]" in text


def test_a_large_fleet_is_counted_below_the_table() -> None:
    text = drawn(FleetSnapshot(tuple(BoardSnapshot("home", f"b{i}") for i in range(100))))
    assert "60 more boards" in text


def test_backlog_does_not_push_back_what_is_shown_as_now() -> None:
    key = BoardKey("home", "porch")
    messages = [Received(key, document, b"") for document in (status(), reading(9, fps=9.0), reading(3, fps=3.0))]
    board = after(BoardSnapshot(*key), messages)
    assert (board.fps, board.state) == (9.0, "online")


def test_importing_the_package_loads_nothing_heavy() -> None:
    script = (
        "import sys, edgekit.fleet, edgekit.flashing\n"
        "print([name for name in ('sqlalchemy', 'iotcore', 'rich', 'paho') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
