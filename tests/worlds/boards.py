"""A board that keeps the promise of the contract: it holds each message until an ack covers it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edgekit_device.contract.ack import Ack
from edgekit_device.contract.topics import ACK, TELEMETRY, Kind, topic
from edgekit_device.publish.broker_url import BrokerAddress
from tests.worlds.readings import BOOT, reading


def eventually(true: Any, timeout_s: float = 20.0) -> bool:
    """Wait until a condition holds."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        if true():
            return True
        time.sleep(0.02)
    return bool(true())


class HonestBoard:
    """Publishes Readings, sends again what is not acknowledged, and remembers every ack it saw."""

    def __init__(self, address: BrokerAddress, device: str = "porch", boot: str = BOOT) -> None:
        self.device, self.boot = device, boot
        self.held: set[int] = set()
        self.seen = Ack({})
        self.acks = 0
        self._lock = threading.Lock()
        self._connected = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=f"home.{device}", protocol=paho.MQTTv5)
        self._client.on_connect = self._on_connect
        self._client.on_message = self._on_message
        self._client.connect(address.host, address.port)
        self._client.loop_start()
        assert self._connected.wait(5)

    def __enter__(self) -> HonestBoard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def make(self, seq: int) -> None:
        """Make one Reading and send it."""
        with self._lock:
            self.held.add(seq)
        self._send(seq)

    def send_again(self) -> None:
        """Send what no ack covers."""
        with self._lock:
            held = sorted(self.held)
        for seq in held:
            self._send(seq)

    def publish(self, payload: bytes, kind: Kind = TELEMETRY, device: str | None = None) -> None:
        """Send any bytes and wait until the broker has them."""
        info = self._client.publish(topic("home", device or self.device, kind), payload, kind.qos, kind.retain)
        info.wait_for_publish(5)

    def listen(self, kind: Kind, hear: Callable[[bytes], None]) -> None:
        """Hear what the host says of one kind."""
        name = topic("home", self.device, kind)
        self._client.message_callback_add(name, lambda client, data, message: hear(bytes(message.payload)))
        self._client.subscribe(name, 1)

    def _send(self, seq: int) -> None:
        payload = reading(seq, self.device, self.boot).to_bytes()
        self._client.publish(topic("home", self.device, TELEMETRY), payload, 1)

    def _on_connect(self, client: paho.Client, data: Any, flags: Any, code: Any, properties: Any) -> None:
        client.subscribe(topic("home", self.device, ACK), 1)
        self._connected.set()

    def _on_message(self, client: paho.Client, data: Any, message: paho.MQTTMessage) -> None:
        ack = Ack.from_bytes(message.payload)
        with self._lock:
            self.acks += 1
            self.seen = self.seen.union(ack)
            self.held = {seq for seq in self.held if not self.seen.covers(self.boot, seq)}
