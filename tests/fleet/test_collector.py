"""From a real broker into a real database: acknowledged means stored."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgekit.errors import StoreRowError
from edgekit.fleet.batch import Batch, BoardKey
from edgekit.fleet.broker import EmbeddedBroker
from edgekit.fleet.collector import Collector, CollectorOptions
from edgekit.fleet.database import sqlite_url
from edgekit.fleet.link import RECEIVE_MAXIMUM
from edgekit.fleet.snapshot import BoardSnapshot
from edgekit.fleet.store import Store, Written
from edgekit_device.contract.errors import BrokerUnreachableError
from edgekit_device.contract.telemetry import Reading, Result
from edgekit_device.contract.topics import EVENT, RESULT, STATUS
from edgekit_device.publish.broker_url import BrokerAddress
from tests.worlds.boards import HonestBoard, eventually
from tests.worlds.readings import BOOT, event, reading, status

QUICK = CollectorOptions(batch_s=0.05, ack_s=0.2)
PORCH = BoardKey("home", "porch")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "fleet.db"


def sequence(file: Path) -> list[int]:
    connection = sqlite3.connect(file)
    try:
        return [seq for (seq,) in connection.execute("select seq from readings order by seq")]
    finally:
        connection.close()


def board_of(collector: Collector, device: str = "porch") -> BoardSnapshot:
    return next(board for board in collector.latest().boards if board.device == device)


def test_what_is_sent_is_stored_once_and_acknowledged(broker: EmbeddedBroker, file: Path) -> None:
    with Store(sqlite_url(file)) as store, Collector(broker.address, store, QUICK) as collector:
        with HonestBoard(broker.address) as board:
            for seq in range(50):
                board.make(seq)
                if seq % 3 == 0:
                    board.make(seq)
            board.publish(event(50).to_bytes(), EVENT)
            assert eventually(lambda: not board.held and board.seen.covers(BOOT, 50))
            assert board.seen.stored == {BOOT: ((0, 50),)}
        assert sequence(file) == list(range(50))
        latest = collector.latest()
        assert (latest.received, latest.stored, latest.duplicates, latest.rejected) == (68, 51, 17, 0)
        assert latest.problem is None


def test_an_ack_comes_after_twenty_messages_or_when_its_time_is_up(broker: EmbeddedBroker, file: Path) -> None:
    patient = CollectorOptions(batch_s=0.02, ack_messages=20, ack_s=1000)
    with Store(sqlite_url(file)) as store, HonestBoard(broker.address) as board:
        with Collector(broker.address, store, patient) as collector:
            for seq in range(19):
                board.make(seq)
            assert eventually(lambda: collector.latest().stored == 19)
            time.sleep(0.3)
            assert board.acks == 0
            board.make(19)
            assert eventually(lambda: not board.held)
            board.make(20)
            assert eventually(lambda: collector.latest().stored == 21)
        # A collector that leaves says what it stored.
        assert eventually(lambda: not board.held)


def test_a_board_that_comes_later_finds_its_ack_retained(broker: EmbeddedBroker, file: Path) -> None:
    with Store(sqlite_url(file)) as store, Collector(broker.address, store, QUICK):
        with HonestBoard(broker.address) as board:
            board.make(0)
            assert eventually(lambda: not board.held)
        with HonestBoard(broker.address) as again:
            assert eventually(lambda: again.seen.covers(BOOT, 0))


def test_messages_sent_while_the_collector_is_away_wait_at_the_broker(broker: EmbeddedBroker, file: Path) -> None:
    with Store(sqlite_url(file)) as store, HonestBoard(broker.address) as board:
        with Collector(broker.address, store, QUICK):
            board.make(0)
            assert eventually(lambda: not board.held)
        for seq in range(1, 10):
            board.publish(reading(seq).to_bytes())
        with Collector(broker.address, store, QUICK) as collector:
            assert eventually(lambda: collector.latest().stored == 10)


def test_a_killed_collector_loses_nothing_that_was_acknowledged(broker: EmbeddedBroker, file: Path) -> None:
    command = [sys.executable, "-m", "tests.worlds.collector_process", broker.url, sqlite_url(file)]
    with HonestBoard(broker.address) as board:
        made = 0
        for kill in range(5):
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
                # Let it get to different places: the kill falls into a batch, between commit and ack, after it.
                until = time.monotonic() + 0.1 + 0.06 * kill
                while time.monotonic() < until:
                    board.make(made)
                    made += 1
                    time.sleep(0.002)
                process.kill()
            promised = {seq for seq in range(made) if board.seen.covers(BOOT, seq)}
            assert promised <= set(sequence(file))
            board.send_again()
        with Store(sqlite_url(file)) as store, Collector(broker.address, store, QUICK):
            board.send_again()
            assert eventually(lambda: not board.held)
            assert store.acks([PORCH])[PORCH].stored == {BOOT: ((0, made - 1),)}
    assert sequence(file) == list(range(made))
    assert made > 100


def test_forged_and_broken_payloads_are_counted_and_the_rest_is_stored(broker: EmbeddedBroker, file: Path) -> None:
    with Store(sqlite_url(file)) as store, Collector(broker.address, store, QUICK) as collector:
        with HonestBoard(broker.address) as board:
            board.make(0)
            board.publish(b"\xff not json")
            board.publish(reading(1, device="garage").to_bytes())
            board.publish(b'{"schema":7}', STATUS)
            board.publish(b"x" * 70_000)
            board.make(2)
            assert eventually(lambda: not board.held)
        assert eventually(lambda: collector.latest().rejected == 4)
        assert board_of(collector).rejected >= 3  # The first may come in before the board is known.
        summary = store.summary()
        assert (summary.boards, summary.stored, summary.rejected) == (1, 2, 4)
    assert sequence(file) == [0, 2]


def test_a_slow_database_holds_messages_back_and_loses_none(broker: EmbeddedBroker, file: Path) -> None:
    with Store(sqlite_url(file)) as store, Collector(broker.address, store, QUICK) as collector:
        with HonestBoard(broker.address) as board:
            board.make(0)
            assert eventually(lambda: not board.held)
            other = sqlite3.connect(file, isolation_level=None)
            other.execute("begin immediate")
            for seq in range(1, 30):
                board.make(seq)
            assert eventually(lambda: "locked" in (collector.latest().problem or ""))
            assert len(board.held) == 29
            other.execute("rollback")
            other.close()
            assert eventually(lambda: not board.held)
            assert collector.latest().problem is None
    assert sequence(file) == list(range(30))


def test_best_effort_messages_do_not_fill_memory_while_the_database_is_away(broker: EmbeddedBroker, file: Path) -> None:
    with Store(sqlite_url(file)) as store, Collector(broker.address, store, QUICK) as collector:
        with HonestBoard(broker.address) as board:
            board.make(0)
            assert eventually(lambda: not board.held)
            other = sqlite3.connect(file, isolation_level=None)
            other.execute("begin immediate")
            for _ in range(4):
                for _ in range(700):
                    board.publish(Result("fox", 0.7, "accepted").to_bytes(), RESULT)
                time.sleep(0.3)
            assert len(collector._inbox) <= RECEIVE_MAXIMUM
            other.execute("rollback")
            other.close()
            board.make(1)
            board.send_again()
            assert eventually(lambda: not board.held or board.send_again())
    assert sequence(file) == [0, 1]


class PickyStore(Store):
    """A database whose columns cannot hold one of the labels."""

    def write(self, batch: Batch) -> Written:
        if any(isinstance(item.document, Reading) and item.document.label == "poison" for item in batch.received):
            raise StoreRowError("this label does not fit")
        return super().write(batch)


def test_one_message_the_database_cannot_hold_does_not_hold_up_the_others(broker: EmbeddedBroker, file: Path) -> None:
    slow = CollectorOptions(batch_s=0.5, ack_s=0.2)
    with PickyStore(sqlite_url(file)) as store, Collector(broker.address, store, slow) as collector:
        with HonestBoard(broker.address) as board:
            board.make(0)
            board.publish(reading(1, label="poison").to_bytes())
            board.make(2)
            assert eventually(lambda: not board.held)
            assert not board.seen.covers(BOOT, 1)
        assert collector.latest().rejected == 1
    assert sequence(file) == [0, 2]


def test_the_latest_view_shows_each_board(broker: EmbeddedBroker, file: Path) -> None:
    with HonestBoard(broker.address) as porch, HonestBoard(broker.address, "garage") as garage:
        porch.publish(status().to_bytes(), STATUS)
        with Store(sqlite_url(file)) as store, Collector(broker.address, store, QUICK) as collector:
            porch.make(5)
            garage.make(1)
            assert eventually(lambda: collector.latest().stored == 2)
            assert eventually(lambda: board_of(collector).state == "online")
            seen = board_of(collector)
            assert (seen.fps, seen.p50_ms, seen.p95_ms, seen.stored) == (29.8, 12.5, 14.6, 1)
            assert (seen.label, seen.delegate, seen.release) == ("tabby", "xnnpack", "toy-1.0.0")
            porch.publish(Result("fox", 0.7, "accepted").to_bytes(), RESULT)
            assert eventually(lambda: board_of(collector).label == "fox")
            assert [board.device for board in collector.latest().boards] == ["garage", "porch"]


def test_no_broker_is_a_named_error(file: Path) -> None:
    with Store(sqlite_url(file)) as store:
        with pytest.raises(BrokerUnreachableError, match="is the broker up"):
            Collector(BrokerAddress("127.0.0.1", 9, tls=False), store, QUICK).start()
