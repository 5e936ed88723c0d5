"""B10: so many messages a second from boards to committed rows, generator, TLS and broker on the same machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from sqlalchemy import text

from edgekit.fleet.store import Store
from tests.worlds.fleets import ROOT, collecting
from tests.worlds.services import TUNED, mosquitto


def load(
    messages_hz: float,
    seconds: float,
    boards: int,
    store_url: str,
    idle: int = 0,
    *,
    tls: bool = True,
    database: int | None = None,
) -> dict[str, Any]:
    """Run it.

    Args:
        messages_hz: All boards together.
        seconds: How long.
        boards: How many share the rate.
        store_url: An empty store.
        idle: Boards that are connected besides and send next to nothing.
        tls: Whether everybody speaks TLS.
        database: Process id of the database's server, if it has one.

    Returns:
        Figures by name; units are in the names.
    """
    with mosquitto(TUNED, tls=tls) as broker, tempfile.TemporaryDirectory() as folder:
        trust = {"SSL_CERT_FILE": str(broker.authority)} if tls else {}
        ledger = Path(folder) / "ledger.json"
        with collecting(broker.url, store_url, environment=trust, ack_s=5.0) as collector:
            still = _simulate(broker.url, idle, 0.001, seconds + 30, None, trust) if idle else None
            busy = _simulate(broker.url, boards, messages_hz / boards, seconds, ledger, trust)
            pids = {"collector": collector.process.pid, "mosquitto": broker.process.pid}  # type: ignore[union-attr]
            pids |= {"generator": busy.pid} | ({"database": database} if database else {})
            before = {name: _cpu_s(pid) for name, pid in pids.items()}
            used, began = dict.fromkeys(pids, 0.0), time.monotonic()
            while busy.poll() is None:
                collector.rss_bytes  # noqa: B018 - notes the peak.
                used = {name: _cpu_s(pid) - before[name] or used[name] for name, pid in pids.items()}
                time.sleep(1.0)
            output = busy.communicate()[0]
            wall_s = time.monotonic() - began
            if still is not None:
                still.terminate()
                still.wait()
            rss = collector.rss_bytes
            last = json.loads(collector.stop())
        result = json.loads(output.splitlines()[-1])
        made = json.loads(ledger.read_text()) if ledger.exists() else {}
    with Store(store_url) as store, store.reading() as connection:
        query = "select count(*) from {} m join boards on boards.id = m.board where boards.device like 'busy%'"
        rows = sum(connection.execute(text(query.format(t))).scalar() or 0 for t in ("readings", "events"))
    expected = sum(sum(boots.values()) for boots in made.values())
    messages = max(1, rows)
    each = {name: round(value * 1000 / messages, 3) for name, value in used.items()}
    busiest = max(used, key=used.__getitem__)
    return {
        "cpu_ms_each": {**each, "together": round(sum(used.values()) * 1000 / messages, 3)},
        "busiest": f"{busiest}, {used[busiest] / wall_s:.0%} of a core",
        "wall_s": round(wall_s, 1),
        "made": result.get("made"),
        "acked": result.get("acked"),
        "problem": result.get("message"),
        "rows": rows,
        "expected": expected,
        "made_hz": round((result.get("made") or 0) / seconds, 1),
        "lag_p50_ms": last["lag_p50_ms"],
        "lag_p99_ms": last["lag_p99_ms"],
        "collector_rss_mb": round(rss / 1e6, 1),
        "duplicates": last["duplicates"],
        "idle_boards": idle,
    }


def _cpu_s(pid: int) -> float:
    """Processor time of a process and its children, alive and waited for; 0.0 when it is gone."""
    total = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if path.parent.name == str(pid):
            total += sum(map(int, fields[11:15]))
        elif fields[1] == str(pid):
            total += sum(map(int, fields[11:13]))
    return total / os.sysconf("SC_CLK_TCK")


def _simulate(
    url: str, boards: int, rate: float, seconds: float, ledger: Path | None, environment: dict[str, str]
) -> subprocess.Popen[str]:
    command = [
        sys.executable, "-c", "from edgekit.cli import run; run()", "fleet", "simulate", "--calm", "--json",
        "-n", str(boards), "--rate", str(rate), "--seconds", str(seconds), "--broker", url,
        "--prefix", "busy" if ledger else "idle",
    ]  # fmt: skip
    if ledger:
        command += ["--ledger", str(ledger)]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
