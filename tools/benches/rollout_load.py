"""A thousand simulated boards update through one host: bytes sent, how long it takes, whether it stays answering.

What a host runs is one process here (collector, store, engine, dashboard with the repository); the boards are another.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from tools.ota_page import write_section


class Prober:
    """Asks the dashboard four times a second whether it is there."""

    def __init__(self, origin: str) -> None:
        self._origin, self._stop = origin, threading.Event()
        self.took_ms: list[float] = []
        self.failed = 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Prober:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def _run(self) -> None:
        with httpx.Client(base_url=self._origin, timeout=30, trust_env=False) as client:
            while not self._stop.wait(0.25):
                began = time.monotonic()
                try:
                    good = client.get("/healthz").status_code == 200
                except httpx.HTTPError:
                    good = False
                self.took_ms.append((time.monotonic() - began) * 1000)
                self.failed += not good


def run(arguments: Sequence[str] = ()) -> dict[str, Any]:
    """Update `--boards` boards (1,000) to a bundle of `--megabytes` (5)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--boards", type=int, default=1000)
    parser.add_argument("--megabytes", type=float, default=5.0)
    parser.add_argument("--limit-s", type=float, default=1500.0)
    parser.add_argument("--interval-s", type=float, default=30.0, help="between two Readings of a board")
    args = parser.parse_args(list(arguments))
    found = measure(args.boards, int(args.megabytes * 1e6), args.limit_s, args.interval_s)
    command = " ".join(["python -m tools.benches.rollout_load", *arguments])
    write_section("A rollout under load", _section(found, command))
    print(json.dumps(found, indent=1, sort_keys=True))
    return found


def measure(boards: int, size_bytes: int, limit_s: float, interval_s: float) -> dict[str, Any]:
    """Publish, begin, wait, count."""
    from edgekit.fleet.broker import EmbeddedBroker
    from edgekit.fleet.collector import Collector, CollectorOptions
    from edgekit.fleet.database import sqlite_url
    from edgekit.fleet.rollouts import orders, picture
    from edgekit.fleet.rollouts.engine import Engine
    from edgekit.fleet.rollouts.plan import Plan
    from edgekit.fleet.rollouts.state import OPEN
    from edgekit.fleet.store import Store
    from edgekit.fleet.web.running import DashboardOptions, dashboard
    from edgekit.fleet.web.serving import listen
    from edgekit.publishing.keys import UpdateKeys
    from edgekit.publishing.repository import Repository
    from tests.worlds.bundles import Signer, bundle_bytes

    new = "lite0-1.1.0"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgekit-load-")))
        bundle = folder / f"{new}.edgekit"
        bundle.write_bytes(bundle_bytes("lite0", "1.1.0", os.urandom(size_bytes), 0))
        Signer.make(folder / "keys").sign(bundle)
        signature = Path(f"{bundle}.minisig")
        repository = Repository(folder / "updates", UpdateKeys(folder / "update-keys"))
        repository.publish({f"bundles/{bundle.name}": bundle, f"bundles/{signature.name}": signature})
        address = stack.enter_context(EmbeddedBroker()).address
        store = stack.enter_context(Store(sqlite_url(folder / "fleet.db")))
        collector = stack.enter_context(Collector(address, store, CollectorOptions()))
        listener = stack.enter_context(listen("127.0.0.1", 0))
        options = replace(DashboardOptions(), updates=folder / "updates")
        shown = stack.enter_context(dashboard(store, listener, options))
        command = [
            sys.executable, "-m", "edgekit", "fleet", "simulate", "-n", str(boards), "--calm",
            "--rate", f"{1 / interval_s:g}", "--follow", "--seconds", str(limit_s * 3), "--broker", address.url,
            "--repository", f"{shown.origin}/updates/", "--trial", "20", "--wait", "0", "--json",
        ]  # fmt: skip
        swarm = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        stack.callback(swarm.wait)
        stack.callback(swarm.terminate)
        assert _wait(lambda: (now := store.summary()).online == boards and now.rows >= 2 * boards, 600)
        engine, stop = Engine(store, collector.desire), threading.Event()
        thread = threading.Thread(target=engine.run, args=(stop,), daemon=True)
        plan = Plan(("10%", "100%"), jitter_s=30.0, readings=2, board_timeout_s=limit_s)
        counted = _Counter()
        number = orders.start(store, new, plan, "bench").number
        began, began_load = time.monotonic(), round(os.getloadavg()[0], 1)
        thread.start()
        with Prober(shown.origin) as prober:
            _wait(lambda: orders.find(store, number).state not in OPEN, limit_s)
        took_s = time.monotonic() - began
        ended = picture.look(store, number, int(time.time() * 1000))
        assert ended is not None
        stop.set()
        thread.join(30)
        sent = counted.bytes_sent
        lag = collector.latest().lag
        size = bundle.stat().st_size
    took = sorted(prober.took_ms)
    return {
        "boards": boards,
        "bundle_bytes": size,
        "reading_every_s": interval_s,
        "updated": ended.counts["updated"],
        "state": ended.rollout.state,
        "seconds": round(took_s, 1),
        "bytes_sent": sent,
        "share_of_least": round(sent / (boards * size), 4),
        "healthz_asked": len(took),
        "healthz_failed": prober.failed,
        "healthz_p50_ms": round(took[len(took) // 2], 1),
        "healthz_p99_ms": round(took[int(len(took) * 0.99)], 1),
        "healthz_max_ms": round(took[-1], 1),
        "reading_lag_p99_ms": lag.quantile_ms(0.99),
        "engine_problem": engine.problem,
        "load_average_before": began_load,
        "load_average_after": round(os.getloadavg()[0], 1),
    }


def _wait(true: Callable[[], bool], limit_s: float) -> bool:
    """Look once in two seconds: what is measured must not be slowed by who measures."""
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        if true():
            return True
        time.sleep(2.0)
    return False


class _Counter:
    """Bytes of the bodies that the repository's route sends."""

    def __init__(self) -> None:
        from edgekit.fleet.web import app as module

        self.bytes_sent = 0
        original = module.UpdateFiles.__call__
        counter = self

        async def counting(files: Any, scope: Any, receive: Any, send: Any) -> None:
            async def counted(message: Any) -> None:
                if message["type"] == "http.response.body":
                    counter.bytes_sent += len(message.get("body", b""))
                await send(message)

            await original(files, scope, receive, counted)

        module.UpdateFiles.__call__ = counting  # type: ignore[method-assign, assignment]


def _cut(found: dict[str, Any]) -> str:
    """What to say of a run that did not come to its end."""
    if found["state"] == "done":
        return ""
    return (
        f"**It was cut after {found['seconds']:.0f} s, not ended**: {found['updated']} of {found['boards']} boards "
        f"were judged by then, and the bytes of {found['share_of_least']:.3f} x all of their bundles had been sent.\n\n"
    )


def _section(found: dict[str, Any], command: str) -> str:
    rows = "\n".join(f"| {name.replace('_', ' ')} | {value} |" for name, value in found.items())
    return (
        f"    {command}\n\n"
        "Simulated boards in a process of their own fetch metadata, bundle and signature over HTTP from the "
        "dashboard's repository; collector, SQLite store, engine and dashboard are one process. Bytes are those of "
        "response bodies; the load average is that of the whole machine, which is shared.\n\n"
        f"{_cut(found)}"
        f"| | |\n|---|---|\n{rows}\n"
    )


if __name__ == "__main__":
    run(sys.argv[1:])
