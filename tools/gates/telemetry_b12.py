"""Gate B12: the database is ten times slower for five minutes; memory stays bounded and nothing is lost."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.worlds import fleet_gates

GATE = "B12"


def run(argv: Sequence[str] = ()) -> dict[str, Any]:
    """Run the gate; ``--short`` for a minute's version.

    Returns:
        {gate, passed, figure, detail}; passed is None where it cannot run here.
    """
    short = "--short" in argv
    absent = fleet_gates.missing("mosquitto")
    if absent:
        return fleet_gates.skipped(GATE, absent)
    slow_s = 15 if short else 300
    return fleet_gates.slow_database(slow_s, 10, 100, 2.0).to_json(GATE)


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1:]), indent=2, sort_keys=True))
