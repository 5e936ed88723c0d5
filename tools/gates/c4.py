"""C4: the wall clock jumps a hundred times under a running board; nothing restarts and no duration is negative.

clock_shift.c steps CLOCK_REALTIME of the run's processes through a file; CLOCK_MONOTONIC stays true, as on a board.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tools.results import ROOT

STEPS_S = [s * sign for s in (1, 3600, 86_400, 20 * 365 * 86_400) for sign in (1, -1)]
_EVERY_S = 0.4


def run(arguments: Sequence[str]) -> dict[str, Any]:
    """Step the clock `--count` times (100)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100)
    args = parser.parse_args(arguments)
    sys.path.insert(0, str(ROOT / "device" / "tests"))
    import runs

    from tools.gates.toy import toy_bundle

    dice = random.Random(4)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        bundle, public = toy_bundle(place)
        clock = place / "clock"
        clock.write_text("0\n")
        library = place / "clock_shift.so"
        source = Path(__file__).with_name("clock_shift.c")
        subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
        world = {"LD_PRELOAD": str(library), "CLOCK_SHIFT": str(clock)}
        words = ("--source", "synthetic:160x120@30", "--interval", "0.5", "--threads", "1")
        with (place / "out").open("w") as out:
            process = runs.start(bundle, public, *words, env=world, stdout=out, stderr=subprocess.PIPE)
            time.sleep(3)
            offset = 0
            for _ in range(args.count):
                offset = max(-30 * 365 * 86_400, min(30 * 365 * 86_400, offset + dice.choice(STEPS_S)))
                fresh = place / "clock.new"
                fresh.write_text(f"{offset}\n")
                fresh.replace(clock)
                time.sleep(_EVERY_S)
            process.terminate()
            _, said = process.communicate(timeout=60)
        readings = [json.loads(line) for line in (place / "out").read_text().splitlines()]
    steady = readings[2:-1]
    negative = [r for r in readings for s in r["latency_ms"].values() for v in s.values() if v is not None and v < 0]
    negative += [r for r in readings if r["window_s"] < 0]
    restarts = sum("worker_died" in line or "stalled" in line or "hang" in line for line in said.splitlines())
    # The source is paced at 30 frames/s by the monotonic clock: that is the figure without any step.
    rates = [r["fps"] for r in steady]
    mean = sum(r["fps"] * r["window_s"] for r in steady) / max(1e-9, sum(r["window_s"] for r in steady))
    years = {r["at"][:4] for r in readings}
    passed = not negative and restarts == 0 and process.returncode == 0 and abs(mean - 30) <= 0.6 and len(years) > 3
    return {
        "gate": "C4",
        "passed": passed,
        "figure": f"{args.count} steps over {len(years)} years: {restarts} restarts, {len(negative)} negative "
        f"durations, mean {mean:.2f} FPS of 30 ({min(rates, default=0):.1f} to {max(rates, default=0):.1f})",
        "detail": "" if passed else said[-1000:],
    }
