"""E5: 20 identities try 10 topics, five ways, in both versions of MQTT; nobody reaches what is another's.

Also measures how long a broker with 10,000 accounts takes to start.
"""

from __future__ import annotations

import argparse
import collections
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgekit.trust.dynamic_security import Account, hash_password
from edgekit.trust.mosquitto import Mosquitto
from edgekit.trust.rules import BOARD
from tests.worlds import rights
from tests.worlds.peer import V5, V311
from tests.worlds.rights import Cell
from tests.worlds.trusted_fleet import config_home, found_fleet, trusted_fleet
from tools.gates import trust_page
from tools.results import RESULTS

PICTURE = RESULTS.parent / "img" / "e5.svg"
_CELL, _LEFT, _TOP = 13, 170, 150


def run(arguments: Sequence[str]) -> dict[str, Any]:
    """Try with `--boards` boards (12, which makes 20 identities) and start with `--accounts` (10,000)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--boards", type=int, default=12)
    parser.add_argument("--accounts", type=int, default=10_000)
    args = parser.parse_args(arguments)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, trusted_fleet(Path(folder)) as world:
        whos = rights.identities(world, args.boards)
        cells = rights.run(world, whos)
    seconds = time.monotonic() - began
    wrong = [cell for cell in cells if cell.expected != cell.happened]
    foreign = [cell for cell in cells if not cell.own and cell.happened and not cell.expected]
    own = [cell for cell in cells if cell.own and cell.happened]
    admitted_311 = [cell for cell in cells if cell.version == V311 and cell.happened]
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(picture(cells, [who.name for who in whos]), "utf-8")
    restart_s = restart(args.accounts)
    passed = not wrong and bool(own) and restart_s < 60
    figure = (
        f"{len(cells)} tries by {len(whos)} identities: {len(foreign)} cross-board effects, {len(admitted_311)} over "
        f"MQTT 3.1.1, {len(wrong)} cells unlike the table; {len(own)} of their own happened; "
        f"{args.accounts} accounts answer {restart_s:.1f} s after a start"
    )
    _page(cells, len(whos), figure, seconds)
    restart_lines = [f"A broker with {args.accounts} boards, files written and listening: {restart_s:.1f} s (one run)."]
    trust_page.add("restart", f"Start with {args.accounts:,} accounts", restart_lines)
    return {"gate": "E5", "passed": passed, "figure": figure, "detail": json.dumps([c._asdict() for c in wrong[:20]])}


def restart(accounts: int) -> float:
    """Seconds until a broker with so many boards listens: accounts written from the registry, read by mosquitto."""
    with tempfile.TemporaryDirectory() as folder, config_home(Path(folder)):
        fleet = found_fleet(Path(folder) / "fleet")
        registry, now = fleet.registry, time.time()
        # One hash serves all: what is timed is the broker's start, and it hashes at CONNECT only.
        hashed = hash_password("x")
        registry.put_many([Account(f"home.b{n:05d}", BOARD, "home", f"b{n:05d}", hashed) for n in range(accounts)], now)
        began = time.monotonic()
        with Mosquitto(fleet):
            return time.monotonic() - began


def _page(cells: Sequence[Cell], identities: int, figure: str, seconds: float) -> None:
    counts = collections.Counter((c.verb, c.version, c.own, c.happened) for c in cells)
    lines = [
        f"{identities} identities: boards, a board of the victim's id at another site, one whose id begins like the",
        "victim's, a revoked board, a stranger, a wrong password, no account, the collector, the administrator. Each",
        "tries every topic of a board that is not its own, the control topic, a discovery topic, ten wildcard and",
        "shared filters, and the client ids of ten connected boards. What happened is what an observer received, not",
        "what the broker answered. Boards also try their own topics, so that a blind observer would be noticed.",
        "",
        f"**{figure}.** It took {seconds:.0f} s.",
        "",
        "![Who reached what](../img/e5.svg)",
        "",
        "| verb | version | whose topic | tries | happened | as the table says |",
        "|---|---|---|---|---|---|",
    ]
    for verb in rights.VERBS:
        for version, own in ((V5, True), (V5, False), (V311, False)):
            yes, no = counts[verb, version, own, True], counts[verb, version, own, False]
            if yes + no:
                right = all(
                    c.expected == c.happened for c in cells if (c.verb, c.version, c.own) == (verb, version, own)
                )
                whose = "own" if own else "another's"
                name = "5" if version == V5 else "3.1.1"
                lines.append(f"| {verb} | {name} | {whose} | {yes + no} | {yes} | {'yes' if right else '**no**'} |")
    lines += [
        "",
        "What happened on another's topics is the collector's, which hears every board and speaks to each. The control",
        "topic cannot be observed; there the broker's answer counts.",
    ]
    trust_page.add("E5", "E5: who reached what", lines)


def picture(cells: Sequence[Cell], names: Sequence[str]) -> str:
    """The matrix as SVG: a row an identity, a column a verb and topic, a block for each version and for own topics."""
    blocks = []
    for title, version, own in (
        ("own topics", V5, True),
        ("another's, MQTT 5", V5, False),
        ("another's, MQTT 3.1.1", V311, False),
    ):
        chosen = [c for c in cells if c.version == version and c.own == own and c.verb != "client id"]
        columns = sorted(
            {(rights.VERBS.index(c.verb), _short(c.topic)) for c in chosen if c.topic not in rights.FILTERS}
        )
        blocks.append((title, columns, {(c.who, rights.VERBS.index(c.verb), _short(c.topic)): c for c in chosen}))
    width = _LEFT + sum(len(columns) * _CELL + 24 for _, columns, _ in blocks)
    height = _TOP + len(names) * _CELL + 60
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="9">',
        "<title>Who reached what: 20 identities, 10 topics, both versions</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for row, name in enumerate(names):
        out.append(f'<text x="{_LEFT - 6}" y="{_TOP + row * _CELL + 10}" text-anchor="end" fill="#222">{name}</text>')
    left = _LEFT
    for title, columns, found in blocks:
        out.append(f'<text x="{left}" y="14" font-size="12" font-weight="bold" fill="#222">{title}</text>')
        for number, (verb, topic) in enumerate(columns):
            x = left + number * _CELL
            text = f"{rights.VERBS[verb]} {topic}"
            out.append(f'<text transform="translate({x + 10},{_TOP - 5}) rotate(-90)" fill="#444">{text}</text>')
            for row, name in enumerate(names):
                cell = found.get((name, verb, topic))
                if cell is not None:
                    y = _TOP + row * _CELL
                    out.append(
                        f'<rect x="{x}" y="{y}" width="{_CELL - 2}" height="{_CELL - 2}" fill="{_colour(cell)}"/>'
                    )
        left += len(columns) * _CELL + 24
    legend = (
        ("#2b7a4b", "allowed, and it happened"),
        ("#d9dde1", "refused, and nothing happened"),
        ("#c62828", "unlike the table"),
    )
    for number, (colour, text) in enumerate(legend):
        y = _TOP + len(names) * _CELL + 16 + number * 13
        out.append(f'<rect x="{_LEFT}" y="{y}" width="10" height="10" fill="{colour}"/>')
        out.append(f'<text x="{_LEFT + 16}" y="{y + 9}" fill="#222">{text}</text>')
    return "\n".join([*out, "</svg>", ""])


def _colour(cell: Cell) -> str:
    if cell.expected != cell.happened:
        return "#c62828"
    return "#2b7a4b" if cell.happened else "#d9dde1"


def _short(topic: str) -> str:
    if topic.startswith("$CONTROL"):
        return "accounts"
    return "discovery" if topic.startswith("homeassistant") else topic.rpartition("/")[2]
