"""B7: a board behind a bad network, in a network namespace of its own: python -m tests.worlds.bad_net PHASES-AS-JSON.

Loss and silence are nftables' on the board's own port of the broker, the narrow line is a token bucket on everything.
Prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
NFT, TC = "apt install nftables", "apt install iproute2"


@dataclass(frozen=True)
class Phases:
    """How long each trouble lasts, in seconds; 0 leaves it out.

    Attributes:
        lossy_s: Every tenth packet is lost, both ways.
        narrow_s: 64 kbit/s for everything together.
        silent_s: Every packet is lost and nobody is told.
        keepalive_s: Of the board.
        rate_hz: Readings a second.
    """

    lossy_s: float = 120.0
    narrow_s: float = 120.0
    silent_s: float = 300.0
    keepalive_s: int = 20
    rate_hz: float = 1.0


def missing() -> str | None:
    """What this machine lacks for it."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    for program, line in (("nft", NFT), ("tc", TC), ("ip", TC), ("mosquitto", "apt install mosquitto")):
        if shutil.which(program, path=path) is None:
            return f"needs {program}: {line}"
    words = [*_unshare(), "sh", "-c", "ip link set lo up && nft add table inet probe"]
    done = subprocess.run(words, capture_output=True, text=True, env=_environment())
    said = done.stderr.strip().splitlines()
    return f"needs root, or user namespaces that may filter packets: {said[-1] if said else '?'}" if said else None


def suffer(phases: Phases) -> dict[str, Any]:
    """Run it in a namespace of its own."""
    words = [*_unshare(), sys.executable, "-m", "tests.worlds.bad_net", json.dumps(asdict(phases))]
    limit_s = phases.lossy_s + phases.narrow_s + phases.silent_s + 400
    done = subprocess.run(words, cwd=ROOT, env=_environment(), capture_output=True, text=True, timeout=limit_s)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def limits(phases: Phases) -> dict[str, float]:
    """What each figure may be at most."""
    return {"lost": 0, "doubled": 0, "offline_shown_s": 1.5 * phases.keepalive_s + 5, "online_again_s": 60}


def _unshare() -> list[str]:
    return ["unshare", "-n"] if os.geteuid() == 0 else ["unshare", "-rn"]


def _environment() -> dict[str, str]:
    return {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}


def _sh(words: str) -> None:
    subprocess.run(words.split(), check=True, capture_output=True)


@contextmanager
def _filter(port: int, rule: str) -> Iterator[None]:
    for words in (
        "add table inet bad", "add chain inet bad in { type filter hook input priority 0 ; }",
        f"add rule inet bad in tcp dport {port} {rule}", f"add rule inet bad in tcp sport {port} {rule}",
    ):  # fmt: skip
        _sh(f"nft {words}")
    try:
        yield
    finally:
        _sh("nft delete table inet bad")


@contextmanager
def _narrow() -> Iterator[None]:
    _sh("tc qdisc add dev lo root tbf rate 64kbit burst 4kb latency 2s")
    try:
        yield
    finally:
        _sh("tc qdisc del dev lo root")


class _Trial:
    """One board, one broker with a port for it alone, one collector."""

    def __init__(self, phases: Phases, folder: Path) -> None:
        from sqlalchemy import text

        from edgekit.fleet.database import sqlite_url
        from edgekit.fleet.store import Store
        from edgekit_device.contract.telemetry import Status
        from edgekit_device.contract.topics import TELEMETRY
        from edgekit_device.publish.broker_url import BrokerAddress
        from edgekit_device.publish.mqtt import Mqtt
        from edgekit_device.publish.options import MqttOptions
        from tests.worlds.fleets import CollectorProcess
        from tests.worlds.readings import BOOT, reading
        from tests.worlds.services import STOCK, Mosquitto, free_port

        self._phases, self._reading, self._kind, self._text = phases, reading, TELEMETRY, text
        self.port = free_port()
        (folder / "broker").mkdir()
        more = f"listener {self.port} 127.0.0.1\n"
        self.broker = Mosquitto(folder / "broker", STOCK + more)
        self.broker.start()
        self.url = sqlite_url(folder / "fleet.db")
        self.collector = CollectorProcess(self.broker.url, self.url)
        self.collector.start()
        self.store = Store(self.url)
        online, will = (
            Status(s, BOOT, "lite0-1.0.0", "xnnpack", r) for s, r in (("online", None), ("offline", "lost"))
        )
        # With the time in doubt, what was made before the first connection waits up to 30 s for it.
        options = MqttOptions(outbox=folder / "board", keepalive_s=phases.keepalive_s, clock=lambda: "synced")
        address = BrokerAddress("127.0.0.1", self.port, tls=False)
        self.board = Mqtt(address, "home", "porch", will.to_bytes(), options)
        self.board.start(online.to_bytes())
        self.stopped = Status("stopped", BOOT, "lite0-1.0.0", "xnnpack").to_bytes()
        self.made = 0
        self._next_s = time.monotonic()

    def live(self, seconds: float, until: str | None = None) -> float | None:
        """Make Readings for so long, or until the store shows the board in a state; seconds until then."""
        began = time.monotonic()
        while (now := time.monotonic()) < began + seconds:
            while self._next_s <= now:
                self.board.send(self._kind, self._reading(self.made).to_bytes())
                self.made += 1
                self._next_s += 1 / self._phases.rate_hz
            self.board.heard()
            if until is not None and self.shown() == until:
                return time.monotonic() - began
            time.sleep(0.05)
        return None

    def shown(self) -> str | None:
        """The board's state, as a dashboard shows it."""
        with self.store.reading() as connection:
            found = connection.execute(self._text("select state from statuses")).scalar()
        return None if found is None else str(found)

    def rows(self) -> list[int]:
        with self.store.reading() as connection:
            return [row[0] for row in connection.execute(self._text("select seq from readings"))]

    def settle(self, limit_s: float) -> float:
        """Seconds until everything that was made is stored."""
        began = time.monotonic()
        while time.monotonic() < began + limit_s and len(set(self.rows())) < self.made:
            time.sleep(0.2)
        return time.monotonic() - began

    def close(self) -> None:
        self.board.close(self.stopped)
        self.collector.stop()
        self.store.close()
        self.broker.stop()


def main() -> None:
    """Suffer, and say what came of it."""
    phases = Phases(**json.loads(sys.argv[1]))
    _sh("ip link set lo up")
    found: dict[str, Any] = {"offline_shown_s": 0.0, "online_again_s": 0.0}
    with tempfile.TemporaryDirectory(prefix="edgekit-bad-net-") as folder:
        trial = _Trial(phases, Path(folder))
        try:
            found["first_online_s"] = trial.live(60, "online")
            if phases.lossy_s:
                with _filter(trial.port, "numgen random mod 100 < 10 drop"):
                    trial.live(phases.lossy_s)
            if phases.narrow_s:
                with _narrow():
                    trial.live(phases.narrow_s)
            if phases.silent_s:
                trial.live(70, "online")
                with _filter(trial.port, "drop"):
                    began = time.monotonic()
                    found["offline_shown_s"] = trial.live(phases.silent_s, "offline") or 1e9
                    trial.live(phases.silent_s - (time.monotonic() - began))
                found["online_again_s"] = trial.live(120, "online") or 1e9
                # A Last Will of the connection that went silent must not come after all.
                trial.live(5)
            found["shown_at_the_end"] = trial.shown()
            found["settled_s"] = trial.settle(180)
            rows = trial.rows()
        finally:
            trial.close()
    found |= {"made": trial.made, "lost": trial.made - len(set(rows)), "doubled": len(rows) - len(set(rows))}
    print(json.dumps({key: round(value, 1) if isinstance(value, float) else value for key, value in found.items()}))


if __name__ == "__main__":
    main()
