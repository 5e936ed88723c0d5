"""Gate C6: bytes written in a day, and a disk that is full, read-only or broken."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tools import telemetry_board

GATE = "C6"


def run(argv: Sequence[str] = ()) -> dict[str, Any]:
    """Run the gate.

    Returns:
        {gate, passed, figure, detail}.
    """
    rows = list(telemetry_board.c6())
    return {
        "gate": GATE,
        "passed": all(row[-1] for row in rows),
        "figure": "; ".join(f"{case}: {found}" for _, case, _, found, _ in rows),
        "detail": [dict(zip(("gate", "case", "limit", "measured", "passed"), row, strict=True)) for row in rows],
    }


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1:]), indent=2, sort_keys=True))
