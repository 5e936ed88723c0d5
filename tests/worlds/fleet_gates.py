"""The gates on lost and doubled messages, with their sizes as arguments: short in tests, whole in tools/gates/."""

from __future__ import annotations

import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from sqlalchemy import event, text

from edgekit.fleet.batch import Batch
from edgekit.fleet.database import sqlite_url
from edgekit.fleet.store import Store, Written
from tests.worlds.fleets import HASTY, Account, CollectorProcess, Fleet, collecting, settle, wait_until
from tests.worlds.services import (
    MOSQUITTO,
    POSTGRESQL,
    PostgreSQL,
    find_mosquitto,
    find_postgresql,
    mosquitto,
)


@dataclass
class Outcome:
    """What a gate came to.

    Attributes:
        account: Made against stored.
        detail: Figures by name; units are in the names.
        limits: Name of a figure, and what it may be at most.
    """

    account: Account
    detail: dict[str, Any] = field(default_factory=dict)
    limits: dict[str, float] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return self.account.exact and all(self.detail[name] <= limit for name, limit in self.limits.items())

    def to_json(self, gate: str) -> dict[str, Any]:
        """For the dispatcher of gates."""
        a = self.account
        return {
            "gate": gate,
            "passed": self.passed,
            "figure": f"{a.made} made, {a.lost} lost, {a.doubled} doubled",
            "detail": {**asdict(a), **self.detail, "limits": self.limits},
        }


@contextmanager
def a_store() -> Iterator[str]:
    """The URL of an empty SQLite store."""
    with tempfile.TemporaryDirectory(prefix="edgekit-gate-") as folder:
        yield sqlite_url(Path(folder) / "fleet.db")


def broker_away(boards: int, rate_hz: float, before_s: float, away_s: float, after_s: float) -> Outcome:
    """B1: the broker is gone for a while; boards hold, then drain, and news does not wait behind the backlog."""
    options = replace(HASTY, seconds=before_s + away_s + after_s, wait_s=180, backlog_hz=10)
    with mosquitto() as broker, a_store() as url, collecting(broker.url, url):
        with Fleet(broker.address, boards, rate_hz, options) as fleet:
            time.sleep(before_s)
            broker.kill()
            time.sleep(away_s)
            back_ms = time.time() * 1000
            broker.start()
            at_return = fleet.made
            drained_s = wait_until(lambda: sum(b.acked for b in fleet.boards) >= at_return, 170)
            fleet.join()
        account = settle(fleet.boards, url)
        with Store(url) as store, store.reading() as connection:
            # News: made once its board was certainly back: 0.5 s of jitter, 1.5 s between tries, 2 s for the collector.
            query = text("select max(received - at) from readings where at > :since")
            news_ms = connection.execute(query, {"since": int(back_ms + 4000)}).scalar() or 0
    detail = {
        "drained_s": round(drained_s, 1) if drained_s is not None else 1e9,
        "news_delay_s": round(news_ms / 1000, 2),
        "backlog": int(boards * rate_hz * away_s),
    }
    return Outcome(account, detail, {"drained_s": 120, "news_delay_s": 5})


def broker_killed(times: int, seconds: float, boards: int, rate_hz: float) -> Outcome:
    """B2: stock mosquitto is killed again and again; what it had acknowledged and lost is still with the boards."""
    draw = random.Random(2)
    options = replace(HASTY, seconds=seconds)
    with mosquitto() as broker, a_store() as url, collecting(broker.url, url):
        with Fleet(broker.address, boards, rate_hz, options) as fleet:
            _each(times, seconds, draw, lambda: (broker.kill(), time.sleep(0.2), broker.start()))
            result = fleet.join()
        account = settle(fleet.boards, url)
    return Outcome(account, {"killed": times, "resent": result.resent, "connections": result.connections})


def collector_killed(times: int, seconds: float, boards: int, rate_hz: float, store_url: str | None = None) -> Outcome:
    """B3: the collector is killed again and again, in a batch, before and after its commit."""
    draw = random.Random(3)
    options = replace(HASTY, seconds=seconds)
    recoveries: list[float] = []
    with mosquitto() as broker, a_store() as own:
        url = store_url or own
        collector = CollectorProcess(broker.url, url)
        collector.start()

        def kill() -> None:
            collector.kill()
            began = time.monotonic()
            collector.start()
            recoveries.append(time.monotonic() - began)

        with Fleet(broker.address, boards, rate_hz, options) as fleet:
            _each(times, seconds, draw, kill)
            result = fleet.join()
        collector.stop()
        account = settle(fleet.boards, url)
    detail = {"killed": times, "resent": result.resent, "recovery_s": round(max(recoveries), 1)}
    return Outcome(account, detail, {"recovery_s": 10})


def database_stopped(server: PostgreSQL, times: int, seconds: float, boards: int, rate_hz: float) -> Outcome:
    """B3: PostgreSQL is stopped at once, as by a crash, with two collectors writing into it."""
    import signal

    draw = random.Random(4)
    url = server.fresh("gate_b3")
    options = replace(HASTY, seconds=seconds)
    recoveries: list[float] = []
    with mosquitto() as broker, collecting(broker.url, url) as one, collecting(broker.url, url, name="two"):

        def crash() -> None:
            server.stop(signal.SIGQUIT)
            time.sleep(0.3)
            server.start()
            began = time.monotonic()
            acked = sum(board.acked for board in fleet.boards)
            wait_until(lambda: sum(board.acked for board in fleet.boards) > acked, 30)
            recoveries.append(time.monotonic() - began)

        with Fleet(broker.address, boards, rate_hz, options) as fleet:
            _each(times, seconds, draw, crash)
            result = fleet.join()
        assert one.alive
        account = settle(fleet.boards, url)
    detail = {"stopped": times, "resent": result.resent, "recovery_s": round(max(recoveries), 1)}
    return Outcome(account, detail, {"recovery_s": 10})


class FullDisk(Store):
    """A database whose disk is full for a while. SQLite says so itself: its file may not grow."""

    def limit(self, pages: int | None) -> None:
        """Let the file have so many pages more than it has; None for no limit."""
        self._pages = pages

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._pages: int | None = None
        self.refused = 0

        @event.listens_for(self._engine, "begin")
        def _set(connection: Any) -> None:
            most = 1_073_741_823
            if self._pages is not None:
                most = connection.exec_driver_sql("PRAGMA page_count").scalar() + self._pages
            connection.exec_driver_sql(f"PRAGMA max_page_count = {most}")

    def write(self, batch: Batch) -> Written:
        try:
            return super().write(batch)
        except Exception:
            self.refused += 1
            raise


def disk_full(times: int, seconds: float, boards: int, rate_hz: float) -> Outcome:
    """B3: the disk of the database is full for a while, several times."""
    from edgekit.fleet.collector import Collector, CollectorOptions

    options = replace(HASTY, seconds=seconds)
    quick = CollectorOptions(batch_s=0.2, ack_s=1.0, reconnect_s=(1, 2))
    recoveries: list[float] = []
    with mosquitto() as broker, a_store() as url, FullDisk(url) as store:
        with Collector(broker.address, store, quick), Fleet(broker.address, boards, rate_hz, options) as fleet:

            def fill() -> None:
                before = store.refused
                store.limit(0)
                assert wait_until(lambda: store.refused > before, 30) is not None
                store.limit(None)
                acked = sum(board.acked for board in fleet.boards)
                recoveries.append(wait_until(lambda: sum(b.acked for b in fleet.boards) > acked, 30) or 0.0)

            _each(times, seconds, random.Random(5), fill)
            result = fleet.join()
        account = settle(fleet.boards, url)
        refused = store.refused
    detail = {
        "full": times,
        "refused_commits": refused,
        "resent": result.resent,
        "recovery_s": round(max(recoveries), 1),
    }
    return Outcome(account, detail, {"recovery_s": 10})


class SlowStore(Store):
    """A database that takes ten times as long while `slow` is set."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.slow = threading.Event()
        self.commits = 0

    def write(self, batch: Batch) -> Written:
        began = time.monotonic()
        written = super().write(batch)
        if self.slow.is_set():
            # At least 0.2 s: with a fast disk ten times nothing would still be nothing.
            time.sleep(max(0.2, 9 * (time.monotonic() - began)))
        self.commits += 1
        return written


def slow_database(slow_s: float, after_s: float, boards: int, rate_hz: float) -> Outcome:
    """B12: the database is slowed down; what is not stored waits at broker and boards, and memory stays bounded."""
    from edgekit.fleet.collector import Collector, CollectorOptions
    from edgekit.fleet.link import RECEIVE_MAXIMUM

    options = replace(HASTY, seconds=1 + slow_s + after_s, wait_s=240)
    most, most_bytes = 0, 0
    with mosquitto() as broker, a_store() as url, SlowStore(url) as store:
        quick = CollectorOptions(batch_s=0.2, ack_s=1.0, batch_messages=100)
        with Collector(broker.address, store, quick) as collector:
            with Fleet(broker.address, boards, rate_hz, options) as fleet:
                time.sleep(1)
                store.slow.set()
                until = time.monotonic() + slow_s
                while time.monotonic() < until:
                    waiting = collector._inbox.waiting()
                    most = max(most, len(waiting))
                    most_bytes = max(most_bytes, sum(len(message.payload) for message in waiting))
                    time.sleep(0.1)
                store.slow.clear()
                result = fleet.join()
        account = settle(fleet.boards, url)
    detail = {
        "queue_messages": most,
        "queue_bytes": most_bytes,
        "commits": store.commits,
        "resent": result.resent,
        "waited_s": result.waited_s,
    }
    return Outcome(account, detail, {"queue_messages": RECEIVE_MAXIMUM, "queue_bytes": 64e6})


def _each(times: int, seconds: float, draw: random.Random, strike: Callable[[], object]) -> None:
    """Strike at random moments, spread over the time."""
    began = time.monotonic()
    for number in range(times):
        at = began + seconds * (number + draw.uniform(0.2, 0.9)) / times
        time.sleep(max(0.0, at - time.monotonic()))
        strike()


def missing(*services: str) -> str | None:
    """What a gate needs and this machine lacks, with the line that installs it."""
    found = {"mosquitto": (find_mosquitto(), MOSQUITTO), "postgresql": (find_postgresql(), POSTGRESQL)}
    return next((f"needs {name}: {found[name][1]}" for name in services if found[name][0] is None), None)


def skipped(gate: str, reason: str) -> dict[str, Any]:
    """A gate that could not run is not passed."""
    return {"gate": gate, "passed": None, "figure": "not run", "detail": {"reason": reason}}


def together(gate: str, parts: dict[str, Outcome]) -> dict[str, Any]:
    """One gate of several outcomes."""
    total = [sum(getattr(part.account, name) for part in parts.values()) for name in ("made", "lost", "doubled")]
    return {
        "gate": gate,
        "passed": all(part.passed for part in parts.values()),
        "figure": f"{total[0]} made, {total[1]} lost, {total[2]} doubled",
        "detail": {name: part.to_json(gate)["detail"] for name, part in parts.items()},
    }


def pressure() -> float | None:
    """Share of the last minute, in percent, in which something waited for a processor; None where it is unknown."""
    try:
        return float(Path("/proc/pressure/cpu").read_text().split("avg60=")[1].split()[0])
    except (OSError, IndexError):
        return None


def shuffled(examples: int) -> dict[str, Any]:
    """B8, on SQLite in memory."""
    from tests.suites.store_promises import StorePromises

    promises = StorePromises()
    promises.examples = examples
    promises.test_roll_ups_equal_recomputation_from_raw_whatever_arrives_when("sqlite://")
    figure = f"{examples} deliveries, roll-ups equal"
    return {"gate": "B8", "passed": True, "figure": figure, "detail": {"examples": examples}}


def mutated(count: int) -> dict[str, Any]:
    """D2: what boards could send and must not be believed."""
    from tests.worlds.mutations import mutate_payloads

    found = mutate_payloads(count)
    bad = found["unnamed_errors"] + found["over_100_ms"] + found["rows_from_invalid"]
    figure = f"{count} payloads, {found['valid']} valid, {bad} failures, slowest {found['slowest_ms']} ms"
    return {"gate": "D2", "passed": bad == 0, "figure": figure, "detail": found}
