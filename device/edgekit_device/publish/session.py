"""One MQTT 5 connection, from CONNECT to its end, driven by one thread.

A client object a connection: packet ids mean nothing on another one, and paho would send again by itself what the
courier already answers for.
"""

from __future__ import annotations

import selectors
import socket
import ssl
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.subscribeoptions import SubscribeOptions

from edgekit_device.contract.errors import CredentialsError
from edgekit_device.publish.access import present
from edgekit_device.publish.tls import words_of

if TYPE_CHECKING:
    from paho.mqtt.reasoncodes import ReasonCode

    from edgekit_device.publish.access import AccessSource
    from edgekit_device.publish.broker_url import BrokerAddress

KEEPALIVE_S = 20
REFUSED = 0x80
_NOT_AUTHORIZED = (0x86, 0x87)
# paho sends a ping after one keepalive of silence; a quarter more without an answer, and nobody is there.
_SILENCE = 1.25
_CONNACK_S = 10.0
_PAHO_INFLIGHT = 200


class Listener(Protocol):
    """Who is told what happens on a connection; called on the thread that drives it."""

    def on_connected(self, window: int | None) -> None:
        """CONNACK came; `window` is the broker's receive maximum, None where it states none."""
        ...

    def on_message(self, topic: str, payload: bytes) -> None:
        """A message came."""
        ...

    def on_published(self, packet: int, refusal: str | None) -> None:
        """A PUBACK came; `refusal` is its reason where that is 0x80 or more."""
        ...

    def on_subscribed(self, packet: int, refusals: Sequence[str | None]) -> None:
        """A SUBACK came, with one reason or None for each topic that was asked for."""
        ...


class Session:
    """One connection.

    Args:
        address: The broker.
        client_id: Name of this board at the broker.
        will: (topic, payload) that the broker publishes when the connection breaks.
        access: Where user name, password and certificates are read; None is nobody.
        listener: Who is told.
        keepalive_s: Longest silence before a ping.
    """

    def __init__(
        self,
        address: BrokerAddress,
        client_id: str,
        will: tuple[str, bytes],
        access: AccessSource | None,
        listener: Listener,
        keepalive_s: int = KEEPALIVE_S,
    ) -> None:
        self._address, self._listener, self._keepalive_s = address, listener, keepalive_s
        self._access = access
        self._lost: str | None = None
        self._up = False
        self._heard_s = 0.0
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=paho.MQTTv5)
        self._client.max_inflight_messages_set(_PAHO_INFLIGHT)
        self._client.will_set(will[0], will[1], 1, retain=True)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message
        self._client.on_publish = self._on_publish
        self._client.on_subscribe = self._on_subscribe
        self._selector = selectors.DefaultSelector()

    def connect(self, wake: socket.socket) -> str | None:
        """Open the connection; the CONNACK comes in a `turn`.

        Args:
            wake: A socket that becomes readable when somebody wants a turn.

        Returns:
            Why it cannot be opened, with the remedy; None if it can.
        """
        try:
            present(self._client, self._address, self._access.read() if self._access else None)
        except CredentialsError as error:
            return str(error)
        try:
            self._client.connect(self._address.host, self._address.port, self._keepalive_s, clean_start=True)
            self._selector.register(self._socket(), selectors.EVENT_READ)
        except (OSError, ValueError) as error:
            return self._why(error)
        self._selector.register(wake, selectors.EVENT_READ)
        self._heard_s = time.monotonic()
        return None

    def turn(self, timeout_s: float, wake: socket.socket) -> str | None:
        """Wait for the link or for a wake, and handle what came.

        Returns:
            Why the connection is over; None while it is not.
        """
        try:
            self._turn(timeout_s, wake)
        except (OSError, ValueError) as error:
            return self._lost or f"the connection was lost ({self._why(error)})"
        if self._lost is None:
            limit_s = _SILENCE * self._client.keepalive if self._up else _CONNACK_S
            if time.monotonic() - self._heard_s > limit_s:
                self._lost = f"no answer for {limit_s:.0f} s; the link is half open"
        return self._lost

    def publish(self, topic: str, payload: bytes, qos: int, *, retain: bool) -> int | None:
        """Send; gives the packet id, or None if the connection is over."""
        try:
            info = self._client.publish(topic, payload, qos, retain)
        except (OSError, ValueError):
            return None
        return info.mid if info.rc == paho.MQTT_ERR_SUCCESS else None

    def subscribe(self, topics: Sequence[tuple[str, int]]) -> int | None:
        """Ask for topics, each with its QoS; what this connection itself publishes does not come back."""
        wanted = [(name, SubscribeOptions(qos=qos, noLocal=True)) for name, qos in topics]
        code, packet = self._client.subscribe(wanted)
        return packet if code == paho.MQTT_ERR_SUCCESS else None

    def disconnect(self) -> None:
        """Say goodbye, so that the Last Will stays unsaid."""
        self._client.disconnect()
        for _ in range(10):
            if not self._client.want_write():
                break
            self._client.loop_write()

    def close(self) -> None:
        """Give the socket back, without a word to the broker if none was said."""
        self._selector.close()
        sock = self._client.socket()
        if sock is not None:
            sock.close()

    def _why(self, error: Exception) -> str:
        if isinstance(error, ssl.SSLError):
            words = words_of(error, self._address.host)
            if "expired; it is renewed" in words and self._access is not None:
                self._access.refused()
            return words
        return f"{words_of(error, self._address.host)}; is the broker up? check --broker"

    def _socket(self) -> Any:
        sock = self._client.socket()
        if sock is None:
            raise OSError(0, "the connection was lost")
        return sock

    def _turn(self, timeout_s: float, wake: socket.socket) -> None:
        sock = self._socket()
        # Bytes that TLS has decrypted already do not make the socket readable.
        pending = bool(getattr(sock, "pending", int)())
        write = selectors.EVENT_WRITE if self._client.want_write() else 0
        self._selector.modify(sock, selectors.EVENT_READ | write)
        ready = {key.fileobj: events for key, events in self._selector.select(0 if pending else timeout_s)}
        if wake in ready:
            wake.recv(4096)
        if ready.get(sock, 0) & selectors.EVENT_WRITE:
            self._client.loop_write()
        readable = pending or ready.get(sock, 0) & selectors.EVENT_READ
        if readable and self._client.loop_read() == paho.MQTT_ERR_SUCCESS:
            self._heard_s = time.monotonic()
        self._client.loop_misc()
        if self._client.socket() is None and self._lost is None:
            self._lost = "the connection was lost"

    def _on_connect(self, client: Any, data: Any, flags: Any, code: ReasonCode, properties: Any) -> None:
        if code.value >= REFUSED:
            self._lost = f"refused: {code}"
            if code.value in _NOT_AUTHORIZED and self._access is not None:
                self._access.refused()
                self._lost += "; this board's account was changed or revoked on the host"
            return
        self._up = True
        self._listener.on_connected(getattr(properties, "ReceiveMaximum", None))

    def _on_disconnect(self, client: Any, data: Any, flags: Any, code: ReasonCode, properties: Any) -> None:
        self._lost = self._lost or f"disconnected: {code}"

    def _on_message(self, client: Any, data: Any, message: paho.MQTTMessage) -> None:
        try:
            name = message.topic
        except UnicodeDecodeError:
            return
        self._listener.on_message(name, bytes(message.payload))

    def _on_publish(self, client: Any, data: Any, mid: int, code: ReasonCode, properties: Any) -> None:
        self._listener.on_published(mid, str(code) if code.value >= REFUSED else None)

    def _on_subscribe(self, client: Any, data: Any, mid: int, codes: list[ReasonCode], properties: Any) -> None:
        self._listener.on_subscribed(mid, [str(code) if code.value >= REFUSED else None for code in codes])
