"""A8-RUNTIME: runtimes that are signed and bad; the board is back on the one before, with the reason, and stays there.

Real environments built by pip, a real launcher, a real broker and a real collector. What `install` can see it refuses
before anything is switched; the others are started on trial. A good one passes the very same board.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgekit.fleet.broker import EmbeddedBroker
from edgekit.fleet.collector import Collector, CollectorOptions
from edgekit.fleet.database import sqlite_url
from edgekit.fleet.store import Store
from edgekit_device.contract.errors import EdgeKitError
from edgekit_device.contract.runtime_errors import RejectedRuntimeError
from edgekit_device.runtimes import launcher, slots
from edgekit_device.runtimes.launcher import COMMITTED, REJECTED
from tests.worlds.runtime_board import RuntimeBoard, refused_runtimes, tried_runtimes

WITHIN_S, GOOD_WITHIN_S = 25.0, 120.0
_SLACK_S = 60.0
"""The guard's grace and its kill, three starts, and a busy machine."""


def run(arguments: Sequence[str]) -> dict[str, Any]:
    """Try every bad runtime; `--only WORDS` those whose name has the words, `--cuts N` power cuts in a good trial."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="")
    parser.add_argument("--cuts", type=int, default=6)
    args = parser.parse_args(arguments)
    bad: list[str] = []
    rows = ["| runtime | `install` | what became of it | back after s |", "|---|---|---|---|"]
    count = 0
    with (
        tempfile.TemporaryDirectory() as name,
        EmbeddedBroker() as broker,
        Store(sqlite_url(Path(name) / "s")) as store,
    ):
        options = CollectorOptions(batch_s=0.05, ack_s=0.2)
        with Collector(broker.address, store, options), RuntimeBoard(Path(name)) as board:
            board.serve("--broker", broker.address.url, "--site", "home", "--id", "porch")
            board.wait_reading(board.model, 120)
            problem = _passes(board, "0.2.0", epoch=1)
            bad += [f"- the control, a good runtime: {problem}"] if problem else []
            for number, (kind, (error, words)) in enumerate(refused_runtimes().items()):
                if args.only in kind:
                    count += 1
                    row, problem = _refused(board, f"3.{number}.0", kind, error, words)
                    rows.append(row)
                    bad += [f"- {kind}: {problem}"] if problem else []
            if args.only in "disk full":
                count += 1
                row, problem = _full(board)
                rows.append(row)
                bad += [f"- disk full: {problem}"] if problem else []
            for number, (kind, twist) in enumerate(tried_runtimes().items()):
                if args.only in kind:
                    count += 1
                    row, problem = _tried(board, f"4.{number}.0", kind, twist)
                    rows.append(row)
                    bad += [f"- {kind}: {problem}"] if problem else []
            cuts, problem = _cut(board, args.cuts)
            bad += [f"- power cuts: {problem}"] if problem else []
    return {
        "gate": "A8-RUNTIME",
        "passed": not bad and count > 0,
        "figure": f"{count - len(bad)} of {count} bad runtimes refused or rolled back, the reason named, not tried "
        f"again; a good one was committed by an acknowledged Reading, and another through {cuts} power cuts",
        "detail": "\n".join(rows + bad),
    }


def _refused(board: RuntimeBoard, version: str, kind: str, error: str, words: dict[str, Any]) -> tuple[str, str | None]:
    before, wanted = launcher.read_journal(board.place), board.wanted
    words = {"epoch": 1, **words}
    if "hashes" in words:
        words["hashes"] = {name.replace("9.9.9", version): digest for name, digest in words["hashes"].items()}
    try:
        board.take(board.release(version, words.pop("twist", None), **words))
    except EdgeKitError as found:
        said = f"{type(found).__name__}: {found}"
    else:
        return f"| {kind} | let through | | |", "install let it through"
    row = f"| {kind} | {said[:200].replace('|', '/')} | never started | |"
    if not said.startswith(error):
        return row, f"install said {said}"
    if (launcher.read_journal(board.place), board.wanted) != (before, wanted):
        return row, "install changed what is wanted"
    if (board.place / launcher.FOLDER / f"runtime-{version}").exists():
        return row, "install left something"
    return row, None


def _full(board: RuntimeBoard) -> tuple[str, str | None]:
    """A board whose card is full: a small file system of its own, or the figure that the disk gives."""
    from tests.worlds.disks import FullDisk

    before = board.wanted
    try:
        slots.install(board.place, board.release("3.90.0", epoch=1), [board.signer.public], disk=FullDisk(1 << 20))
    except EdgeKitError as found:
        said = f"{type(found).__name__}: {found}"
    else:
        said = "let through"
    problem = None if said.startswith("SlotFullError") and board.wanted == before else said
    return f"| disk full | {said[:200]} | never started | |", problem


def _tried(board: RuntimeBoard, version: str, kind: str, twist: dict[str, tuple[str, str]]) -> tuple[str, str | None]:
    path, before, mark = board.release(version, twist, epoch=1), board.wanted, len(board.said)
    name, began = f"runtime-{version}", time.monotonic()
    try:
        board.take(path, WITHIN_S)
        began = time.monotonic()
        line = board.wait(rf"runtime_rejected: {name}: ", WITHIN_S + _SLACK_S, after=mark)
        _wait(lambda: board.wanted == before, "the link points to another one")
        board.wait_reading(board.model, 120)
        took_s = time.monotonic() - began
    except (EdgeKitError, AssertionError) as error:
        return f"| {kind} | passed | {str(error)[:200]} | |", str(error)
    reason = line.partition(f"{name}: ")[2]
    row = f"| {kind} | passed | {reason[:200].replace('|', '/')} | {took_s:.0f} |"
    if board.record(name).get("state") != REJECTED:
        return row, f"the journal says {board.record(name)}"
    try:
        _wait(lambda: reason in (board.status()["status"]["reason"] or ""), "status does not name the reason")
        board.take(path)
    except RejectedRuntimeError:
        return row, None
    except AssertionError as error:
        return row, str(error)
    return row, "it could be entered again"


def _passes(board: RuntimeBoard, version: str, **more: Any) -> str | None:
    path, mark = board.release(version, **more), len(board.said)
    try:
        board.take(path, GOOD_WITHIN_S)
        board.wait(rf"runtime_committed: runtime-{version}", GOOD_WITHIN_S + _SLACK_S, after=mark)
        board.wait_reading(board.model, 120)
    except (EdgeKitError, AssertionError) as error:
        return str(error)
    return None if board.record(f"runtime-{version}").get("state") == COMMITTED else f"{board.record(version)}"


def _cut(board: RuntimeBoard, cuts: int) -> tuple[int, str | None]:
    """Kill everything of a board at random moments while it is given a good runtime, then let it pass."""
    path, chance = board.release("5.0.0", epoch=1), random.Random(8)
    for number in range(cuts):
        order = _installer(board, path)
        time.sleep(chance.uniform(0.0, 12.0))
        _pull_the_plug(board, order)
        board.end(signal.SIGKILL)
        started = launcher.prepare(board.place)[0]
        if not launcher.python_of(board.place, started).exists():
            return number, f"after cut {number} it would start {started!r}, which is not there"
        board.serve(*board.words)
        try:
            board.wait_reading(board.model, 120)
        except AssertionError as error:
            return number, f"after cut {number}: {error}"
    problem = _passes_again(board, path)
    return cuts, problem


def _passes_again(board: RuntimeBoard, path: Path) -> str | None:
    try:
        board.take(path, GOOD_WITHIN_S, force=True)
        _wait(
            lambda: board.record("runtime-5.0.0").get("state") == COMMITTED, "never committed", GOOD_WITHIN_S + _SLACK_S
        )
    except (EdgeKitError, AssertionError) as error:
        return str(error)
    return None


def _installer(board: RuntimeBoard, path: Path) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-m",
        "edgekit_device",
        "install",
        str(path),
        "--root",
        str(board.root),
        "--within",
        "120",
    ]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, start_new_session=True, **quiet)  # type: ignore[call-overload, no-any-return]


def _pull_the_plug(board: RuntimeBoard, order: subprocess.Popen[bytes]) -> None:
    """Everything of this board dies at once: the installer with pip, the restarter, what it started, its guard."""
    mark = str(board.root).encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if mark in (entry / "cmdline").read_bytes() or mark in bytes((entry / "exe").readlink()):
                    os.kill(int(entry.name), signal.SIGKILL)
            except OSError:
                continue
    order.wait()


def _wait(true: Any, problem: str, limit_s: float = 30.0) -> None:
    until = time.monotonic() + limit_s
    while not true():
        if time.monotonic() > until:
            raise AssertionError(problem)
        time.sleep(0.1)
