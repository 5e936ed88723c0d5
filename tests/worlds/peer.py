"""One MQTT connection that does one thing at a time, in either version: what an attacker would write."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.subscribeoptions import SubscribeOptions

V311, V5 = 4, 5
_WAIT_S = 10.0


class Peer:
    """Driven by its caller: no thread, so that what has happened is known."""

    def __init__(
        self,
        port: int,
        authority: Path,
        user: str | None,
        password: str | None,
        *,
        version: int = V5,
        client_id: str = "",
        will: tuple[str, bytes, bool] | None = None,
        identity: Path | None = None,
    ) -> None:
        self.refusal: str | None = None
        self.messages: list[tuple[str, bytes, bool]] = []
        self.lost = False
        self._answers: dict[int, list[str]] = {}
        self._up = False
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, protocol=version, reconnect_on_failure=False
        )
        self._version = version
        if user is not None:
            self.client.username_pw_set(user, password)
        context = ssl.create_default_context(cafile=str(authority))
        if identity is not None:
            context.load_cert_chain(identity)
        self.client.tls_set_context(context)
        if will:
            self.client.will_set(will[0], will[1], 1, retain=will[2])
        self.client.on_connect = self._on_connect
        self.client.on_disconnect = self._on_disconnect
        self.client.on_message = self._on_message
        self.client.on_publish = lambda c, d, mid, code, p: self._answers.__setitem__(mid, [str(code)])
        self.client.on_subscribe = lambda c, d, mid, codes, p: self._answers.__setitem__(mid, [str(x) for x in codes])
        try:
            self.client.connect("127.0.0.1", port, 60)
            # Otherwise each answer waits 40 ms for an acknowledgement of the other side's kernel.
            sock = self.client.socket()
            if sock is not None:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            self.refusal = str(error)
            return
        self.until(lambda: self._up or self.refusal is not None or self.lost)
        if not self._up and self.refusal is None:
            self.refusal = "closed"

    @property
    def connected(self) -> bool:
        return self._up and not self.lost

    def until(self, true: Callable[[], object], timeout_s: float = _WAIT_S) -> bool:
        """Work until something is so; False if it never was."""
        end = time.monotonic() + timeout_s
        while not true():
            if time.monotonic() > end or self.client.loop(0.05) != paho.MQTT_ERR_SUCCESS:
                # Over MQTT 3.1.1 a broker that refuses may just hang up.
                self.lost = self.lost or self.client.socket() is None
                return bool(true())
        return True

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> str | None:
        """The broker's answer; None if there was none."""
        if not self.connected:
            return None
        info = self.client.publish(topic, payload, 1, retain)
        self.until(lambda: info.mid in self._answers or self.lost)
        return self._answers.get(info.mid, [None])[0]  # type: ignore[list-item]

    def subscribe(self, *topics: str) -> list[str]:
        """One answer a topic."""
        if not self.connected:
            return []
        options = SubscribeOptions(qos=1, retainAsPublished=True)
        wanted: Any = [(t, options) for t in topics] if self._version == V5 else [(t, 1) for t in topics]
        _, mid = self.client.subscribe(wanted)
        self.until(lambda: mid in self._answers or self.lost)
        return self._answers.get(mid or 0, [])

    def barrier(self) -> None:
        """What the broker had for this connection before now has arrived: its answers keep their order."""
        self.subscribe("edgekit/barrier")

    def payloads(self) -> set[bytes]:
        return {payload for _, payload, _ in self.messages}

    def vanish(self) -> None:
        """Gone without a word: the broker publishes the last will."""
        sock = self.client.socket()
        if sock is not None:
            sock.close()

    def close(self) -> None:
        self.client.disconnect()
        for _ in range(5):
            if self.client.loop(0.01) != paho.MQTT_ERR_SUCCESS:
                return

    def _on_connect(self, client: Any, data: Any, flags: Any, code: Any, properties: Any) -> None:
        if code.value >= 0x80:
            self.refusal = str(code)
        else:
            self._up = True

    def _on_disconnect(self, client: Any, data: Any, flags: Any, code: Any, properties: Any) -> None:
        self.lost = True

    def _on_message(self, client: Any, data: Any, message: paho.MQTTMessage) -> None:
        self.messages.append((message.topic, bytes(message.payload), message.retain))
