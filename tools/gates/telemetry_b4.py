"""Gate B4: a board is killed while it spools, and its power cut: what was promised is there, and the outbox opens."""

from __future__ import annotations

import json
import random
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.worlds import outbox_crashes
from tests.worlds.fleet_gates import skipped
from tools import telemetry_board

GATE = "B4"
_LEAST_STATES = 500


def run(argv: Sequence[str] = ()) -> dict[str, Any]:
    """Run the gate; ``--short`` for a minute's version.

    Returns:
        {gate, passed, figure, detail}; passed is None where it cannot run here.
    """
    if shutil.which("strace") is None:
        return skipped(GATE, "needs strace: apt install strace")
    short = "--short" in argv
    kills, promises, every = (10, 12, 2) if short else (100, 60, 1)
    rows = list(telemetry_board.b4(kills))
    # In memory where there is such a folder: thousands of small databases are opened.
    memory = Path("/dev/shm")
    place = memory if memory.is_dir() else None
    with tempfile.TemporaryDirectory(dir=place) as folder:
        cut = outbox_crashes.replay(Path(folder) / "replay", promises, 6, every)
        control = outbox_crashes.replay(Path(folder) / "control", 6, 3, 3, synced=False)
    program, mounted = outbox_crashes.find_lazyfs(), None
    if program:
        with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
            mounted = outbox_crashes.power_cuts(program, Path(folder), 3 if short else 40, random.Random(4))
    lost = cut.lost + (mounted.lost + mounted.states - mounted.forgotten if mounted else 0)
    enough = short or cut.states >= _LEAST_STATES
    cuts = f"LazyFS cut {mounted.states} times: {mounted.lost} bad" if mounted else "LazyFS is not here"
    return {
        "gate": GATE,
        "passed": all(row[-1] for row in rows) and not lost and control.lost > 0 and enough,
        "figure": f"{rows[0][3]} in {kills} kills; {cut.states} disks after a power cut, {cut.lost} bad "
        f"(syncs struck from the log: {control.lost} of {control.states} bad); {cuts}",
        "detail": {
            "replay": vars(cut),
            "control": vars(control),
            "lazyfs": vars(mounted) if mounted else outbox_crashes.LAZYFS,
        },
    }


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1:]), indent=2, sort_keys=True))
