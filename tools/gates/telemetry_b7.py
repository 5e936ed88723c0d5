"""Gate B7: a tenth of the packets lost, 64 kbit/s, five minutes of silence: nothing lost, offline shown in time."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.worlds import bad_net, fleet_gates

GATE = "B7"


def run(argv: Sequence[str] = ()) -> dict[str, Any]:
    """Run the gate; ``--short`` for a minute's version.

    Returns:
        {gate, passed, figure, detail}; passed is None where it cannot run here.
    """
    absent = bad_net.missing()
    if absent:
        return fleet_gates.skipped(GATE, absent)
    short = "--short" in argv
    phases = bad_net.Phases(lossy_s=15, narrow_s=15, silent_s=15, keepalive_s=4) if short else bad_net.Phases()
    found, most = bad_net.suffer(phases), bad_net.limits(phases)
    kept = all(found[name] <= limit for name, limit in most.items()) and found["shown_at_the_end"] == "online"
    return {
        "gate": GATE,
        "passed": kept,
        "figure": f"{found['made']} made, {found['lost']} lost, {found['doubled']} doubled; offline shown after "
        f"{found['offline_shown_s']} s, online again after {found['online_again_s']} s",
        "detail": {**found, "limits": most},
    }


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1:]), indent=2, sort_keys=True))
