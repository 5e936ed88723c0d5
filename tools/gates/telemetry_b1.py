"""Gate B1: the broker is away for ten minutes; 50 boards lose and double nothing, news does not wait for backlog."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.worlds import fleet_gates

GATE = "B1"


def run(argv: Sequence[str] = ()) -> dict[str, Any]:
    """Run the gate; ``--short`` for a minute's version.

    Returns:
        {gate, passed, figure, detail}; passed is None where it cannot run here.
    """
    short = "--short" in argv
    absent = fleet_gates.missing("mosquitto")
    if absent:
        return fleet_gates.skipped(GATE, absent)
    away_s = 20 if short else 600
    return fleet_gates.broker_away(50, 1.0, 10, away_s, 20 if short else 130).to_json(GATE)


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1:]), indent=2, sort_keys=True))
