"""What comes many at a time is what paho would have made of it, however the network cuts it up."""

from __future__ import annotations

import contextlib
import random
import select
import socket
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from edgekit.fleet.buffered_client import Arrived, BufferedClient, _Buffered

PINGRESP = b"\xd0\x00"


def number(value: int) -> bytes:
    """A variable byte integer."""
    out = bytearray()
    while True:
        value, low = divmod(value, 128)
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)


def publish(topic: bytes, payload: bytes, packet: int, properties: bytes = b"") -> bytes:
    """A PUBLISH of MQTT 5; QoS 1 with a packet id, else QoS 0."""
    head = len(topic).to_bytes(2, "big") + topic + (packet.to_bytes(2, "big") if packet else b"")
    body = head + number(len(properties)) + properties + payload
    return bytes([0x32 if packet else 0x30]) + number(len(body)) + body


class Wire:
    """A client on one end of a real socket, as it is once connected; the test is the broker."""

    def __init__(self) -> None:
        self.client = BufferedClient(CallbackAPIVersion.VERSION2, client_id="x", protocol=paho.MQTTv5, manual_ack=True)
        self.broker, ours = socket.socketpair()
        ours.setblocking(False)
        self.client._sock = _Buffered(ours)  # type: ignore[assignment]
        self.found: list[Arrived] = []
        self.alone = 0
        self.client.on_arrived = self.found.extend
        self.client.on_message = self._one

    def _one(self, client: Any, data: Any, message: paho.MQTTMessage) -> None:
        self.alone += 1
        self.found.append(Arrived(message.topic, bytes(message.payload), message.mid if message.qos else 0))

    def read(self) -> MQTTErrorCode:
        """Read as paho's loop does: while there is something to read, or it says that something is left."""
        code = MQTTErrorCode.MQTT_ERR_SUCCESS
        for _ in range(10_000):
            sock = self.client.socket()
            if sock is None or not (sock.pending() or select.select([sock], [], [], 0)[0]):  # type: ignore[union-attr]
                return code
            code = self.client.loop_read()
        raise AssertionError("it spins")

    def close(self) -> None:
        self.broker.close()
        sock = self.client.socket()
        if sock is not None:
            sock.close()


def test_messages_come_whole_and_in_order_however_the_network_cuts_them() -> None:
    draw = random.Random(1)
    for _ in range(60):
        wire, sent, stream = Wire(), [], b""
        for packet in range(1, draw.randint(2, 40)):
            size = draw.choice((0, 1, 90, 127, 128, 900, 16_383, 20_000))
            one = Arrived(f"edgekit/v1/home/b{packet}/telemetry", draw.randbytes(size), draw.choice((0, packet)))
            properties = draw.choice((b"", b"\x01\x01", b"\x26\x00\x01k\x00\x01v" * 20))
            stream += publish(one.topic.encode(), one.payload, one.packet, properties)
            stream += draw.choice((b"", b"", PINGRESP))
            sent.append(one)
        while stream:
            size = draw.choice((1, 2, 3, 50, 5000, 60_000))
            wire.broker.sendall(stream[:size])
            stream = stream[size:]
            assert wire.read() == MQTTErrorCode.MQTT_ERR_SUCCESS
        assert wire.found == sent
        wire.close()


def test_what_is_larger_than_a_megabyte_comes_through_paho() -> None:
    wire = Wire()
    large = Arrived("t", b"x" * 1_500_000, 7)
    small = Arrived("t", b"y", 8)
    stream = publish(b"t", large.payload, 7) + publish(b"t", b"y", 8)
    wire.broker.setblocking(False)
    while stream:
        with contextlib.suppress(BlockingIOError):
            stream = stream[wire.broker.send(stream[:100_000]) :]
        wire.read()
    assert wire.found == [large, small]
    assert wire.alone == 1
    wire.close()


@pytest.mark.parametrize("tail", [b"", b"\x32", publish(b"t", b"abc", 3)[:6]], ids=["between", "head", "middle"])
def test_a_connection_that_ends_is_noticed_at_once(tail: bytes) -> None:
    wire = Wire()
    wire.broker.sendall(publish(b"t", b"whole", 2) + tail)
    wire.read()
    wire.broker.close()
    assert wire.read() == MQTTErrorCode.MQTT_ERR_CONN_LOST
    assert wire.found == [Arrived("t", b"whole", 2)]


def test_nonsense_ends_the_connection_and_a_topic_that_is_no_text_does_not() -> None:
    wire = Wire()
    wire.broker.sendall(publish(b"\xff\xfe", b"abc", 3) + publish(b"t", b"abc", 4))
    wire.read()
    assert wire.found == [Arrived("?", b"abc", 3), Arrived("t", b"abc", 4)]
    wire.broker.sendall(b"\x32\xff\xff\xff\xff\xff\x01")
    assert wire.read() != MQTTErrorCode.MQTT_ERR_SUCCESS
    wire.close()


def test_acknowledgements_leave_in_one_piece() -> None:
    wire = Wire()
    wire.client.acknowledge([1, 300, 65_535])
    wire.client.loop_write()
    assert wire.broker.recv(100) == b"\x40\x02\x00\x01\x40\x02\x01\x2c\x40\x02\xff\xff"
    wire.close()
