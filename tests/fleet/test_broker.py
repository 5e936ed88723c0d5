"""The embedded broker: loopback only, MQTT 5, quiet, and gone when it should be."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edgekit.errors import PortTakenError
from edgekit.fleet.broker import EmbeddedBroker, answers
from edgekit_device.publish.broker_url import BrokerAddress
from tests.worlds.boards import eventually

LISTENING = "0A"


def listeners(pid: int) -> list[tuple[str, int]]:
    """(address in hex, port) of every TCP socket on which a process listens, IPv4 and IPv6."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        target = os.readlink(descriptor)
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENING and fields[9] in inodes:
                address, _, port = fields[1].partition(":")
                found.append((address, int(port, 16)))
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_it_listens_on_loopback_and_nowhere_else(broker: EmbeddedBroker) -> None:
    assert broker.pid is not None
    assert listeners(broker.pid) == [("0100007F", broker.address.port)]


def test_it_answers_mqtt_5_and_is_gone_afterwards(capfd: pytest.CaptureFixture[str]) -> None:
    before = set(Path("/tmp").glob("edgekit-broker-*"))
    with EmbeddedBroker() as broker:
        pid, address = broker.pid, broker.address
        assert pid is not None
        assert answers(address)
        assert broker.url == f"mqtt://127.0.0.1:{address.port}"
    assert not alive(pid)
    assert not answers(address)
    broker.stop()
    assert set(Path("/tmp").glob("edgekit-broker-*")) <= before
    assert capfd.readouterr() == ("", "")


def test_a_taken_port_is_named_with_the_remedy() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortTakenError, match="the port is taken; choose another") as caught:
            EmbeddedBroker(port).start()
        assert caught.value.port == port
    with EmbeddedBroker(port) as broker:
        assert broker.address == BrokerAddress("127.0.0.1", port, tls=False)
        with pytest.raises(PortTakenError):
            EmbeddedBroker(port).start()
        assert answers(broker.address)


def test_it_dies_with_the_program_that_started_it(tmp_path: Path) -> None:
    script = (
        "from edgekit.fleet.broker import EmbeddedBroker\n"
        "broker = EmbeddedBroker(); broker.start(); print(broker.pid, flush=True)\n"
        "import time; time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert alive(pid)
        folder = Path(Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[-2].decode()).parent
        assert folder.is_dir()
        parent.kill()
    assert eventually(lambda: not alive(pid), 5)
    assert not folder.exists()


def test_an_interrupt_from_the_keyboard_is_left_to_the_program(broker: EmbeddedBroker) -> None:
    assert broker.pid is not None
    os.kill(broker.pid, signal.SIGINT)
    assert not eventually(lambda: not alive(broker.pid or 0), 0.5)
    assert answers(broker.address)


def test_a_payload_of_64_kib_arrives_whole_and_is_retained(broker: EmbeddedBroker) -> None:
    payload = bytes(range(256)) * 256
    got: list[bytes] = []
    arrived = threading.Event()

    def on_message(client: Any, data: Any, message: paho.MQTTMessage) -> None:
        got.append(message.payload)
        arrived.set()

    def connect(name: str) -> paho.Client:
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=paho.MQTTv5)
        client.connect(broker.address.host, broker.address.port)
        client.loop_start()
        return client

    sender, receiver = connect("a"), connect("b")
    try:
        info = sender.publish("big", payload, 1, retain=True)
        info.wait_for_publish(5)
        receiver.on_message = on_message
        receiver.subscribe("big", 1)
        assert arrived.wait(5)
        assert got == [payload]
    finally:
        for client in (sender, receiver):
            client.disconnect()
            client.loop_stop()
