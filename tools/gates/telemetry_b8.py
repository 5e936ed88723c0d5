"""Gate B8: messages come one to three times, shuffled over days, with clock steps: roll-ups equal recomputation."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.worlds import fleet_gates

GATE = "B8"


def run(argv: Sequence[str] = ()) -> dict[str, Any]:
    """Run the gate; ``--short`` for a minute's version.

    Returns:
        {gate, passed, figure, detail}; passed is None where it cannot run here.
    """
    short = "--short" in argv
    return fleet_gates.shuffled(50 if short else 2000)


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1:]), indent=2, sort_keys=True))
