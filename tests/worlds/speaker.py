"""A board at the other end of a real broker, of which a test says what it answers when it is asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edgekit.fleet.batch import BoardKey
from edgekit.fleet.broker import EmbeddedBroker
from edgekit_device.contract.asking import Request
from edgekit_device.contract.topics import ANSWER, REQUEST, topic

PORCH = BoardKey("home", "porch")


class Speaker:
    """A board of which a test says what it answers."""

    def __init__(
        self, broker: EmbeddedBroker, answer: Callable[[Request], Iterable[bytes]], board: BoardKey = PORCH
    ) -> None:
        self.heard: list[Request] = []
        self._answer, self._board = answer, board
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        ready = threading.Event()
        self._client.on_connect = lambda c, *_: c.subscribe(topic(*board, REQUEST))
        self._client.on_subscribe = lambda *_: ready.set()
        self._client.on_message = self._on_message
        self._client.connect(broker.address.host, broker.address.port)
        self._client.loop_start()
        assert ready.wait(10)

    def say(self, payload: bytes) -> None:
        self._client.publish(topic(*self._board, ANSWER), payload)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_message(self, client: Any, data: Any, message: Any) -> None:
        self.heard.append(Request.from_bytes(bytes(message.payload)))
        for payload in self._answer(self.heard[-1]):
            self.say(payload)
