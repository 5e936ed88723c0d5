"""A fleet under stress: simulated boards, collectors to be killed, and what the boards made against what is stored."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sqlalchemy import text

from edgekit.fleet.simulated_updates import Updating
from edgekit.fleet.simulation import CALM, Habits, SimulatedBoard
from edgekit.fleet.store import Store
from edgekit.fleet.swarm import Swarm, SwarmOptions, SwarmResult
from edgekit_device.publish.broker_url import BrokerAddress

ROOT = Path(__file__).resolve().parents[2]
HASTY = SwarmOptions(seconds=10, wait_s=120, patience_s=3, first_delay_s=0.5, delay_cap_s=1.5)


@dataclass
class CollectorProcess:
    """`edgekit fleet collect` as its user runs it."""

    broker: str
    store: str
    name: str = "one"
    environment: dict[str, str] = field(default_factory=dict)
    ack_s: float = 1.0
    process: subprocess.Popen[str] | None = None
    peak_rss_bytes: int = 0

    def start(self, wait_s: float = 30.0) -> None:
        command = [
            sys.executable, "-m", "tests.worlds.collecting", self.broker, self.store, self.name, str(self.ack_s),
        ]  # fmt: skip
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        # A database or broker that is down is waited for by starting again, as a service manager does.
        self.ready, self.said = threading.Event(), list[str]()
        self._reader = threading.Thread(target=self._read, args=(self.process,), daemon=True)
        self._reader.start()
        if wait_s:
            assert self.ready.wait(wait_s), "the collector did not come up"

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.said.append(line)
            if line.startswith("collecting"):
                self.ready.set()

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self._reap()

    def stop(self) -> str:
        """End it in order; what it said last."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        self._reap()
        return self.said[-1] if self.said else ""

    def _reap(self) -> None:
        assert self.process is not None
        self.process.wait(60)
        self._reader.join(5)
        if self.process.stdout is not None:
            self.process.stdout.close()

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def rss_bytes(self) -> int:
        """Most memory it held so far."""
        if self.alive and self.process is not None:
            for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
                if line.startswith("VmHWM"):
                    self.peak_rss_bytes = max(self.peak_rss_bytes, int(line.split()[1]) * 1024)
        return self.peak_rss_bytes


@contextmanager
def collecting(broker: str, store: str, **more: Any) -> Iterator[CollectorProcess]:
    """A collector in a process of its own."""
    collector = CollectorProcess(broker, store, **more)
    collector.start()
    try:
        yield collector
    finally:
        if collector.alive:
            collector.stop()


class Fleet:
    """Simulated boards on a thread of their own, so that a test can break things meanwhile."""

    def __init__(
        self,
        address: BrokerAddress,
        boards: int,
        rate_hz: float,
        options: SwarmOptions,
        habits: Habits = CALM,
        updating: Updating | None = None,
    ) -> None:
        habits = replace(habits, rate_hz=rate_hz)
        self.boards = [SimulatedBoard(f"board-{n:05d}", habits, 1, updating=updating) for n in range(boards)]
        self._swarm: Swarm | None = None
        self._address, self._options = address, options
        self.result = SwarmResult(boards)
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="fleet", daemon=True)

    def __enter__(self) -> Fleet:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(self._options.seconds + self._options.wait_s + 120)

    def join(self) -> SwarmResult:
        """Wait for the end."""
        self.__exit__()
        if self.failure is not None:
            raise self.failure
        return self.result

    @property
    def made(self) -> int:
        return sum(sum(board.made.values()) for board in self.boards)

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            self.result = asyncio.run(self._live())
        except BaseException as error:
            self.failure = error

    async def _live(self) -> SwarmResult:
        self._swarm = Swarm(self._address, self.boards, self._options)
        return await self._swarm.run()

    def stop(self) -> None:
        """End before its time."""
        if self._swarm is not None:
            self._swarm.stop()


@dataclass(frozen=True)
class Account:
    """What boards made against what the store holds.

    Attributes:
        lost: Made and not stored.
        doubled: Rows beyond one a message, in whatever table.
        invented: Stored and never made.
    """

    made: int
    rows: int
    lost: int
    doubled: int
    invented: int

    @property
    def exact(self) -> bool:
        return not (self.lost or self.doubled or self.invented)


def settle(boards: list[SimulatedBoard], store_url: str) -> Account:
    """Compare message by message."""
    expected = {
        (board.site, board.device, boot, seq)
        for board in boards
        for boot, count in board.made.items()
        for seq in range(count)
    }
    found: dict[tuple[str, str, str, int], int] = {}
    join = "join boards on boards.id = m.board join boots on boots.id = m.boot"
    with Store(store_url) as store, store.reading() as connection:
        for table in ("readings", "events"):
            query = f"select boards.site, boards.device, boots.boot, m.seq from {table} m {join}"
            for row in connection.execute(text(query)):
                key = (row[0], row[1], row[2], row[3])
                found[key] = found.get(key, 0) + 1
    stored = set(found)
    return Account(
        made=len(expected),
        rows=sum(found.values()),
        lost=len(expected - stored),
        doubled=sum(found.values()) - len(found),
        invented=len(stored - expected),
    )


def wait_until(true: Callable[[], bool], timeout_s: float) -> float | None:
    """Seconds until a condition held; None if it did not in time."""
    began = time.monotonic()
    while time.monotonic() - began < timeout_s:
        if true():
            return time.monotonic() - began
        time.sleep(0.05)
    return None
