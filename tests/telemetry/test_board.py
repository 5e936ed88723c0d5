"""A whole board on a whole host: the run, its link, a real broker, a real collector and a real database."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit.fleet.broker import EmbeddedBroker
from edgekit.fleet.collector import Collector, CollectorOptions
from edgekit.fleet.database import sqlite_url
from edgekit.fleet.store import Store
from edgekit_device.contract.telemetry import Status
from edgekit_device.contract.topics import TELEMETRY
from edgekit_device.publish.messages import Limits
from edgekit_device.publish.mqtt import Mqtt
from edgekit_device.publish.options import MqttOptions
from tests.worlds.boards import eventually
from tests.worlds.readings import BOOT, reading

NEXT = "7a" * 16
QUICK = CollectorOptions(batch_s=0.05, ack_s=0.2)


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as running:
        yield running


def board(broker: EmbeddedBroker, folder: Path, boot: str = BOOT) -> Mqtt:
    limits = Limits(spool_after_s=0.3, settle_s=0.5)
    options = MqttOptions(outbox=folder, limits=limits, clock=lambda: "synced", delay_s=lambda attempt: 0.1)
    one = Mqtt(broker.address, "home", "porch", Status("offline", boot, "toy-1.0.0", None).to_bytes(), options)
    one.start(Status("online", boot, "toy-1.0.0", "xnnpack").to_bytes())
    return one


def stored(file: Path) -> list[tuple[str, int]]:
    connection = sqlite3.connect(file)
    try:
        query = "select b.boot, r.seq from readings r join boots b on b.id = r.boot order by b.first_seen, r.seq"
        return [(boot, seq) for boot, seq in connection.execute(query)]
    finally:
        connection.close()


def test_whatever_goes_away_every_reading_is_stored_once(broker: EmbeddedBroker, tmp_path: Path) -> None:
    """No broker, no collector, a broker that forgets, a board that starts again: one row each in the end."""
    file, port = tmp_path / "fleet.db", broker.address.port
    stopped = Status("stopped", BOOT, "toy-1.0.0", None).to_bytes()
    first = board(broker, tmp_path / "state")
    for seq in range(40):  # No collector yet: the broker takes these, and nobody keeps them.
        first.send(TELEMETRY, reading(seq).to_bytes())
    assert eventually(lambda: first.state().sent >= 40)
    broker.stop()
    assert eventually(lambda: not first.state().connected)
    for seq in range(40, 80):  # No broker.
        first.send(TELEMETRY, reading(seq).to_bytes())
    time.sleep(1.2)
    first.close(stopped)
    with EmbeddedBroker(port) as again, Store(sqlite_url(file)) as store, Collector(again.address, store, QUICK):
        second = board(again, tmp_path / "state", NEXT)
        for seq in range(10):
            second.send(TELEMETRY, reading(seq, boot=NEXT).to_bytes())
        courier = second._courier
        # What the first broker acknowledged and forgot is found by the rule of holes; the test need not wait for it.
        assert eventually(lambda: {(NEXT, seq) for seq in range(10)} <= set(stored(file)))
        assert eventually(lambda: {(BOOT, seq) for seq in range(40, 80)} <= set(stored(file)))
        assert eventually(lambda: {(BOOT, seq) for seq in range(40)} <= set(stored(file)), 30)
        assert eventually(lambda: not courier._delivery.backlog.batches and not courier._delivery.memory)
        second.close(stopped)
    rows = stored(file)
    assert sorted(rows) == sorted({(BOOT, seq) for seq in range(80)} | {(NEXT, seq) for seq in range(10)})
    assert len(rows) == len(set(rows)) == 90
