"""C1: the worker is killed, crashed, stopped and starved at random; new frames come back in time, nothing leaks."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tools.results import ROOT

KILL_LIMIT_S, HANG_LIMIT_S = 5.0, 10.0


def run(arguments: Sequence[str]) -> dict[str, Any]:
    """Strike `--count` times (200)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    args = parser.parse_args(arguments)
    sys.path.insert(0, str(ROOT / "device" / "tests"))
    import faults

    from tools.gates.toy import toy_bundle

    with tempfile.TemporaryDirectory() as folder:
        bundle, public = toy_bundle(Path(folder))
        siege = faults.besiege(bundle, public, args.count)
    rows = ["| fault | times | median s | slowest s | limit s |", "|---|---|---|---|---|"]
    passed = not siege.leaks and siege.code == 0
    for kind, times in sorted(siege.recovered_s.items()):
        limit = HANG_LIMIT_S if kind in faults.HANGS else KILL_LIMIT_S
        ordered = sorted(times)
        passed = passed and ordered[-1] <= limit
        rows.append(f"| {kind} | {len(times)} | {ordered[len(ordered) // 2]:.2f} | {ordered[-1]:.2f} | {limit:.0f} |")
    total = sum(map(len, siege.recovered_s.values()))
    return {
        "gate": "C1",
        "passed": passed and total == args.count,
        "figure": f"{total} of {args.count} faults recovered; {len(siege.leaks)} leaks",
        "detail": "\n".join(rows + siege.leaks[:5]),
    }
