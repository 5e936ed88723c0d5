"""Gate B5: a day offline in 64 MB, and a week that overflows and says exactly what it dropped."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tools import telemetry_board

GATE = "B5"


def run(argv: Sequence[str] = ()) -> dict[str, Any]:
    """Run the gate; ``--short`` for one day instead of a week.

    Returns:
        {gate, passed, figure, detail}.
    """
    rows = list(telemetry_board.b5(1 if "--short" in argv else 7))
    return {
        "gate": GATE,
        "passed": all(row[-1] for row in rows),
        "figure": "; ".join(f"{case}: {found}" for _, case, _, found, _ in rows),
        "detail": [dict(zip(("gate", "case", "limit", "measured", "passed"), row, strict=True)) for row in rows],
    }


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1:]), indent=2, sort_keys=True))
