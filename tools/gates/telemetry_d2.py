"""Gate D2: 100,000 mutated payloads: no unnamed error, none over 100 ms, no row from an invalid one."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.worlds import fleet_gates

GATE = "D2"


def run(argv: Sequence[str] = ()) -> dict[str, Any]:
    """Run the gate; ``--short`` for a minute's version.

    Returns:
        {gate, passed, figure, detail}; passed is None where it cannot run here.
    """
    short = "--short" in argv
    return fleet_gates.mutated(5_000 if short else 100_000)


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1:]), indent=2, sort_keys=True))
