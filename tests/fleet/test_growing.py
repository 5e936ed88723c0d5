"""More than one collector, brokers that forget, and brokers that cannot."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edgekit.errors import BrokerAbilityError
from edgekit.fleet.batch import BoardKey
from edgekit.fleet.broker import EmbeddedBroker
from edgekit.fleet.collector import Collector, CollectorOptions
from edgekit.fleet.database import sqlite_url
from edgekit.fleet.proof import prove
from edgekit.fleet.store import Store
from edgekit_device.contract.desired import Desired
from edgekit_device.contract.errors import BrokerUnreachableError
from edgekit_device.contract.reported import Reported
from edgekit_device.contract.topics import ACK, DESIRED, REPORTED, WATCH, topic
from edgekit_device.publish.broker_url import BrokerAddress
from tests.worlds.boards import HonestBoard, eventually
from tests.worlds.fleets import HASTY, Fleet, settle
from tests.worlds.readings import BOOT
from tests.worlds.services import PostgreSQL, mosquitto

QUICK = CollectorOptions(batch_s=0.05, ack_s=0.2, share="edgekit", reconnect_s=(1, 1))
PORCH = BoardKey("home", "porch")


def test_three_collectors_divide_the_messages_and_lose_none(postgres: PostgreSQL, mosquitto_tool: str) -> None:
    url = postgres.fresh("growing")
    with mosquitto() as broker, Store(url) as store:
        named = [replace(QUICK, client_id=f"c{number}") for number in range(3)]
        collectors = [Collector(broker.address, store, options) for options in named]
        for collector in collectors:
            collector.start()
        with Fleet(broker.address, 20, 5.0, replace(HASTY, seconds=4)) as fleet:
            fleet.join()
        took = [collector.latest().received for collector in collectors]
        for collector in collectors:
            collector.stop()
    account = settle(fleet.boards, url)
    assert account.exact, account
    # Each has every status and its share of the rest.
    assert all(count > account.made // 10 for count in took), took
    assert sum(took) < 2 * account.made


def test_a_message_that_one_collector_dies_with_is_stored_by_another(broker: EmbeddedBroker, tmp_path: Path) -> None:
    with Store(sqlite_url(tmp_path / "fleet.db")) as store, HonestBoard(broker.address) as board:
        dying = Collector(broker.address, store, replace(QUICK, client_id="dying"))
        dying._store_batch = lambda messages: None  # type: ignore[method-assign]
        dying.start()
        with Collector(broker.address, store, replace(QUICK, client_id="living")):
            for seq in range(20):
                board.make(seq)
            assert not eventually(lambda: not board.held, 1.0)
            dying._link._client._sock.close()  # type: ignore[union-attr]
            dying.stop()
            until = time.monotonic() + 20
            while board.held and time.monotonic() < until:
                board.send_again()
                time.sleep(0.3)
            assert not board.held
        assert store.acks([PORCH])[PORCH].stored == {BOOT: ((0, 19),)}


def test_two_collectors_of_one_name_are_told_apart_by_an_error(mosquitto_tool: str, tmp_path: Path) -> None:
    with mosquitto() as broker, Store(sqlite_url(tmp_path / "fleet.db")) as store:
        with Collector(broker.address, store, QUICK) as first:
            with Collector(broker.address, store, QUICK):
                assert eventually(lambda: "give each its own --name" in (first.latest().problem or ""))


def retained(address: BrokerAddress, name: str) -> bytes | None:
    """What a broker holds under a topic now."""
    got: list[bytes] = []
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.on_message = lambda c, d, message: got.append(bytes(message.payload))
    client.on_connect = lambda c, *_: c.subscribe(name, 1)
    client.connect(address.host, address.port)
    client.loop_start()
    eventually(lambda: got, 1.0)
    client.disconnect()
    client.loop_stop()
    return got[-1] if got else None


def test_a_broker_that_forgot_is_told_again(mosquitto_tool: str, tmp_path: Path) -> None:
    wanted = Desired(bundle="lite0-1.0.1").to_bytes()
    with mosquitto() as broker, Store(sqlite_url(tmp_path / "fleet.db")) as store:
        store.desire(PORCH, wanted)
        with Collector(broker.address, store, QUICK):
            with HonestBoard(broker.address) as board:
                board.make(0)
                assert eventually(lambda: not board.held)
            assert retained(broker.address, topic("home", "porch", DESIRED)) == wanted
            broker.kill()
            broker.start()
            assert eventually(lambda: retained(broker.address, topic("home", "porch", DESIRED)) == wanted)
            assert eventually(lambda: b"[[0,0]]" in (retained(broker.address, topic("home", "porch", ACK)) or b""))


def test_a_collector_that_starts_says_what_is_stored_and_desired(broker: EmbeddedBroker, tmp_path: Path) -> None:
    with Store(sqlite_url(tmp_path / "fleet.db")) as store:
        with Collector(broker.address, store, QUICK), HonestBoard(broker.address) as board:
            board.make(0)
            assert eventually(lambda: not board.held)
        store.desire(PORCH, Desired(bundle="lite0-1.0.1").to_bytes())
        with EmbeddedBroker() as another, Collector(another.address, store, QUICK):
            assert eventually(lambda: retained(another.address, topic("home", "porch", ACK)) is not None)
            assert retained(another.address, topic("home", "porch", DESIRED)) is not None


def test_what_a_board_reports_is_kept_and_a_watched_board_is_asked(broker: EmbeddedBroker, tmp_path: Path) -> None:
    with Store(sqlite_url(tmp_path / "fleet.db")) as store, HonestBoard(broker.address) as board:
        with Collector(broker.address, store, QUICK) as collector:
            said = Reported(BOOT, "toy-1.0.0", "serving", None, 30.0).to_bytes()
            board.publish(said, REPORTED)
            board.make(0)
            assert eventually(lambda: not board.held)
            with store.reading() as connection:
                rows = connection.exec_driver_sql("select document from reported").fetchall()
            assert [bytes(row[0]) for row in rows] == [said]
            heard: list[str] = []
            board._client.on_message = lambda c, d, message: heard.append(message.topic)
            board._client.subscribe(topic("home", "porch", WATCH), 0)
            assert eventually(lambda: collector.watch(PORCH) and heard)


def test_what_brokers_must_do_is_proved(broker: EmbeddedBroker) -> None:
    prove(broker.address, shared=True)
    with pytest.raises(BrokerUnreachableError):
        prove(BrokerAddress("127.0.0.1", 9, tls=False), shared=True)


def test_a_broker_without_retained_messages_is_named(mosquitto_tool: str) -> None:
    with mosquitto("retain_available false\n") as broker:
        with pytest.raises(BrokerAbilityError, match="retained messages") as caught:
            prove(broker.address, shared=True)
        assert caught.value.ability == "retained messages"


@contextmanager
def promising_broker(version: int) -> Iterator[BrokerAddress]:
    """A broker that accepts everything, repeats what is published to plain subscribers, and delivers on no share.

    Args:
        version: What it answers a CONNECT of MQTT 5: 5 accepts, 4 refuses it.
    """

    def serve(connection: socket.socket) -> None:
        retained: dict[bytes, bytes] = {}
        with connection, connection.makefile("rwb", buffering=0) as stream:
            while head := stream.read(1):
                size, shift = 0, 0
                while True:
                    byte = stream.read(1)[0]
                    size |= (byte & 0x7F) << shift
                    shift += 7
                    if not byte & 0x80:
                        break
                body = stream.read(size) if size else b""
                kind = head[0] >> 4
                if kind == 1:
                    stream.write(b"\x20\x03\x00\x00\x00" if version == 5 else b"\x20\x03\x00\x84\x00")
                elif kind == 3:
                    length = struct.unpack("!H", body[:2])[0]
                    retained[body[2 : 2 + length]] = body[5 + length :]
                    stream.write(b"\x40\x02" + body[2 + length : 4 + length])
                elif kind == 8:
                    length = struct.unpack("!H", body[3:5])[0]
                    name = body[5 : 5 + length]
                    stream.write(b"\x90\x04" + body[:2] + b"\x00\x01")
                    if name in retained:
                        message = struct.pack("!H", len(name)) + name + b"\x00" + retained[name]
                        stream.write(b"\x31" + bytes([len(message)]) + message)

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def accept() -> None:
            try:
                serve(listener.accept()[0])
            except OSError:
                pass  # The test is over.

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield BrokerAddress("127.0.0.1", listener.getsockname()[1], tls=False)
    thread.join(2)


def test_a_broker_that_grants_a_share_and_never_delivers_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.fleet.proof._WAIT_S", 0.5)
    with promising_broker(5) as address:
        with pytest.raises(BrokerAbilityError, match="--alone") as caught:
            prove(address, shared=True)
        assert caught.value.ability == "shared subscriptions"
    with promising_broker(5) as address:
        prove(address, shared=False)


def test_a_broker_of_mqtt_3_is_named() -> None:
    with promising_broker(4) as address:
        with pytest.raises(BrokerAbilityError, match="MQTT 5"):
            prove(address, shared=True)
