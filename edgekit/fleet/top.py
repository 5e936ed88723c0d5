"""`edgekit fleet top`: the wall in a terminal, what is wrong first, from the store alone."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from edgekit.fleet.alerts_judging import duration, judge
from edgekit.fleet.alerts_rules import Rules
from edgekit.fleet.batch import BoardKey
from edgekit.fleet.web.baselines import NOTHING, Baseline
from edgekit.fleet.web.board_now import BoardNow
from edgekit.fleet.web.choosing import Asked, Card, Shown, choose
from edgekit.fleet.web.drawing import number, plain
from edgekit.fleet.web.wall import Picture, Wall

if TYPE_CHECKING:
    from rich.console import Console

    from edgekit.fleet.store import Store

# Shape and colour both: a dot must also speak without colour.
_DOTS = {
    "critical": ("✕", "bold red"), "warning": ("▲", "yellow"), "notice": ("◆", "blue"),
    "quiet": ("○", "dim"), "fine": ("●", "green"),
}  # fmt: skip


class Look(NamedTuple):
    """One look at the fleet."""

    shown: Shown
    cards: tuple[Card, ...]
    now_ms: int
    problem: str | None


def look(store: Store, rules: Rules, baselines: Mapping[str, Baseline], wall: Wall | None = None) -> Look:
    """Ask the store once.

    Args:
        store: The store.
        rules: When a board needs somebody.
        baselines: What releases promise.
        wall: Kept from the last look, so that only what is new is read.
    """
    picture = (wall or Wall(store)).refresh()
    findings = {key: judge(b, rules, picture.now_ms, _baseline(baselines, b)) for key, b in picture.boards.items()}
    shown = choose(picture, {key: found for key, found in findings.items() if found}, Asked(), lambda site: True)
    return Look(shown, _all(picture, findings), picture.now_ms, picture.problem)


def _baseline(baselines: Mapping[str, Baseline], board: BoardNow) -> Baseline:
    return baselines.get(board.release or "", NOTHING)


def _all(picture: Picture, findings: Mapping[BoardKey, Any]) -> tuple[Card, ...]:
    order = {"critical": 0, "warning": 1, "notice": 2, "quiet": 3, "fine": 4}
    cards = [Card(b, b.standing(picture.now_ms), findings.get(key, ())) for key, b in picture.boards.items()]
    return tuple(sorted(cards, key=lambda card: (order[card.severity], card.board.key)))


def render(seen: Look, width: int, rows: int) -> RenderableType:
    """A table of at most so many columns and rows."""
    table = Table(box=None, pad_edge=False, width=min(width, 140), header_style="bold")
    table.add_column("", width=1)
    table.add_column("board", min_width=min(24, width // 4), ratio=3, no_wrap=True, overflow="ellipsis")
    table.add_column("says", ratio=5, no_wrap=True, overflow="ellipsis")
    for name, wide in (("FPS", 6), ("ms", 6), ("°C", 4)):
        table.add_column(name, justify="right", width=wide)
    table.add_column("rung", width=8, no_wrap=True, overflow="ellipsis")
    table.add_column("age", justify="right", width=6)
    for card in seen.cards[:rows]:
        table.add_row(*_cells(card, seen.now_ms))
    return Group(_head(seen), table)


def _head(seen: Look) -> Text:
    counts = seen.shown.counts
    text = Text(f"{counts.get('online', 0)} of {counts['all']} online, {counts['needs']} need you", "bold")
    if seen.problem:
        text.append(f"\n{plain(seen.problem)}", "red")
    return text


def _cells(card: Card, now_ms: int) -> list[Text]:
    board = card.board
    dot, style = _DOTS[card.severity]
    if card.findings:
        says = Text(plain(card.findings[0].text), style)
    else:
        says = Text(plain(board.label or card.standing) if card.standing == "online" else card.standing)
    age = duration((now_ms - board.received_ms) / 1000) if board.received_ms else "-"
    return [
        Text(dot, style), Text(f"{board.site}/{board.device}"), says, Text(number(board.fps)),
        Text(number(board.p50_ms)), Text(number(board.temp_c, 0)), Text(plain(board.delegate or "-", 20)), Text(age),
    ]  # fmt: skip


def live(store: Store, rules: Rules, baselines: Mapping[str, Baseline], every_s: float, console: Console) -> None:
    """Draw until interrupted."""
    from rich.live import Live

    wall = Wall(store)
    with Live(console=console, screen=True, auto_refresh=False) as screen:
        while True:
            seen = look(store, rules, baselines, wall)
            screen.update(render(seen, console.width, max(1, console.height - 4)), refresh=True)
            time.sleep(every_s)


def as_json(seen: Look) -> dict[str, Any]:
    """For --json."""
    return {
        "boards": seen.shown.counts["all"],
        "online": seen.shown.counts.get("online", 0),
        "needing": seen.shown.counts["needs"],
        "problem": seen.problem,
        "worst": [
            {
                "site": card.board.site,
                "device": card.board.device,
                "standing": card.standing,
                "findings": [finding._asdict() for finding in card.findings],
            }
            for card in seen.cards
            if card.findings
        ][:1000],
    }
