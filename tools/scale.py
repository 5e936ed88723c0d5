"""Measure what a board costs in a day, at three sizes, on SQLite and PostgreSQL; for docs/scale.md.

python tools/scale.py [--boards 2,8,32] [--interval 30] [--write]

Simulated boards live one day each; the clock is moved by hand, the stores and every byte in them are real.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sqlalchemy import text

from edgekit.fleet.batch import Batch, BoardKey
from edgekit.fleet.database import sqlite_url
from edgekit.fleet.simulation import Habits, Held, SimulatedBoard
from edgekit.fleet.store import Store
from edgekit_device.contract.topics import ACK, topic
from tests.worlds.services import postgresql
from tools.results import ROOT, heading

OUT = ROOT / "docs" / "scale.md"
MARK = "<!-- what follows is written by hand -->"
DAY_S, STEP_S, BATCH = 86_400, 30.0, 500
# A Reading or an event on the wire: fixed header 3, topic length 2, packet id 2, properties 1; its PUBACK 4.
_PUBLISH_BYTES, _PUBACK_BYTES = 8, 4
TABLES = ("readings", "events", "readings_by_minute", "readings_by_hour", "stored_ranges", "boots")


class Day(NamedTuple):
    """What one size came to, for one board and day.

    Attributes:
        kind: Of database.
        messages: Readings and events.
        up_bytes: MQTT from the board, without TLS and TCP.
        down_bytes: MQTT to the board: PUBACKs, and an ack a batch of 20 or 30 s.
        rows: Per table.
        table_bytes: Per table with its indexes; PostgreSQL only.
        stored_bytes: The whole database.
        cpu_ms: Of the collector's store, a message.
    """

    kind: str
    boards: int
    messages: float
    up_bytes: float
    down_bytes: float
    rows: dict[str, float]
    table_bytes: dict[str, float]
    stored_bytes: float
    cpu_ms: float


def a_day(boards: int, interval_s: float) -> Iterator[tuple[float, list[tuple[SimulatedBoard, Held]]]]:
    """Every half minute of one day: what the boards made."""
    # A reboot a day; the usual habits of simulated boards are for finding mistakes.
    habits = replace(Habits(), rate_hz=1 / interval_s, reboot_s=DAY_S)
    fleet = [SimulatedBoard(f"board-{number:05d}", habits, 1) for number in range(boards)]
    start_s = 1_795_305_600.0
    for board in fleet:
        board.start(0.0)
    now_s = 0.0
    while now_s < DAY_S:
        now_s += STEP_S
        made = [(board, held) for board in fleet for held in board.step(now_s, start_s + now_s)]
        for board in fleet:
            board.held.clear()
        yield start_s + now_s, made


def measure(url: str, boards: int, interval_s: float) -> Day:
    """Live a day into an empty store."""
    clock, up, down, messages, cpu_s = [0.0], 0, 0, 0, 0.0
    with Store(url, lambda: clock[0]) as store:
        waiting: list[tuple[SimulatedBoard, Held]] = []
        for now_s, made in a_day(boards, interval_s):
            clock[0] = now_s
            waiting += made
            while len(waiting) >= BATCH or (waiting and now_s % 60 == 0):
                some, waiting = waiting[:BATCH], waiting[BATCH:]
                began, batch = time.process_time(), Batch()
                for board, held in some:
                    name = topic(board.site, board.device, held.kind)
                    batch.add(name, held.payload)
                    up += len(held.payload) + len(name) + _PUBLISH_BYTES
                store.write(batch)
                cpu_s += time.process_time() - began
                messages, down = messages + len(some), down + len(some) * _PUBACK_BYTES
                keys = {BoardKey(board.site, board.device) for board, _ in some}
                for key, ack in store.acks(keys).items():
                    down += len(ack.to_bytes()) + len(topic(*key, ACK)) + _PUBLISH_BYTES
                    up += _PUBACK_BYTES
        with store.reading() as connection:
            count = {t: connection.execute(text(f"select count(*) from {t}")).scalar() or 0 for t in TABLES}
        table_bytes, stored = _sizes(store, url)
    each = {table: rows / boards for table, rows in count.items()}
    kind = "PostgreSQL" if url.startswith("postgresql") else "SQLite"
    share = {table: size / boards for table, size in table_bytes.items()}
    return Day(
        kind, boards, messages / boards, up / boards, down / boards, each, share, stored / boards,
        cpu_s * 1000 / messages,
    )  # fmt: skip


def _sizes(store: Store, url: str) -> tuple[dict[str, int], int]:
    with store.reading() as connection:
        if url.startswith("sqlite"):
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar() or 0
            return {}, pages * (connection.exec_driver_sql("PRAGMA page_size").scalar() or 0)
        sizes = {t: connection.execute(text(f"select pg_total_relation_size('{t}')")).scalar() or 0 for t in TABLES}
        return sizes, sum(sizes.values())


def table(days: list[Day]) -> list[str]:
    """The measured page, as Markdown."""
    lines = [
        "| boards | store | messages | MQTT up, MB | MQTT down, MB | rows | stored, MB | bytes a message "
        "| store CPU, ms a message |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for d in days:
        rows = sum(d.rows.values())
        lines.append(
            f"| {d.boards} | {d.kind} | {d.messages:.0f} | {d.up_bytes / 1e6:.2f} | {d.down_bytes / 1e6:.2f} "
            f"| {rows:.0f} | {d.stored_bytes / 1e6:.2f} | {d.stored_bytes / d.messages:.0f} | {d.cpu_ms:.2f} |"
        )
    last: Any = next((d for d in reversed(days) if d.table_bytes), None)
    if last is not None:
        lines += [
            "",
            f"One board's day by table, PostgreSQL, {last.boards} boards:",
            "",
            "| table | rows | KB with indexes |",
        ]
        lines += ["|---|---|---|"]
        lines += [f"| `{t}` | {last.rows[t]:.0f} | {last.table_bytes[t] / 1e3:.0f} |" for t in TABLES]
    return lines


def main() -> int:
    """Measure and print; with --write into the page, above its hand-written part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--boards", default="2,8,32")
    parser.add_argument("--interval", type=float, default=30.0)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    days = []
    with postgresql() as server, tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        for boards in map(int, args.boards.split(",")):
            for url in (sqlite_url(Path(folder) / f"{boards}.db"), server.fresh(f"scale_{boards}")):
                days.append(measure(url, boards, args.interval))
                print(days[-1], flush=True)
    command = f"python tools/scale.py --boards {args.boards} --interval {args.interval:g} --write"
    page = [*heading("What a fleet costs", command, "edgekit", "sqlalchemy", "psycopg"), *table(days), "", MARK]
    print("\n".join(page))
    if args.write:
        rest = OUT.read_text("utf-8").partition(MARK)[2] if OUT.exists() else "\n"
        OUT.write_text("\n".join(page) + rest, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
