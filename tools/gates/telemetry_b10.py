"""Gate B10: 1,500 messages a second for ten minutes, generator and TLS on the same machine; goal 2,500."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.worlds import fleet_gates
from tests.worlds.fleet_load import load
from tests.worlds.services import postgresql

GATE = "B10"
LIMITS = {"lag_p99_ms": 1000.0, "collector_rss_mb": 300.0}


def run(argv: Sequence[str] = ()) -> dict[str, Any]:
    """Run the gate: ``[--short] [--rate HZ] [--seconds S] [--postgresql] [--idle N]``.

    Returns:
        {gate, passed, figure, detail}; passed is None where it cannot run here.
    """
    words = list(argv)

    def number(name: str, default: float) -> float:
        return float(words[words.index(name) + 1]) if name in words else default

    absent = fleet_gates.missing("mosquitto", *(["postgresql"] if "--postgresql" in words else []))
    if absent:
        return fleet_gates.skipped(GATE, absent)
    rate_hz = number("--rate", 1500.0)
    seconds = number("--seconds", 60.0 if "--short" in words else 600.0)
    arguments = (rate_hz, seconds, 500)
    idle = int(number("--idle", 0 if "--short" in words else 1000))
    before = fleet_gates.pressure()
    if "--postgresql" in words:
        with postgresql() as server:
            assert server.process is not None
            found = load(*arguments, server.fresh("load"), idle, database=server.process.pid)
    else:
        with fleet_gates.a_store() as url:
            found = load(*arguments, url, idle)
    found["cpu_pressure_before"], found["cpu_pressure_after"] = before, fleet_gates.pressure()
    lost = found["expected"] - found["rows"]
    kept = all(found[name] is not None and found[name] <= limit for name, limit in LIMITS.items())
    full = found["made_hz"] >= 0.98 * rate_hz
    return {
        "gate": GATE,
        "passed": lost == 0 and kept and full,
        "figure": f"{found['made_hz']:.0f} msg/s, p99 {found['lag_p99_ms']} ms, "
        f"{found['collector_rss_mb']} MB, {lost} lost; {found['cpu_ms_each']['together']} ms of CPU a message",
        "detail": {**found, "limits": LIMITS},
    }


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1:]), indent=2, sort_keys=True))
