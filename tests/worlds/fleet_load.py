"""B10: so many messages a second from boards to committed rows, generator, TLS and broker on the same machine."""

from __future__ import annotations

import json
import os
import resource
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
    messages_hz: float, seconds: float, boards: int, store_url: str, idle: int = 0, *, tls: bool = True
) -> dict[str, Any]:
    """Run it.

    Args:
        messages_hz: All boards together.
        seconds: How long.
        boards: How many share the rate.
        store_url: An empty store.
        idle: Boards that are connected besides and send next to nothing.
        tls: Whether everybody speaks TLS.

    Returns:
        Figures by name; units are in the names.
    """
    with mosquitto(TUNED, tls=tls) as broker, tempfile.TemporaryDirectory() as folder:
        trust = {"SSL_CERT_FILE": str(broker.authority)} if tls else {}
        ledger = Path(folder) / "ledger.json"
        with collecting(broker.url, store_url, environment=trust, ack_s=5.0) as collector:
            still = _simulate(broker.url, idle, 0.001, seconds + 30, None, trust) if idle else None
            busy = _simulate(broker.url, boards, messages_hz / boards, seconds, ledger, trust)
            cpu = {"collector": _cpu_s(collector.process.pid), "mosquitto": _cpu_s(broker.process.pid)}  # type: ignore[union-attr]
            began = time.monotonic()
            while busy.poll() is None:
                collector.rss_bytes  # noqa: B018 - notes the peak.
                time.sleep(1.0)
            output = busy.communicate()[0]
            wall_s = time.monotonic() - began
            used = {
                "collector": _cpu_s(collector.process.pid) - cpu["collector"],  # type: ignore[union-attr]
                "mosquitto": _cpu_s(broker.process.pid) - cpu["mosquitto"],  # type: ignore[union-attr]
                "generator": resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime,
            }
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
    return {
        **{f"cpu_{name}_s": round(value, 1) for name, value in used.items()},
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
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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
