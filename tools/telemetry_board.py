"""Measure the board's side of telemetry: gates B4, B5, B6 and C6. Writes docs/results/telemetry_board.md.

python tools/telemetry_board.py [--only B4,B5,B6,C6] [--kills 100] [--write]
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "device" / "tests"), str(ROOT / "device")]

from readings import BOOT, reading  # noqa: E402

from edgekit_device.contract.ack import Ack, count_of  # noqa: E402
from edgekit_device.publish.delivery import Delivery  # noqa: E402
from edgekit_device.publish.dropped import Dropped  # noqa: E402
from edgekit_device.publish.messages import Key, Limits, Message  # noqa: E402
from edgekit_device.publish.outbox import NAME, Outbox  # noqa: E402
from edgekit_device.publish.reconnecting import reconnect_delay_s  # noqa: E402

OUT = ROOT / "docs" / "results" / "telemetry_board.md"
DAY_S = 86_400
Row = tuple[str, str, str, str, bool]


def written_bytes() -> int:
    """What this process had the kernel write to disk."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("write_bytes")))


class Desk:
    """The protocol and a real outbox, driven by a clock that is moved by hand."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.outbox, self.delivery, self.dropped = Outbox(folder), Delivery(limits), Dropped(BOOT)
        self.now_s = 1000.0

    def make(self, seq: int) -> None:
        """One Reading."""
        payload = reading(seq % 7200).to_bytes().replace(b'"seq":%d,' % (seq % 7200), b'"seq":%d,' % seq)
        self.delivery.make(Message(Key(BOOT, seq), "telemetry", payload, self.now_s))

    def keep(self) -> None:
        """What the courier's thread does with the disk."""
        groups = self.delivery.to_spool(self.now_s)
        if not groups:
            return
        for group, (number, size) in zip(groups, self.outbox.write([(g, None) for g in groups]), strict=True):
            self.delivery.spooled(number, group, size)
        remove = self.delivery.backlog.to_drop(None)
        for number in remove:
            self.dropped.add(*self.delivery.give_up(number))
        if remove:
            self.outbox.change(remove, self.dropped.ranges)


def offline(seconds: int, rate_hz: float = 1.0) -> Iterator[tuple[Desk, Path, int]]:
    """A board without a link for that long."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        desk = Desk(Path(folder), Limits())
        before = written_bytes()
        for seq in range(int(seconds * rate_hz)):
            desk.now_s += 1 / rate_hz
            desk.make(seq)
            desk.keep()
        yield desk, Path(folder) / NAME, written_bytes() - before
        desk.outbox.close()


def size_on_disk(file: Path) -> int:
    """The outbox and its log."""
    return sum(part.stat().st_size for part in file.parent.glob(f"{file.name}*"))


def b4(kills: int) -> Iterator[Row]:
    """Killed while it spools, again and again, on one outbox."""
    promised = found_numbers = corrupt = 0
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        rng, said = random.Random(4), {}
        for kill in range(kills):
            boot = f"{kill:032x}"
            command = [sys.executable, str(ROOT / "device/tests/spooling.py"), folder, boot]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
                assert process.stdout
                lines = [process.stdout.readline()]
                time.sleep(rng.uniform(0.0, 0.1))
                process.kill()
                lines += [line for line in process.stdout.readlines() if line.endswith("\n")]
            said[boot] = {n for line in lines for n in range(int(line.split()[0]), int(line.split()[1]) + 1)}
        outbox = Outbox(Path(folder))
        kept: dict[str, set[int]] = {}
        for batch in outbox.index()[0]:
            for message in outbox.read(batch.number):
                kept.setdefault(message.key.boot, set()).add(message.key.seq)
        outbox.close()
        corrupt = len(list(Path(folder).glob("*.corrupt-*")))
    promised = sum(len(numbers) for numbers in said.values())
    found_numbers = sum(len(numbers & kept.get(boot, set())) for boot, numbers in said.items())
    good = promised == found_numbers and not corrupt
    yield (
        "B4",
        f"{kills} x kill -9 while spooling",
        "0 lost after commit, 0 corrupt",
        (f"{promised} committed, {promised - found_numbers} lost, {corrupt} corrupt"),
        good,
    )


def b5(days: int) -> Iterator[Row]:
    """A day, and a week that overflows."""
    for desk, file, wrote in offline(DAY_S):
        held = count_of(r for batch in desk.delivery.backlog.batches.values() for r in batch.left)
        held += len(desk.delivery.memory)
        size = size_on_disk(file)
        good = size <= 64_000_000 and held == DAY_S
        yield "B5", "24 h offline at 1 msg/s", "<= 64 MB, all held", f"{size / 1e6:.1f} MB, {held} held", good
        yield "C6", "written in those 24 h, offline at 1 msg/s", "stated", f"{wrote / 1e6:.1f} MB", True
    began = time.monotonic()
    for desk, file, _ in offline(days * DAY_S):
        held = {n for b in desk.delivery.backlog.batches.values() for low, high in b.left for n in range(low, high + 1)}
        held |= {key.seq for key in desk.delivery.memory}
        gone = desk.dropped.ranges.get(BOOT, ())
        dropped = {n for low, high in gone for n in range(low, high + 1)}
        exact = dropped == set(range(days * DAY_S)) - held
        said = f"{size_on_disk(file) / 1e6:.1f} MB, {len(held)} held, {len(dropped)} dropped as {list(gone)}"
        yield (
            "B5",
            f"{days} days offline at 1 msg/s",
            "<= 64 MB, ranges exact",
            (f"{said}, exact: {exact}; {time.monotonic() - began:.0f} s to simulate"),
            exact and size_on_disk(file) <= 64_000_000,
        )


def c6() -> Iterator[Row]:
    """A day online with a collector that acknowledges every 30 s, and one on a broker without any collector."""
    for rate_hz, name in ((1.0, "1 msg/s"), (1 / 30, "one each 30 s")):
        with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
            desk = Desk(Path(folder), Limits())
            desk.delivery.connect(desk.now_s)
            before = written_bytes()
            acked_s = desk.now_s
            for seq in range(int(DAY_S * rate_hz)):
                desk.now_s += 1 / rate_hz
                desk.make(seq)
                while message := desk.delivery.next(desk.now_s):
                    desk.delivery.deliver(message.key, desk.now_s)
                if desk.now_s - acked_s >= 30.0:
                    acked_s = desk.now_s
                    desk.delivery.acknowledge(Ack({BOOT: ((0, seq),)}), desk.now_s)
                desk.keep()
            wrote = written_bytes() - before
            desk.outbox.close()
        yield "C6", f"24 h online, {name}, acked each 30 s", "<= 50 MB", f"{wrote / 1e6:.2f} MB", wrote <= 50_000_000
        with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
            desk = Desk(Path(folder), Limits())
            desk.delivery.connect(desk.now_s)
            before = written_bytes()
            for seq in range(int(DAY_S * rate_hz)):
                desk.now_s += 1 / rate_hz
                desk.make(seq)
                while message := desk.delivery.next(desk.now_s):
                    desk.delivery.deliver(message.key, desk.now_s)
                desk.keep()
            wrote = written_bytes() - before
            desk.outbox.close()
        yield "C6", f"24 h online, {name}, no collector at all", "stated", f"{wrote / 1e6:.1f} MB", True
    for mode in ("full", "readonly", "eio"):
        with tempfile.TemporaryDirectory() as folder:
            command = ["unshare", "-rm", sys.executable, str(ROOT / "device/tests/full_disk.py"), folder, mode, "10"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            yield "C6", f"disk {mode}", "heals <= 30 s", f"not run: {done.stderr.strip().splitlines()[-1][:80]}", False
            continue
        found = json.loads(done.stdout)
        good = found["healed_s"] <= 30 and found["lost"] == 0 and len(found["events"]) == 2 and found["live_is_newest"]
        yield (
            "C6",
            f"disk {mode} (tmpfs; eio by strace), then well again",
            "live goes on, 1 alert, heals <= 30 s",
            (f"{found['events']}, {found['lost']} lost, healed after {found['healed_s']} s"),
            good,
        )


def b6() -> Iterator[Row]:
    """200 clients whose broker was away, 1,000 fleets, beside paho's doubling."""
    rng = random.Random(6)

    def storm(away_s: float, delay: Callable[[int], float]) -> tuple[float, float]:
        times = []
        for _ in range(200):
            now, attempt = 0.0, 0
            while now < away_s or attempt == 0:
                now += delay(attempt)
                attempt += 1
            times.append(now - away_s)
        times.sort()
        return max(sum(t <= other < t + 1.0 for other in times) for t in times) / 200, times[-1]

    for away_s, limit in ((60.0, 0.10), (2.0, 0.25)):
        fleets = [storm(away_s, lambda n: reconnect_delay_s(n, rng.uniform)) for _ in range(300)]
        busiest = sorted(share for share, _ in fleets)
        back = max(back for _, back in fleets)
        control = storm(away_s, lambda n: float(min(120, 2**n)))
        good = busiest[len(busiest) // 2] <= limit and back <= 75
        yield (
            "B6",
            f"broker away {away_s:.0f} s, 200 clients",
            f"busiest 1 s <= {limit:.0%}, back <= 75 s",
            (
                f"median {busiest[len(busiest) // 2]:.1%}, worst of 300 fleets {busiest[-1]:.1%}, back {back:.0f} s; "
                f"paho's own delays: {control[0]:.0%}, back {control[1]:.0f} s"
            ),
            good,
        )


def main() -> int:
    """Run what was asked for; exit 3 if a gate says no."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="B4,B5,B6,C6")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--days", type=int, default=7)
    parser.add_argument("--write", action="store_true", help="write docs/results/telemetry_board.md")
    args = parser.parse_args()
    gates = {"B4": lambda: b4(args.kills), "B5": lambda: b5(args.days), "B6": b6, "C6": c6}
    rows = []
    for name in args.only.split(","):
        for row in gates[name]():
            rows.append(row)
            print(" | ".join(map(str, row)), flush=True)
    if args.write:
        OUT.write_text(page(rows, args))
    return 0 if all(row[-1] for row in rows) else 3


def page(rows: list[Row], args: argparse.Namespace) -> str:
    """The result page."""
    lines = [
        "# Telemetry, the board's side",
        "",
        f"`python tools/telemetry_board.py --kills {args.kills} --days {args.days} --write`, "
        f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, two cores, Python {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version}. Readings with the spread of real ones, 1.1 to 1.3 KB of JSON each; clocks "
        "of hours and days are simulated, the files are real.",
        "",
        "| gate | case | limit | measured | |",
        "|---|---|---|---|---|",
        *(
            f"| {gate} | {case} | {limit} | {found} | {'pass' if ok else 'FAIL'} |"
            for gate, case, limit, found, ok in rows
        ),
        "",
        "Power cuts (B4), real connections (B6) and bad networks (B7) are in telemetry.md.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
