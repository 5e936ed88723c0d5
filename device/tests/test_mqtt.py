"""The board's link to a real broker: an MQTT 5 broker on loopback, the host's embedded one or mosquitto."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edgekit_device.contract.ack import Ack
from edgekit_device.contract.desired import Desired, Watch
from edgekit_device.contract.telemetry import Event, Reading, Result, Status
from edgekit_device.contract.topics import ACK, DESIRED, EVENT, REPORTED, RESULT, STATUS, TELEMETRY, WATCH, topic
from edgekit_device.publish.broker_url import BrokerAddress
from edgekit_device.publish.home_assistant import discovery, removal
from edgekit_device.publish.messages import Limits
from edgekit_device.publish.mqtt import Mqtt
from edgekit_device.publish.options import MqttOptions
from edgekit_device.publish.outlet import Notice
from edgekit_device.publish.reconnecting import reconnect_delay_s

HERE = Path(__file__).parent
_spec = importlib.util.spec_from_file_location("edgekit_test_readings", HERE / "readings.py")
assert _spec
assert _spec.loader
readings = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(readings)
BOOT = readings.BOOT
ONLINE, STOPPED = (Status(state, BOOT, "lite0-1.0.0", "xnnpack").to_bytes() for state in ("online", "stopped"))
WILL = Status("offline", BOOT, "lite0-1.0.0", None, "connection_lost").to_bytes()
AT_ONCE = {"delay_s": lambda attempt: 0.05}


def eventually(true: Callable[[], object], timeout_s: float = 15.0) -> bool:
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        if true():
            return True
        time.sleep(0.02)
    return bool(true())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Mosquitto:
    """mosquitto with a configuration of its own, on loopback."""

    def __init__(self, folder: Path, port: int, *lines: str) -> None:
        self.address = BrokerAddress("127.0.0.1", port, tls=False)
        self._config = folder / "mosquitto.conf"
        self._config.write_text("\n".join((f"listener {port} 127.0.0.1", *(lines or ("allow_anonymous true",)))))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Mosquitto:
        binary = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        self.process = subprocess.Popen([binary, "-c", str(self._config)], stderr=subprocess.DEVNULL)
        assert eventually(lambda: _listens(self.address))
        return self

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def _listens(address: BrokerAddress) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((address.host, address.port)) == 0


def have_mosquitto() -> bool:
    return bool(shutil.which("mosquitto") or Path("/usr/sbin/mosquitto").exists())


def need_mosquitto() -> None:
    if not have_mosquitto():
        message = "needs mosquitto; install it with: apt install mosquitto"
        pytest.fail(message) if os.environ.get("EDGEKIT_REQUIRE") == "all" else pytest.skip(message)


@pytest.fixture(params=["embedded", "mosquitto"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BrokerAddress]:
    if request.param == "embedded":
        if importlib.util.find_spec("edgekit") is None or importlib.util.find_spec("iotcore") is None:
            # On a board there is no host package; mosquitto carries the same tests then.
            need_mosquitto()
            pytest.skip("the host package is not installed here; mosquitto is used instead")
        embedded = importlib.import_module("edgekit.fleet.broker").EmbeddedBroker
        with embedded() as running:
            yield running.address
        return
    need_mosquitto()
    running = Mosquitto(tmp_path, free_port()).start()
    yield running.address
    running.kill()


class Host:
    """The other side: hears everything a board says, and says what the host says."""

    def __init__(self, address: BrokerAddress) -> None:
        self.heard: list[tuple[str, bytes, bool]] = []
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self._client.on_message = lambda c, d, m: self.heard.append((m.topic, bytes(m.payload), m.retain))
        ready = threading.Event()
        self._client.on_subscribe = lambda *words: ready.set()
        self._client.on_connect = lambda c, *words: c.subscribe([("edgekit/v1/#", 1), ("homeassistant/#", 1)])
        self._client.connect(address.host, address.port)
        self._client.loop_start()
        assert ready.wait(5)

    def of(self, kind: Any) -> list[bytes]:
        return [payload for name, payload, _ in self.heard if name == topic("home", "porch", kind)]

    def say(self, kind: Any, payload: bytes) -> None:
        name = kind if isinstance(kind, str) else topic("home", "porch", kind)
        retain = not isinstance(kind, str) and kind.retain
        self._client.publish(name, payload, 1, retain).wait_for_publish(5)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def host(broker: BrokerAddress) -> Iterator[Host]:
    one = Host(broker)
    yield one
    one.close()


@pytest.fixture
def start() -> Iterator[Callable[..., Mqtt]]:
    running: list[Mqtt] = []

    def begin(address: BrokerAddress, *, wait: bool = True, **options: Any) -> Mqtt:
        board = Mqtt(address, "home", "porch", WILL, MqttOptions(**{"clock": lambda: "synced", **AT_ONCE, **options}))
        board.start(ONLINE)
        running.append(board)
        assert not wait or eventually(lambda: board.state().connected)
        return board

    yield begin
    for board in running:
        board.close(STOPPED)


def test_the_first_word_is_online_and_the_last_is_stopped(broker, host: Host, start) -> None:
    board = start(broker)
    board.send(TELEMETRY, readings.reading(0).to_bytes())
    board.send(EVENT, readings.event(1).to_bytes())
    board.send(RESULT, Result("tabby", 0.9, "accepted").to_bytes())
    assert eventually(lambda: host.of(RESULT) and host.of(EVENT) and host.of(TELEMETRY))
    board.close(STOPPED)
    assert eventually(lambda: len(host.of(STATUS)) == 2)
    first, last = (Status.from_bytes(payload) for payload in host.of(STATUS))
    assert (first.state, first.boot, first.session, last.state, last.session) == ("online", BOOT, 1, "stopped", 1)
    assert Reading.from_bytes(host.of(TELEMETRY)[0]) == readings.reading(0)
    assert Event.from_bytes(host.of(EVENT)[0]).seq == 1
    time.sleep(0.2)
    assert [Status.from_bytes(p).state for p in host.of(STATUS)] == ["online", "stopped"]  # The Last Will stays unsaid.


def test_only_an_ack_ends_the_wait_and_a_puback_does_not(broker, host: Host, start, tmp_path: Path) -> None:
    board = start(broker, outbox=tmp_path / "state", limits=Limits(spool_after_s=0.2))
    for seq in range(30):
        board.send(TELEMETRY, readings.reading(seq).to_bytes())
    assert board.flush(5)
    courier = board._courier
    assert eventually(lambda: len(courier._delivery.backlog.batches) >= 1)
    assert Status.from_bytes(host.of(STATUS)[0]).loss_window_s == 0.2
    host.say(ACK, Ack({BOOT: ((0, 29),)}).to_bytes())
    assert eventually(lambda: not courier._delivery.backlog.batches and not courier._delivery.memory)


def test_a_board_asks_for_its_ack_at_every_connection(broker, host: Host, start, tmp_path: Path) -> None:
    """The retained ack covers what an earlier start left, so nothing is sent a second time."""
    first = start(broker, outbox=tmp_path)
    for seq in range(10):
        first.send(TELEMETRY, readings.reading(seq).to_bytes())
    first.flush(5)
    first.close(STOPPED)
    assert eventually(lambda: len(host.of(TELEMETRY)) == 10)
    host.say(ACK, Ack({BOOT: ((0, 9),)}).to_bytes())
    second = start(broker, outbox=tmp_path)
    assert eventually(lambda: second._courier._keeper._known)
    time.sleep(0.5)
    assert len(host.of(TELEMETRY)) == 10
    assert not second._courier._delivery.backlog.batches


def test_what_the_host_wants_reaches_the_board_and_rubbish_becomes_one_event(broker, host: Host, start) -> None:
    board = start(broker)
    heard: list[Any] = []

    def listen() -> list[Any]:
        heard.extend(board.heard())
        return heard

    host.say(DESIRED, Desired(interval_s=5.0, extra={"later": 1}).to_bytes())
    host.say(WATCH, Watch().to_bytes())
    assert eventually(lambda: len(listen()) == 2)
    assert heard == [Desired(interval_s=5.0, extra={"later": 1}), Watch()]
    for _ in range(3):
        host.say(DESIRED, b'{"schema":1,"interval_s":"; reboot"}')
        host.say(ACK, b'{"schema":9}')
    assert eventually(lambda: len(listen()) == 4)
    time.sleep(0.2)
    refusals = listen()[2:]
    assert all(isinstance(notice, Notice) and notice.kind == "message_refused" for notice in refusals)
    assert "interval_s" in refusals[0].reason
    assert "schema 9" in refusals[1].reason


def test_a_late_will_does_not_leave_the_board_offline(broker, host: Host, start) -> None:
    """A will of an earlier connection arrives after the board is back: the retained status is put right."""
    start(broker)
    assert eventually(lambda: host.of(STATUS))
    host.say(STATUS, Status("offline", BOOT, None, None, "connection_lost", session=0).to_bytes())
    assert eventually(lambda: Status.from_bytes(host.of(STATUS)[-1]).state == "online")
    late = Host(broker)
    assert eventually(lambda: late.of(STATUS))
    assert Status.from_bytes(late.of(STATUS)[0]).state == "online"
    late.close()


def test_a_broken_link_is_told_by_the_will_of_that_very_connection(broker, host: Host, start) -> None:
    board = start(broker)
    assert eventually(lambda: host.of(STATUS))
    board._session._client.socket().shutdown(socket.SHUT_RDWR)  # As a cut cable, seen by both ends.
    assert eventually(lambda: len(host.of(STATUS)) >= 3)
    said = [(s.state, s.session) for s in map(Status.from_bytes, host.of(STATUS))]
    assert said[0] == ("online", 1)
    assert ("offline", 1) in said
    assert said[-1] == ("online", 2)


def test_retained_documents_are_said_again_after_a_broker_forgot_them(tmp_path: Path, start) -> None:
    need_mosquitto()
    forgetful = Mosquitto(tmp_path, free_port()).start()
    board = start(forgetful.address)
    board.send(REPORTED, b'{"schema":1}')
    for seq in range(5):
        board.send(TELEMETRY, readings.reading(seq).to_bytes())
    assert board.flush(5)
    forgetful.kill()
    assert eventually(lambda: not board.state().connected)
    board.send(TELEMETRY, readings.reading(5).to_bytes())
    forgetful.start()
    host = Host(forgetful.address)
    # Acknowledged by a broker that is dead now: not stored, so sent again.
    wanted = set(range(6))
    assert eventually(lambda: {Reading.from_bytes(p).seq for p in host.of(TELEMETRY)} == wanted)
    assert eventually(lambda: host.of(REPORTED) == [b'{"schema":1}'] and host.of(STATUS))
    host.close()
    board.close(STOPPED)
    forgetful.kill()


def test_a_refusal_by_the_brokers_rules_is_no_success(tmp_path: Path, start) -> None:
    """Over MQTT 3.1.1 these messages would be acknowledged and gone."""
    need_mosquitto()
    (tmp_path / "acl").write_text("topic read #\ntopic write edgekit/v1/home/porch/status\n")
    strict = Mosquitto(
        tmp_path, free_port(), "allow_anonymous true", "user root", f"acl_file {tmp_path / 'acl'}"
    ).start()
    board = start(strict.address, limits=Limits(hold_s=0.3))
    for seq in range(3):
        board.send(TELEMETRY, readings.reading(seq).to_bytes())
    notices: list[Any] = []
    assert eventually(lambda: notices.extend(board.heard()) or notices)
    assert [n.kind for n in notices] == ["publish_refused"]
    assert "Not authorized" in notices[0].reason
    assert board.state().sent == 0
    assert board.state().waiting == 3
    strict.kill()
    (tmp_path / "acl").write_text("topic readwrite #\n")
    strict.start()
    assert eventually(lambda: board.state().sent >= 3)
    board.close(STOPPED)
    strict.kill()


class Proxy:
    """A network between board and broker that can go silent without a word: a half-open link."""

    def __init__(self, target: BrokerAddress) -> None:
        self.silent = False
        self._writers: list[asyncio.StreamWriter] = []
        self._target, self._loop = target, asyncio.new_event_loop()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(ready,), daemon=True)
        self._thread.start()
        assert ready.wait(5)

    def _serve(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._client, "127.0.0.1", 0))
        self.address = BrokerAddress("127.0.0.1", server.sockets[0].getsockname()[1], tls=False)
        ready.set()
        self._loop.run_forever()
        for writer in self._writers:
            writer.transport.abort()
        server.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.run_until_complete(asyncio.sleep(0.05))
        self._loop.close()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        if self.silent:
            await asyncio.sleep(3600)
        up_reader, up_writer = await asyncio.open_connection(self._target.host, self._target.port)
        self._writers.append(up_writer)
        await asyncio.gather(self._pump(reader, up_writer), self._pump(up_reader, writer), return_exceptions=True)
        writer.close()
        up_writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            while self.silent:
                await asyncio.sleep(0.05)
            writer.write(data)
            await writer.drain()
        writer.close()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)


@pytest.mark.parametrize("broker", ["mosquitto"], indirect=True)
def test_a_half_open_link_is_noticed_and_nothing_is_lost(broker, host: Host, start) -> None:
    """Gate B7 with a short keepalive: noticed within 1.5 keepalives and 5 s, on both sides."""
    keepalive_s = 2
    proxy = Proxy(broker)
    board = start(proxy.address, keepalive_s=keepalive_s)
    board.send(TELEMETRY, readings.reading(0).to_bytes())
    assert eventually(lambda: host.of(TELEMETRY))
    proxy.silent = True
    began = time.monotonic()
    board.send(TELEMETRY, readings.reading(1).to_bytes())
    assert eventually(lambda: not board.state().connected, 1.5 * keepalive_s + 5)
    assert "half open" in (board.state().reason or "")
    assert eventually(lambda: b"offline" in host.of(STATUS)[-1], 1.5 * keepalive_s + 5 - (time.monotonic() - began))
    proxy.silent = False
    assert eventually(lambda: {Reading.from_bytes(p).seq for p in host.of(TELEMETRY)} == {0, 1})
    assert eventually(lambda: b"online" in host.of(STATUS)[-1])
    board.close(STOPPED)
    proxy.close()


def storm(away_s: float, clients: int, delay: Callable[[int], float]) -> tuple[float, float]:
    """(share of clients in the busiest second, seconds until all are back) after a broker was away."""
    times = []
    for _ in range(clients):
        now, attempt = 0.0, 0
        while True:
            now += delay(attempt)
            attempt += 1
            if now >= away_s:
                break
        times.append(now - away_s)
    times.sort()
    busiest = max(sum(t <= other < t + 1.0 for other in times) for t in times)
    return busiest / clients, times[-1]


@pytest.mark.parametrize(("away_s", "share"), [(60.0, 0.10), (2.0, 0.25)])
def test_a_fleet_that_lost_its_broker_does_not_come_back_as_one(away_s: float, share: float) -> None:
    """Gate B6 on paper: 200 clients, worst of 50 fleets; paho's own doubling beside it brings all in one second."""
    rng = random.Random(6)
    fleets = [storm(away_s, 200, lambda n: reconnect_delay_s(n, rng.uniform)) for _ in range(50)]
    assert sum(busy for busy, _ in fleets) / len(fleets) <= share
    assert max(back for _, back in fleets) <= 75.0
    paho_delay = lambda attempt: float(min(120, 2**attempt))  # noqa: E731
    assert storm(away_s, 200, paho_delay)[0] == 1.0


def test_home_assistant_is_told_and_told_again_at_its_birth_and_a_removal_is_empty(broker, host: Host, start) -> None:
    shown = discovery("home", "porch", "0.1.0")
    board = start(broker, home_assistant=shown)
    assert eventually(lambda: any(name == shown.topic for name, _, _ in host.heard))
    host.say("homeassistant/status", b"online")
    assert eventually(lambda: Counter(name for name, _, _ in host.heard)[shown.topic] == 2)
    late = Host(broker)
    assert eventually(lambda: (shown.topic, shown.payload, True) in late.heard)  # Retained.
    board.close(STOPPED)
    start(broker, home_assistant=removal("home", "porch"))
    assert eventually(lambda: (shown.topic, b"", False) in host.heard)
    late.close()


def test_what_home_assistant_gets_names_topics_that_exist_and_fields_that_are_sent() -> None:
    document = json.loads(discovery("home", "porch", "0.1.0").payload)
    assert set(document["components"]) == {"fps", "latency_p50", "label", "temperature", "connectivity", "problem"}
    ids = [part["unique_id"] for part in document["components"].values()]
    assert len(set(ids)) == 6
    assert document["origin"]["name"]
    sent = {TELEMETRY.name: readings.reading(0).to_json(), STATUS.name: json.loads(ONLINE)}
    for part in document["components"].values():
        kind = part["state_topic"].rpartition("/")[2]
        assert part["state_topic"] == topic("home", "porch", TELEMETRY if kind == "telemetry" else STATUS)
        path = part["value_template"].split("value_json.")[1].split()[0].split(".")
        value: Any = sent[kind]
        for key in path:
            value = value[key]
    other = discovery("home-a", "b", "0.1.0").topic, discovery("home", "a-b", "0.1.0").topic
    assert other[0] != other[1]


@pytest.mark.parametrize("broker", ["mosquitto"], indirect=True)
def test_a_run_speaks_faster_while_it_is_watched_and_reports_what_it_follows(
    broker, host: Host, workshop: Any, tmp_path: Path
) -> None:
    bundle = workshop.write(tmp_path / "toy-1.0.0.edgekit")
    words = ["--broker", broker.url, "--site", "home", "--id", "porch", "--interval", "60", "--source", "synthetic"]
    command = [sys.executable, "-m", "edgekit_device", "run", "--bundle", str(bundle), "--pubkey", str(workshop.public)]
    env = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "home")}
    run = subprocess.Popen(
        [*command, *words], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        assert eventually(lambda: any(b"serving" in payload for payload in host.of(REPORTED)), 30)
        assert not host.of(TELEMETRY)
        host.say(WATCH, Watch(seconds=10.0, interval_s=0.5).to_bytes())
        assert eventually(lambda: len(host.of(TELEMETRY)) >= 3, 6)
        host.say(DESIRED, Desired(interval_s=45.0, bundle="toy-9.0.0").to_bytes())
        assert eventually(lambda: b'"toy-9' not in host.of(REPORTED)[-1] and b"45.0" in host.of(REPORTED)[-1])
        assert b"over the air" in host.of(REPORTED)[-1]
    finally:
        run.terminate()
        run.wait(20)
    assert run.returncode == 0
    assert Status.from_bytes(host.of(STATUS)[-1]).state == "stopped"
