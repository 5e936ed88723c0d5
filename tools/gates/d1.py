"""D1: mutated models behind a valid signature, each loaded in a child that has limits; the parent lives.

The whole gate, some 14 hours on two cores:

    python -c "from tools.gates.d1 import run; print(run(['--count', '100000', '--model', 'demo/lite0.tflite']))"
"""

from __future__ import annotations

import argparse
import collections
import re
import resource
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgekit_device.bundle import open_bundle
from tests.worlds.model_mutations import load_mutations, seeds
from tools.gates.toy import FIXTURES, toy_bundle
from tools.results import ROOT

LIMIT_S, LIMIT_BYTES = 5.0, 1 << 30
# The child is killed at its deadline; the rest is for the killing, on a busy machine.
_DEADLINE_S, _KILL_S = 4.5, 0.5


def run(arguments: Sequence[str]) -> dict[str, Any]:
    """Load `--count` mutations (300) of the fixtures, the probe model and `--model FILE`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", type=Path)
    args = parser.parse_args(arguments)
    probe = ROOT / "device" / "edgekit_device" / "diagnosis" / "probe.tflite"
    models = seeds(FIXTURES, args.model) | {"probe": probe.read_bytes()}
    with tempfile.TemporaryDirectory() as folder:
        path, public = toy_bundle(Path(folder))
        bundle, _ = open_bundle(path, [public])
        rows = list(load_mutations(args.count, bundle, models, deadline_s=_DEADLINE_S, seed=args.seed))
    kinds = collections.Counter(_kind(row["problem"]) for row in rows)
    slowest = max(row["s"] for row in rows)
    # Of all children of this process, so an upper bound.
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    crashed = sum(count for kind, count in kinds.items() if kind.startswith(("crashed", "hung")))
    lines = ["| what became of the child | times |", "|---|---|"]
    lines += [f"| {kind} | {count} |" for kind, count in kinds.most_common()]
    return {
        "gate": "D1",
        "passed": len(rows) == args.count and slowest <= LIMIT_S + _KILL_S and largest <= LIMIT_BYTES,
        "figure": (
            f"{len(rows)} mutations of {len(models)} models: the parent lived; {crashed} children crashed or hung; "
            f"slowest {slowest:.1f} s, largest {largest >> 20} MB"
        ),
        "detail": "\n".join(lines),
    }


def _kind(problem: str | None) -> str:
    if problem is None:
        return "proved: the change does not matter to the golden vectors"
    if problem.startswith(("crashed", "hung", "ended")):
        return re.sub(r": .*", "", problem)
    for words, kind in (
        ("golden self-test failed", "golden vectors not reproduced"),
        ("not a readable TFLite model", "not a readable model"),
        ("needs more than", "over its memory"),
    ):
        if words in problem:
            return kind
    if ": cannot load " in problem:
        return "refused by the interpreter"
    return "refused: " + " ".join(re.sub(r"[^a-zA-Z ]+", " ", problem).split())[:50]
