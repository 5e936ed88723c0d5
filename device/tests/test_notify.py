"""What systemd hears: READY after the first real inference, pings only while frames flow."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, MutableMapping
from pathlib import Path

import pytest

from edgekit_device.notify import Notifier, Pulse

sys.path.insert(0, str(Path(__file__).parent))
import runs

LIMIT_S = 2.0


class Manager:
    """A service manager's socket, and what came through it with its time."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address[0] == "@" else address)
        self.heard: list[tuple[float, dict[str, str]]] = []
        self.notifiers: list[Notifier] = []

    def notifier(self, watchdog_s: float | None = None) -> Notifier:
        """The service's end."""
        self.notifiers.append(Notifier(self.address, watchdog_s))
        return self.notifiers[-1]

    def notifier_of(self, environ: MutableMapping[str, str]) -> Notifier:
        """The service's end, found in its environment."""
        self.notifiers.append(Notifier.from_environment(environ))
        return self.notifiers[-1]

    def waiting(self) -> bool:
        """Whether something came that was not read; reads all of it."""
        self._socket.setblocking(False)
        found = False
        try:
            while self._socket.recv(4096):
                found = True
        except BlockingIOError:
            return found
        return found

    def listen(self, seconds: float, until: str | None = None) -> list[dict[str, str]]:
        """What comes within some seconds, or until a key comes."""
        end, new = time.monotonic() + seconds, []
        while (left := end - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                text = self._socket.recv(4096).decode()
            except TimeoutError:
                break
            fields = dict(line.split("=", 1) for line in text.splitlines())
            self.heard.append((time.monotonic(), fields))
            new.append(fields)
            if until in fields:
                break
        return new

    def close(self) -> None:
        for notifier in self.notifiers:
            notifier.close()
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    address = str(tmp_path / "notify") if request.param == "path" else f"@edgekit-test-{os.getpid()}-{tmp_path.name}"
    found = Manager(address)
    yield found
    found.close()


def keys(messages: list[dict[str, str]]) -> list[str]:
    return [key for fields in messages for key in fields]


def pulse(manager: Manager, watchdog_s: float | None = 30.0) -> Pulse:
    return Pulse(manager.notifier(watchdog_s))


def test_ready_is_said_once_and_not_before_a_frame_was_served(manager: Manager) -> None:
    beats = pulse(manager)
    for now in range(100):
        beats.beat(float(now), 0.0)
    assert manager.listen(0.1) == []
    beats.beat(100.0, 1.0)
    beats.beat(100.1, 2.0)
    assert manager.listen(0.1) == [{"READY": "1", "WATCHDOG": "1"}]


def test_pings_come_while_the_counter_moves_and_stop_within_half_the_limit(manager: Manager) -> None:
    beats, now, served, pings = pulse(manager, 30.0), 0.0, 1.0, []
    while now < 200.0:
        now += 0.05
        if now < 100.0:
            served += 1
        beats.beat(now, served)
        if manager.waiting():
            pings.append(now)
    assert max(b - a for a, b in itertools.pairwise(pings)) <= 30 / 2
    assert 100 - 30 / 2 < pings[-1] <= 100 + 30 / 2


def test_a_worker_that_starts_again_from_nothing_pings_as_soon_as_it_serves(manager: Manager) -> None:
    beats = pulse(manager, 6.0)
    beats.beat(0.0, 500.0)
    manager.listen(0.05)
    for now in (10.0, 20.0):
        beats.beat(now, 0.0)
    assert manager.listen(0.05) == []
    beats.beat(30.0, 3.0)
    assert manager.listen(0.05) == [{"WATCHDOG": "1"}]


def test_a_source_that_is_slower_than_the_limit_by_nature_is_no_stall(manager: Manager) -> None:
    beats = pulse(manager, 6.0)
    beats.beat(0.0, 1.0, frame_at_s=0.0, pace_s=60.0)
    manager.listen(0.05)
    beats.beat(50.0, 1.0, frame_at_s=0.5, pace_s=60.0)
    assert keys(manager.listen(0.05)) == ["WATCHDOG"]
    beats.beat(200.0, 1.0, frame_at_s=0.5, pace_s=60.0)
    assert manager.listen(0.05) == []


def test_the_environment_is_honoured_and_not_handed_on_to_children(manager: Manager) -> None:
    environ = {
        "NOTIFY_SOCKET": manager.address,
        "WATCHDOG_USEC": "30000000",
        "WATCHDOG_PID": str(os.getpid()),
        "A": "b",
    }
    notifier = manager.notifier_of(environ)
    assert notifier.watchdog_s == 30.0
    assert environ == {"A": "b"}
    assert notifier.send(STATUS="two\nlines READY=1")
    assert manager.listen(0.1) == [{"STATUS": "two lines READY=1"}]


# In a container the tests may be process 1 themselves.
@pytest.mark.parametrize(
    "words", [{"WATCHDOG_PID": str(os.getpid() + 1)}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": "-5"}]
)
def test_a_watchdog_that_is_not_meant_for_this_process_is_left_alone(manager: Manager, words: dict[str, str]) -> None:
    environ = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "30000000", **words}
    beats = Pulse(manager.notifier_of(environ))
    for now in range(200):
        beats.beat(float(now), float(now))
    assert manager.listen(0.1) == [{"READY": "1"}]


def test_without_a_manager_or_with_one_that_is_gone_or_full_nothing_waits_or_fails(tmp_path: Path) -> None:
    assert not Notifier.from_environment({}).send(READY=1)
    assert not Notifier("vsock:2:1234").send(READY=1)
    gone = Notifier(str(tmp_path / "gone"))
    assert not gone.send(READY=1)
    gone.close()
    full = Manager(str(tmp_path / "full"))
    notifier, begun = full.notifier(), time.monotonic()
    assert not all(notifier.send(STATUS="x" * 200) for _ in range(2000))
    assert time.monotonic() - begun < 2
    full.close()


def test_status_lines_are_sent_on_change_only(manager: Manager) -> None:
    beats = pulse(manager)
    for words in ("starting", "starting", "serving"):
        beats.say(words)
    assert manager.listen(0.1) == [{"STATUS": "starting"}, {"STATUS": "serving"}]


def test_a_real_run_is_ready_pings_goes_quiet_when_its_worker_stalls_and_says_goodbye(workshop, tmp_path: Path) -> None:
    manager = Manager(str(tmp_path / "notify"))
    environ = {**os.environ, "NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": str(int(LIMIT_S * 1e6))}
    path = workshop.write(tmp_path / "toy-1.0.0.edgekit")
    process = runs.start(path, workshop.public, "--source", "synthetic", "--interval", "0.5", env=environ)
    try:
        before = manager.listen(30, until="READY")
        assert before[-1]["READY"] == "1"
        assert "WATCHDOG" not in keys(before[:-1])
        assert any("not serving toy-1.0.0" in fields.get("STATUS", "") for fields in before)
        worker = runs.worker_of(process)
        assert b"NOTIFY_SOCKET" not in Path(f"/proc/{worker}/environ").read_bytes()
        heard = manager.listen(LIMIT_S)
        assert keys(heard).count("WATCHDOG") >= 2
        assert any("serving toy-1.0.0 on xnnpack, " in fields.get("STATUS", "") for fields in heard)
        os.kill(worker, signal.SIGSTOP)
        stalled = time.monotonic()
        manager.listen(LIMIT_S)
        late = [at - stalled for at, fields in manager.heard if "WATCHDOG" in fields and at > stalled]
        assert max(late, default=0.0) <= LIMIT_S / 2
        os.kill(worker, signal.SIGCONT)
        assert "WATCHDOG" in keys(manager.listen(LIMIT_S, until="WATCHDOG"))
    finally:
        ended = runs.stop(process)
        said = manager.listen(0.2)
        manager.close()
    assert ended.code == 0
    assert said[-1]["STOPPING"] == "1"


def test_a_run_whose_camera_never_delivers_is_never_ready(workshop, tmp_path: Path) -> None:
    manager = Manager(str(tmp_path / "notify"))
    environ = {**os.environ, "NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "1000000"}
    path = workshop.write(tmp_path / "toy-1.0.0.edgekit")
    words = ("--source", "synthetic", "--fault", "block@0s+60s", "--interval", "0.5")
    process = runs.start(path, workshop.public, *words, env=environ)
    heard: list[dict[str, str]] = []

    def serves() -> bool:
        return any("serving toy-1.0.0 on xnnpack" in fields.get("STATUS", "") for fields in heard)

    until = time.monotonic() + 60
    while not serves() and time.monotonic() < until:
        heard += manager.listen(20, until="STATUS")
    heard += manager.listen(2)
    runs.stop(process)
    manager.close()
    assert serves()
    assert not {"READY", "WATCHDOG"} & set(keys(heard))
