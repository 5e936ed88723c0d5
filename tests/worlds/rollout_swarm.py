"""A rollout on simulated boards with everything real between: broker, collector, database, engine, connections."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edgekit.fleet.broker import EmbeddedBroker
from edgekit.fleet.collector import Collector, CollectorOptions
from edgekit.fleet.database import sqlite_url
from edgekit.fleet.rollouts import orders, picture
from edgekit.fleet.rollouts.engine import Engine
from edgekit.fleet.rollouts.plan import Plan
from edgekit.fleet.rollouts.state import OPEN, Rollout
from edgekit.fleet.simulated_updates import Updating
from edgekit.fleet.simulation import BUNDLE, CALM, Habits
from edgekit.fleet.store import Store
from edgekit.fleet.swarm import SwarmOptions
from edgekit_device.contract.desired import Desired
from edgekit_device.contract.reported import Reported
from edgekit_device.contract.topics import DESIRED, REPORTED, parse, subscription
from edgekit_device.publish.broker_url import BrokerAddress
from tests.worlds.fleets import Fleet, wait_until

NEW = "lite0-1.1.0"


@dataclass
class Witness:
    """Listens beside everybody: who was told what, and who said when that it rolled back.

    Attributes:
        told: Bundles that each board was told, in order.
        failed_s: When each board first said that it rolled the new release back; monotonic.
        back_s: When each board was told its old release again.
    """

    address: BrokerAddress
    told: dict[str, list[str]] = field(default_factory=dict)
    failed_s: dict[str, float] = field(default_factory=dict)
    back_s: dict[str, float] = field(default_factory=dict)
    running: dict[str, str | None] = field(default_factory=dict)

    @contextmanager
    def listening(self) -> Iterator[Witness]:
        """Inside it, it hears everything that is said."""
        client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        ready = threading.Event()
        client.on_connect = lambda c, *_: [c.subscribe(subscription(kind), 1) for kind in (DESIRED, REPORTED)]
        client.on_subscribe = lambda *_: ready.set()
        client.on_message = self._hear
        client.connect(self.address.host, self.address.port)
        client.loop_start()
        assert ready.wait(30)
        try:
            yield self
        finally:
            client.disconnect()
            client.loop_stop()

    def _hear(self, client: Any, data: Any, message: paho.MQTTMessage) -> None:
        address = parse(message.topic)
        assert address is not None
        board, now_s = address.device, time.monotonic()
        if address.kind is DESIRED:
            bundle = Desired.from_bytes(message.payload).bundle or ""
            words = self.told.setdefault(board, [])
            if not words or words[-1] != bundle:
                words.append(bundle)
            if bundle == BUNDLE:
                self.back_s.setdefault(board, now_s)
            return
        said = Reported.from_bytes(message.payload)
        self.running[board] = said.bundle
        if said.update is not None and said.update.bundle == NEW and said.update.state == "rolled_back":
            self.failed_s.setdefault(board, now_s)


@dataclass
class Scene:
    """Everything that runs, and the rollout on it."""

    store: Store
    fleet: Fleet
    witness: Witness
    engine: Engine
    rollout: Rollout

    def ended(self, timeout_s: float) -> picture.Picture:
        """How it ended."""
        wait_until(lambda: self.shown().rollout.state not in OPEN, timeout_s)
        return self.shown()

    def shown(self) -> picture.Picture:
        found = picture.look(self.store, self.rollout.number, int(time.time() * 1000))
        assert found is not None
        return found


@contextmanager
def rolling_out(
    boards: int, plan: Plan, updating: Updating, *, rate_hz: float = 1.0, every_s: float = 1.0, seconds: float = 600
) -> Iterator[Scene]:
    """A rollout that has just begun on boards that have been heard."""
    options = SwarmOptions(seconds=seconds, wait_s=0, patience_s=30, first_delay_s=0.5, delay_cap_s=2)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgekit-rollout-")))
        address = stack.enter_context(EmbeddedBroker()).address
        store = stack.enter_context(Store(sqlite_url(folder / "fleet.db")))
        collector = stack.enter_context(Collector(address, store, CollectorOptions(ack_s=5.0)))
        witness = stack.enter_context(Witness(address).listening())
        habits = Habits(**{**vars(CALM), "rate_hz": rate_hz})
        fleet = Fleet(address, boards, rate_hz, options, habits, updating)
        stack.enter_context(_living(fleet))
        heard = wait_until(lambda: len(witness.running) == boards and store.summary().rows >= 3 * boards, 60)
        assert heard is not None, f"{len(witness.running)} of {boards} boards were heard"
        engine = Engine(store, collector.desire)
        stop = threading.Event()
        thread = threading.Thread(target=engine.run, args=(stop, every_s), daemon=True)
        begun = orders.start(store, NEW, plan, "gate")
        thread.start()
        try:
            yield Scene(store, fleet, witness, engine, begun)
        finally:
            stop.set()
            thread.join(30)


@contextmanager
def _living(fleet: Fleet) -> Iterator[None]:
    with fleet:
        try:
            yield
        finally:
            fleet.stop()
