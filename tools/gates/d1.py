"""D1: mutated models behind a valid signature, each loaded, proved and examined in a child that has limits.

A process that has everything imported forks that child, so that a mutation costs little more than the model. The gate
is 5,000 (`make gates ONLY=D1`). A longer run goes on where it was cut off:

    python tools/gates/d1.py --count 100000 --state build/d1.jsonl
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.worlds.model_mutations import seed_bundle, seeds
from tools.results import ROOT

LIMIT_S, LIMIT_BYTES = 5.0, 1 << 30
FIXTURES = ROOT / "device" / "tests" / "fixtures"
_CHUNK = 250
_LITE0 = ("demo/lite0.tflite", "build/bench/lite0-1.0.0.edgekit", "demo/lite0-1.0.0.edgekit")


def run(arguments: Sequence[str]) -> dict[str, Any]:
    """Load `--count` mutations (5,000) of four toys and of lite0 (`--model FILE`; else that of `make demo`)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", type=Path, help="an EfficientNet-Lite0, int8: .tflite or .edgekit")
    parser.add_argument("--toys", action="store_true", help="without lite0")
    parser.add_argument("--state", type=Path, help="keep what is done here, and go on from it")
    args = parser.parse_args(arguments)
    models = seeds(FIXTURES)
    if not args.toys:
        lite0 = _lite0(args.model)
        if lite0 is None:
            return {
                "gate": "D1",
                "passed": None,
                "figure": "not run: needs lite0 (make demo, or --model)",
                "detail": "",
            }
        models["lite0"] = lite0
    with tempfile.TemporaryDirectory() as folder:
        for name, model in models.items():
            (Path(folder) / f"{name}.edgekit").write_bytes(seed_bundle(name, model))
        rows = list(_rows(args, Path(folder), len(models)))
    kinds = collections.Counter(_kind(row["problem"]) for row in rows)
    slowest, largest = max(row["s"] for row in rows), max(row["peak_bytes"] for row in rows)
    crashed = sum(count for kind, count in kinds.items() if kind.startswith(("crashed", "hung")))
    lines = ["| what became of the child | times |", "|---|---|"]
    lines += [f"| {kind} | {count} |" for kind, count in kinds.most_common()]
    return {
        "gate": "D1",
        "passed": len(rows) == args.count and slowest <= LIMIT_S and largest <= LIMIT_BYTES,
        "figure": (
            f"{len(rows)} mutations of {len(models)} models ({', '.join(sorted(models))}): the parent lived; {crashed} "
            f"children crashed or hung; slowest {slowest:.1f} s, largest {largest >> 20} MiB"
        ),
        "detail": "\n".join(lines),
    }


def _lite0(named: Path | None) -> bytes | None:
    path = named or next((ROOT / name for name in _LITE0 if (ROOT / name).exists()), None)
    if path is None or path.suffix != ".edgekit":
        return path and path.read_bytes()
    from edgekit_device.bundle import parse_bundle

    return parse_bundle(path.read_bytes(), str(path), "").model()


def _rows(args: argparse.Namespace, folder: Path, models: int) -> Iterator[dict[str, Any]]:
    """What became of each mutation; chunks that are in the state file are not made again."""
    done: dict[int, list[dict[str, Any]]] = {}
    key = [args.seed, models, _CHUNK]
    if args.state and args.state.exists():
        for line in args.state.read_text("utf-8").splitlines():
            kept = json.loads(line)
            if kept["key"] == key:
                done[kept["first"]] = kept["rows"]
    wanted = [(first, min(args.count, first + _CHUNK)) for first in range(0, args.count, _CHUNK)]
    left = [span for span in wanted if len(done.get(span[0], ())) < span[1] - span[0]]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for (first, _), rows in zip(left, pool.map(lambda span: _chunk(args.seed, *span, folder), left), strict=True):
            done[first] = rows
            if args.state:
                with args.state.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"key": key, "first": first, "rows": rows}) + "\n")
            if sys.stderr.isatty():
                sys.stderr.write(f"\rD1: {first + len(rows)} of {args.count}")
    for first, last in wanted:
        yield from done.get(first, [])[: last - first]


def _chunk(seed: int, first: int, last: int, folder: Path) -> list[dict[str, Any]]:
    """Some mutations in a process of their own; a nursery that dies leaves fewer rows, and the gate says no."""
    command = [sys.executable, "-m", "tests.worlds.model_nursery", str(seed), str(first), str(last), str(folder)]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def _kind(problem: str | None) -> str:
    if problem is None:
        return "proved: the change does not matter to the golden vectors"
    if problem.startswith(("crashed", "hung", "ended")):
        return re.sub(r"[:\n].*", "", problem, flags=re.DOTALL)
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


if __name__ == "__main__":
    result = run(sys.argv[1:])
    print(result["figure"])
    print(result["detail"])
    sys.exit(0 if result["passed"] else 3)
