"""Gate B2: stock mosquitto, as Debian configures it, is killed 20 times in five minutes at 500 messages a second."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.worlds import fleet_gates

GATE = "B2"


def run(argv: Sequence[str] = ()) -> dict[str, Any]:
    """Run the gate; ``--short`` for a minute's version.

    Returns:
        {gate, passed, figure, detail}; passed is None where it cannot run here.
    """
    short = "--short" in argv
    absent = fleet_gates.missing("mosquitto")
    if absent:
        return fleet_gates.skipped(GATE, absent)
    times, seconds, rate_hz = (4, 40.0, 1.0) if short else (20, 300.0, 5.0)
    return fleet_gates.broker_killed(times, seconds, 100, rate_hz).to_json(GATE)


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1:]), indent=2, sort_keys=True))
