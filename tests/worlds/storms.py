"""B6: many boards lose one broker at one moment, on real connections; paho's own reconnecting beside them."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edgekit_device.contract.telemetry import Status
from edgekit_device.publish.mqtt import Mqtt
from edgekit_device.publish.options import MqttOptions
from tests.worlds.readings import BOOT
from tests.worlds.services import Mosquitto, mosquitto

ROOT = Path(__file__).resolve().parents[2]
_LOOK_S = 0.02


@dataclass
class Storm:
    """When each client was back, in seconds after the broker was.

    Attributes:
        clients: How many there are.
        back_s: Of those that came back.
    """

    clients: int
    back_s: list[float] = field(default_factory=list)

    @property
    def busiest(self) -> float:
        """Largest share of the clients that came back within one second."""
        times = sorted(self.back_s)
        return max((sum(t <= other < t + 1.0 for other in times) for t in times), default=0) / self.clients

    @property
    def all_back_s(self) -> float:
        """When the last was back; very long if one is not."""
        return max(self.back_s) if len(self.back_s) == self.clients else 1e9


def storm(kind: str, clients: int, away_s: float, wait_s: float) -> Storm:
    """Kill a broker, start it again, and see who comes back when; `kind` is one of KINDS."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 16 * clients + 500)), hard))
    with mosquitto() as broker, KINDS[kind](broker, clients) as group:
        assert _until(lambda: all(up() for up in group), 60), "not all came up"
        broker.kill()
        assert _until(lambda: not any(up() for up in group), 60), "not all noticed"
        time.sleep(away_s)
        broker.start()
        began, found, waiting = time.monotonic(), Storm(clients), list(group)
        while waiting and time.monotonic() - began < wait_s:
            away = [client for client in waiting if not client()]
            found.back_s += [time.monotonic() - began] * (len(waiting) - len(away))
            waiting = away
            time.sleep(_LOOK_S)
    return found


def storms(clients: int, away_s: float, wait_s: float) -> dict[str, Storm]:
    """Both kinds at once, each in a process of its own: paho's loop stops at 1,024 descriptors."""
    running = {
        kind: subprocess.Popen(
            [sys.executable, "-m", "tests.worlds.storms", kind, str(clients), str(away_s), str(wait_s)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for kind in KINDS
    }
    said = {kind: process.communicate()[0] for kind, process in running.items()}
    return {kind: Storm(clients, json.loads(words)) for kind, words in said.items()}


def _until(true: Callable[[], bool], timeout_s: float) -> bool:
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        if true():
            return True
        time.sleep(_LOOK_S)
    return true()


@contextmanager
def _boards(broker: Mosquitto, count: int) -> Iterator[list[Callable[[], bool]]]:
    online, will, stopped = (Status(s, BOOT, None, None).to_bytes() for s in ("online", "offline", "stopped"))
    boards = [Mqtt(broker.address, "home", f"b{n}", will, MqttOptions()) for n in range(count)]
    for board in boards:
        board.start(online)
    try:
        yield [lambda board=board: board.state().connected for board in boards]  # type: ignore[misc]
    finally:
        for board in boards:
            board.close(stopped)


@contextmanager
def _others(broker: Mosquitto, count: int) -> Iterator[list[Callable[[], bool]]]:
    clients = [paho.Client(CallbackAPIVersion.VERSION2, client_id=f"p{n}", protocol=paho.MQTTv5) for n in range(count)]
    for client in clients:
        client.connect(broker.address.host, broker.address.port, 20)
        client.loop_start()
    try:
        yield [client.is_connected for client in clients]
    finally:
        for client in clients:
            client.disconnect()
            client.loop_stop()


KINDS = {"boards": _boards, "paho": _others}

if __name__ == "__main__":
    print(json.dumps(storm(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])).back_s))
