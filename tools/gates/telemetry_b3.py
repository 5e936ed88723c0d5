"""Gate B3: the collector is killed 50 times, PostgreSQL stopped at once 10 times, the disk full 3 times."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.worlds import fleet_gates
from tests.worlds.services import postgresql

GATE = "B3"


def run(argv: Sequence[str] = ()) -> dict[str, Any]:
    """Run the gate; ``--short`` for a minute's version.

    Returns:
        {gate, passed, figure, detail}; passed is None where it cannot run here.
    """
    short = "--short" in argv
    absent = fleet_gates.missing("mosquitto", "postgresql")
    if absent:
        return fleet_gates.skipped(GATE, absent)
    kills, stops, fills, rate_hz, each_s = (5, 2, 1, 1.0, 5.0) if short else (50, 10, 3, 5.0, 6.0)
    killed = fleet_gates.collector_killed(kills, kills * each_s, 100, rate_hz)
    with postgresql() as server:
        stopped = fleet_gates.database_stopped(server, stops, stops * 2 * each_s, 100, rate_hz)
    full = fleet_gates.disk_full(fills, fills * 3 * each_s, 100, rate_hz)
    parts = {"killed": killed, "stopped": stopped, "full": full}
    return fleet_gates.together(GATE, parts)


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1:]), indent=2, sort_keys=True))
