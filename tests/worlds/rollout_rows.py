"""Boards of a rollout that speak through a real store: their documents are written as a collector writes them."""

from __future__ import annotations

import os
import random
import signal
import sys
import zlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from edgekit.fleet.batch import Batch, BoardKey
from edgekit.fleet.rollouts.engine import Engine
from edgekit.fleet.rollouts.state import NEW, OLD
from edgekit.fleet.store import Store
from edgekit_device.contract.clock import utc_text
from edgekit_device.contract.desired import Desired
from edgekit_device.contract.reported import Reported
from edgekit_device.contract.telemetry import Event, Reading, Status
from edgekit_device.contract.topics import EVENT, REPORTED, STATUS, TELEMETRY, topic
from tests.worlds.readings import reading
from tests.worlds.rollout_fleet import CRASHES, HANGS, NEW_RELEASE, OLD_RELEASE, SLOW, Board

SITE = "home"
_MARGINS = (0,) * 12 + (600,) + (0,) * 3


class RowBoards:
    """Boards as values, and what they say as rows.

    Args:
        store: Where a collector would write.
        boards: How they behave.
        now_s: The clock of host and boards.
    """

    def __init__(self, store: Store, boards: Iterable[Board], now_s: float) -> None:
        self.store, self.now_s = store, now_s
        self.boards = {BoardKey(SITE, f"b{board.number}"): board for board in boards}
        self._seq = dict.fromkeys(self.boards, 0)
        self.heard: dict[BoardKey, list[str]] = {key: [] for key in self.boards}
        for _ in range(5):
            self.speak()
            self.now_s += 10

    def hear(self, board: BoardKey, document: bytes) -> bool:
        """A retained `desired`."""
        wanted = Desired.from_bytes(document).bundle
        assert wanted in (NEW_RELEASE, OLD_RELEASE)
        word = NEW if wanted == NEW_RELEASE else OLD
        self.heard[board].append(word)
        self.boards[board].tell(word)
        return True

    def live(self) -> None:
        """Ten seconds: each board does what it does, and says so."""
        for board in self.boards.values():
            board.step()
        self.now_s += 10
        self.speak()

    def speak(self) -> None:
        """Status, `reported` and one Reading of each board that is online."""
        batch = Batch()
        for key, board in self.boards.items():
            for kind, payload in self._said(key, board):
                batch.add(topic(*key, kind), payload)
        assert not batch.rejected, batch.rejected
        self.store._now = lambda: self.now_s
        self.store.write(batch)

    def _said(self, key: BoardKey, board: Board) -> Iterable[tuple[Any, bytes]]:
        boot = f"{zlib.crc32(key.device.encode()):032x}"
        state = "online" if board.online else "offline"
        yield STATUS, Status(state, boot, board.release, "xnnpack", None).to_bytes()
        if not board.online:
            return
        said = Reported(boot, board.release, "serving", None, 10.0, update=board.update, kind="pi5")
        yield REPORTED, said.to_bytes()
        seq = self._seq[key]
        if board.kind == CRASHES and board.release == NEW_RELEASE:
            self._seq[key] += 1
            yield EVENT, Event(boot, seq, utc_text(self.now_s), "worker_died", "signal 6", {}).to_bytes()
        elif not (board.kind == HANGS and board.release == NEW_RELEASE):
            self._seq[key] += 1
            yield TELEMETRY, self._reading(key, board, boot, seq).to_bytes()

    def _reading(self, key: BoardKey, board: Board, boot: str, seq: int) -> Reading:
        fps = 12.0 if board.kind == SLOW and board.release == NEW_RELEASE else 30.0
        made = reading(seq, key.device, boot, bundle=board.release, fps=fps, class_counts={"1": 400, "2": 200})
        return replace(made, at=utc_text(self.now_s), window_s=10.0, margin_hist=_MARGINS)


class Retained:
    """What the broker holds: `desired` as some engine said it, in a file that outlives the engine."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()
        self._read = 0

    def say(self, board: BoardKey, document: bytes) -> bool:
        with self.path.open("ab", 0) as file:
            file.write(board.device.encode() + b" " + document + b"\n")
        return True

    def deliver(self, rows: RowBoards) -> None:
        """Hand on what was said since the last time."""
        lines = self.path.read_bytes().splitlines()
        for line in lines[self._read :]:
            device, _, document = line.partition(b" ")
            rows.hear(BoardKey(SITE, device.decode()), document)
        self._read = len(lines)


def step_and_die(url: str, retained: Retained, now_s: float, at_line: int | None) -> bool:
    """One step of an engine in a process of its own that is killed at a line of it.

    Args:
        url: The store.
        retained: Where it says what it says.
        now_s: The host's clock.
        at_line: SIGKILL when so many lines of rollouts and store have run; None for never.

    Returns:
        Whether it was killed.
    """
    child = os.fork()
    if child == 0:
        try:
            with Store(url, now=lambda: now_s) as store:
                engine = Engine(store, retained.say, now=lambda: now_s)
                sys.settrace(_killer(at_line) if at_line is not None else None)
                engine.step()
        finally:
            sys.settrace(None)
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def lines_of_step(url: str, retained: Retained, now_s: float) -> int:
    """How many lines a step runs, counted in a child that is left alive."""
    left, right = os.pipe()
    child = os.fork()
    if child == 0:
        counted = 0

        def trace(frame: FrameType, event: str, argument: object) -> Any:
            nonlocal counted
            if not _is_ours(frame):
                return None
            counted += event == "line"
            return trace

        try:
            with Store(url, now=lambda: now_s) as store:
                engine = Engine(store, lambda board, document: True, now=lambda: now_s)
                sys.settrace(trace)
                engine.step()
        finally:
            sys.settrace(None)
            os.write(right, str(counted).encode())
            os._exit(0)
    os.waitpid(child, 0)
    count = int(os.read(left, 100))
    os.close(left)
    os.close(right)
    return count


def _killer(at_line: int) -> Any:
    counted = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal counted
        if not _is_ours(frame):
            return None
        counted += event == "line"
        if counted > at_line:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    return trace


def _is_ours(frame: FrameType) -> bool:
    name = frame.f_code.co_filename
    # Lines that only compute are left out: nothing is written or said there.
    return name.endswith(("rollouts/engine.py", "rollouts/records.py", "rollout_rows.py", "fleet/database.py"))


def a_life(
    url: str, folder: Path, boards: list[Board], begin: Any, draw: random.Random, share: float, steps: int = 250
) -> tuple[RowBoards, int]:
    """A whole rollout whose engine is killed again and again, at lines drawn at random.

    Args:
        url: The store.
        folder: For what the broker retains.
        boards: How they behave.
        begin: Called with the store; starts the rollout.
        draw: Random numbers.
        share: Of the steps that are killed.
        steps: Most of them.

    Returns:
        The boards, and how many engines were killed.
    """
    from edgekit.fleet.rollouts import records

    killed = 0
    with Store(url) as store:
        rows = RowBoards(store, boards, 1_790_000_000.0)
        begin(store, int(rows.now_s * 1000))
    retained = Retained(folder / "retained")
    for _ in range(steps):
        # No connection is open when we fork: one that two processes share is none.
        at_line = draw.randrange(110) if draw.random() < share else None
        killed += step_and_die(url, retained, rows.now_s, at_line)
        with Store(url) as store:
            rows.store = store
            retained.deliver(rows)
            rows.live()
            with store.reading() as connection:
                if not records.read_rollouts(connection, only_open=True):
                    break
    return rows, killed
