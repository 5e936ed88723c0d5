"""Gate B6: 200 boards whose broker was away come back spread out, on real connections, beside paho's own way."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.worlds import fleet_gates
from tests.worlds.storms import storms

GATE = "B6"
CLIENTS, BACK_S = 200, 75.0
# Seconds away, and the largest share of the clients in one second.
CASES = ((2.0, 0.25), (60.0, 0.10))


def run(argv: Sequence[str] = ()) -> dict[str, Any]:
    """Run the gate; ``--short`` for the shorter absence only.

    Returns:
        {gate, passed, figure, detail}; passed is None where it cannot run here.
    """
    absent = fleet_gates.missing("mosquitto")
    if absent:
        return fleet_gates.skipped(GATE, absent)
    words, detail, passed = [], {}, True
    for away_s, most in CASES[:1] if "--short" in argv else CASES:
        found = storms(CLIENTS, away_s, BACK_S + 10)
        boards, paho = found["boards"], found["paho"]
        passed = passed and boards.busiest <= most and boards.all_back_s <= BACK_S
        words.append(
            f"away {away_s:.0f} s: busiest second {boards.busiest:.0%} (paho's own: {paho.busiest:.0%}), all back "
            f"after {boards.all_back_s:.0f} s"
        )
        detail[f"away_{away_s:.0f}_s"] = {
            "busiest": boards.busiest, "limit": most, "all_back_s": round(boards.all_back_s, 1),
            "paho_busiest": paho.busiest, "paho_all_back_s": round(paho.all_back_s, 1),
        }  # fmt: skip
    return {"gate": GATE, "passed": passed, "figure": "; ".join(words), "detail": detail}


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1:]), indent=2, sort_keys=True))
