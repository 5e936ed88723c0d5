"""A runtime over the air: desired, fetched, built, tried, committed by an acknowledged Reading; a bad one goes back."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edgekit.fleet.broker import EmbeddedBroker
from edgekit.fleet.collector import Collector, CollectorOptions
from edgekit.fleet.database import sqlite_url
from edgekit.fleet.store import Store
from edgekit_device.contract.desired import Desired
from edgekit_device.contract.reported import Reported
from edgekit_device.ota.depot import ROOT_JSON, RUNTIMES
from tests.worlds.repositories import world
from tests.worlds.runtime_board import RuntimeBoard, tried_runtimes

TOPICS = "edgekit/v1/home/porch"


class Ear:
    """Hears what the board reports, says what is desired."""

    def __init__(self, broker: EmbeddedBroker) -> None:
        self.heard: list[Reported] = []
        self._lock = threading.Lock()
        self.client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self.client.on_message = lambda client, data, message: self.heard.append(Reported.from_bytes(message.payload))
        self.client.connect(broker.address.host, broker.address.port)
        self.client.subscribe(f"{TOPICS}/reported", 1)
        self.client.loop_start()

    def desire(self, **wish: object) -> None:
        self.client.publish(f"{TOPICS}/desired", Desired(**wish).to_bytes(), 1, retain=True).wait_for_publish(10)  # type: ignore[arg-type]

    def wait(self, name: str, state: str, limit_s: float = 600.0) -> Reported:
        until = time.monotonic() + limit_s
        while time.monotonic() < until:
            for said in list(self.heard):
                update = said.runtime_update
                if update is not None and (update.bundle, update.state) == (name, state):
                    return said
            time.sleep(0.05)
        raise AssertionError([said.runtime_update for said in self.heard])

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def test_a_runtime_that_is_desired_comes_passes_and_is_reported_and_a_crashing_one_is_rolled_back(
    tmp_path: Path,
) -> None:
    options = CollectorOptions(batch_s=0.05, ack_s=0.2)
    with (
        world(tmp_path / "host") as made,
        EmbeddedBroker() as broker,
        Store(sqlite_url(tmp_path / "s")) as store,
        Collector(broker.address, store, options),
        RuntimeBoard(tmp_path, made.signer) as board,
    ):
        for version, twist in (("0.2.0", None), ("0.3.0", tried_runtimes()["crash at start"])):
            path = board.release(version, twist)
            target = f"{RUNTIMES}/{path.name}"
            beside = path.with_name(f"{path.name}.minisig")
            made.repository.publish({target: path, f"{target}.minisig": beside})
        first = board.root / ROOT_JSON
        first.parent.mkdir(parents=True)
        first.write_bytes(made.repository.root_bytes())
        (board.root / "etc/edgekit/device.toml").write_text(f'updates = "{made.server.url}"\n')
        ear = Ear(broker)
        try:
            board.serve("--broker", broker.address.url, "--site", "home", "--id", "porch")
            board.wait_reading(board.model, 90)
            ear.desire(runtime="runtime-0.2.0")
            assert ear.wait("runtime-0.2.0", "committed").runtime == "runtime-0.2.0"
            board.wait_reading(board.model, 120)
            ear.desire(runtime="runtime-0.3.0")
            back = ear.wait("runtime-0.3.0", "rolled_back")
            assert "started 3 times" in (back.runtime_update.reason or "") and back.runtime == "runtime-0.2.0"  # type: ignore[union-attr]
            assert "started 3 times" in back.refused["runtime"]
            board.wait_reading(board.model, 90)
        finally:
            board.end()
            ear.close()
