"""paho-mqtt for many messages a second.

paho asks the socket for each field of each packet, five system calls a message. Each gives up the interpreter lock,
and beside a busy thread each waits up to five milliseconds to get it back: 200 messages a second and an idle machine.
And it makes six objects, three locks and two log lines of a message where a collector needs topic, payload and number.
"""

from __future__ import annotations

import ssl
import struct
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode

_CHUNK_BYTES = 64 << 10
_MOST_BYTES = 1 << 20
_PUBACK, _PUBACK_PACKET = 0x40, struct.Struct("!BBH")
_PUBLISH, _QOS = 0x30, 0x06
_MOST_HEAD = 5
_NOTHING_YET = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Arrived(NamedTuple):
    """One PUBLISH.

    Attributes:
        packet: Its packet id; 0 for QoS 0.
    """

    topic: str
    payload: bytes
    packet: int


class _Buffered:
    """A socket whose small reads come from one large one; everything else is the socket's own."""

    def __init__(self, inner: Any) -> None:
        self._inner, self._left = inner, b""
        self._at = 0
        self._waits = False

    def recv(self, size: int) -> bytes:
        if self._at >= len(self._left):
            self._left, self._at = self._inner.recv(max(size, _CHUNK_BYTES)), 0
        part = self._left[self._at : self._at + size]
        self._at += len(part)
        return part

    def publishes(self) -> list[Arrived]:
        """Every whole PUBLISH of QoS 0 or 1 up to the next packet of another kind."""
        if self._waits or self._at >= len(self._left):
            try:
                more = self._inner.recv(_CHUNK_BYTES)
            except _NOTHING_YET:
                return []
            except OSError:
                more = b""
            self._waits = False
            if not more:
                return []  # The end: paho asks again, and says so.
            self._left, self._at = self._left[self._at :] + more, 0
        found: list[Arrived] = []
        data, at, end = self._left, self._at, len(self._left)
        while at < end:
            head = data[at]
            if head & 0xF0 != _PUBLISH or head & _QOS > 2:
                break
            length, place = _number(data, at + 1)
            if place < 0 or place + length > end:
                # The rest of it is on its way; what is malformed, or too large to wait for here, is paho's.
                self._waits = length <= _MOST_BYTES if place > 0 else end - at < _MOST_HEAD
                break
            found.append(_read(data, place, place + length, bool(head & _QOS)))
            at = place + length
        self._at = at
        return found

    @property
    def waits(self) -> bool:
        """Whether all there is, is the beginning of a PUBLISH."""
        return self._waits

    def pending(self) -> int:
        """Bytes that select() cannot see."""
        inner = self._inner.pending() if hasattr(self._inner, "pending") else 0
        return int(inner) + (0 if self._waits else len(self._left) - self._at)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class BufferedClient(paho.Client):
    """A paho client for many messages a second.

    Attributes:
        on_arrived: Gets messages many at a time, on the thread that reads; None leaves them to `on_message`.
    """

    on_arrived: Callable[[list[Arrived]], None] | None = None

    def _create_socket(self) -> Any:
        # Not part of paho's promises: test_link holds it against the version that is installed.
        return _Buffered(super()._create_socket())

    def acknowledge(self, packets: Sequence[int]) -> None:
        """Send PUBACKs, all in one piece of network data (MQTT 5, 3.4: two bytes of header, the packet id, success)."""
        if packets:
            self._packet_queue(_PUBACK, b"".join(_PUBACK_PACKET.pack(_PUBACK, 2, packet) for packet in packets), 0, 1)

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:
        """Read every packet that has arrived."""
        while True:
            found: Any = self.socket()
            if self.on_arrived is not None and found is not None and not self._in_packet["command"]:
                arrived = found.publishes()
                if arrived:
                    self._last_bytes_received = time.monotonic()
                    self.on_arrived(arrived)
                if found.waits or (arrived and not found.pending()):
                    return MQTTErrorCode.MQTT_ERR_SUCCESS
                if arrived:
                    continue
            code = super().loop_read(max_packets)
            found = self.socket()
            if code or found is None or not found.pending():
                return code


def _number(data: bytes, at: int) -> tuple[int, int]:
    """A variable byte integer (MQTT 5, 1.5.5) and where it ends; -1 where it is not whole."""
    value, shift = 0, 0
    while at < len(data) and shift < 28:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    return 0, -1


def _read(data: bytes, at: int, end: int, numbered: bool) -> Arrived:
    """A PUBLISH after its fixed header (MQTT 5, 3.3): topic, packet id, properties, payload."""
    size = int.from_bytes(data[at : at + 2], "big")
    at += 2
    try:
        topic = data[at : at + size].decode("utf-8")
    except UnicodeDecodeError:
        topic = "?"
    at += size
    packet = 0
    if numbered:
        packet = int.from_bytes(data[at : at + 2], "big")
        at += 2
    properties, at = _number(data, at)
    if at < 0 or at + properties > end:
        return Arrived("?", b"", packet)
    return Arrived(topic, data[at + properties : end], packet)
