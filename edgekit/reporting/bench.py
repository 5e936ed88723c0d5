"""`edgekit bench`: models x rungs x threads, each cell in processes of its own, in interleaved rounds.

A machine's clock rate and its other work drift. Rounds that visit every cell in turn spread the drift over all cells
instead of giving the last one all of it; the fastest and slowest round of a cell show how much drift there was.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.errors import RungError, UsageError
from edgekit.reporting.stopwatch import WARM_UP_RUNS
from edgekit_device.exit_signal import ending
from edgekit_device.infer.flatbuffer import read_model
from edgekit_device.meter import quantiles_ms

CHOICES = ("xnnpack", "builtin", "reference")
RUNGS = ("xnnpack", "builtin")
ROUNDS = 3
SECONDS = 1.0
LEAST_RUNS = 20
_LIMIT_S = 300.0

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Cell:
    """One model on one rung with so many threads; times in milliseconds.

    Attributes:
        model: As it was named.
        kind: ``int8`` or ``float``, by the tensors inside.
        rung: ``xnnpack``, ``builtin`` or ``reference``.
        threads: Of the interpreter.
        runs: Steady inferences, over all rounds.
        p50_ms: Of the steady ones, as are the next two.
        p95_ms: Nearest rank.
        p99_ms: Nearest rank.
        round_p50_ms: Median of each round: their spread is the machine's unrest.
        load_ms: Median over rounds of reading the model and building the graph.
        first_ms: Median over rounds of the first inference.
        rss_bytes: Largest resident memory of its process.
        problem: Why it could not be measured; None if it was.
    """

    model: str
    kind: str
    rung: str
    threads: int
    runs: int = 0
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    round_p50_ms: tuple[float, ...] = ()
    load_ms: float | None = None
    first_ms: float | None = None
    rss_bytes: int | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Bench:
    """A whole table.

    Attributes:
        cells: In the order models, rungs, threads.
        machine: What it was measured on.
        warnings: Where int8 is slower than float here.
    """

    cells: tuple[Cell, ...]
    machine: dict[str, Any]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The document of `edgekit bench --json`."""
        cells = [{**vars(cell), "round_p50_ms": list(cell.round_p50_ms)} for cell in self.cells]
        return {"cells": cells, "machine": self.machine, "warnings": list(self.warnings)}


def bench(
    models: Sequence[str | Path],
    *,
    rungs: Sequence[str] = RUNGS,
    threads: Sequence[int] | None = None,
    rounds: int = ROUNDS,
    seconds: float = SECONDS,
    least: int = LEAST_RUNS,
    progress: Progress | None = None,
) -> Bench:
    """Time models on this machine.

    Args:
        models: .tflite files.
        rungs: Of the delegate ladder.
        threads: Numbers of interpreter threads; 1 and all cores by default.
        rounds: How often every cell is visited.
        seconds: Steady inference per visit.
        least: Inferences per visit, at least.
        progress: Called with ("bench", done, total).

    Raises:
        UsageError: No such file or rung, or a number below one.
        ModelFormatError: Not a TFLite file.
    """
    cores = len(os.sched_getaffinity(0))
    counts = list(dict.fromkeys(threads or (1, cores)))
    unknown = [rung for rung in rungs if rung not in CHOICES]
    if unknown:
        raise UsageError(f"no rung is called '{unknown[0]}'; choose from {', '.join(CHOICES)}")
    if rounds < 1 or seconds <= 0 or min(counts) < 1:
        raise UsageError("rounds, seconds and threads must be at least one")
    cells = [
        Cell(str(model), kind, rung, count)
        for model, kind in [(model, _kind(Path(model))) for model in models]
        for rung in rungs
        for count in counts
    ]
    taken: list[list[dict[str, Any]]] = [[] for _ in cells]
    problems: dict[int, str] = {}
    done, total = 0, rounds * len(cells)
    for turn in range(rounds):
        # Each round starts elsewhere, so that no cell always follows the same one.
        for step in range(len(cells)):
            at = (step + turn * max(1, len(cells) // rounds)) % len(cells)
            if at not in problems:
                try:
                    taken[at].append(_visit(cells[at], seconds, least))
                except RungError as cause:
                    problems[at] = cause.reason
            done += 1
            if progress:
                progress("bench", done, total)
    finished = tuple(
        summarise(cell, taken[at]) if at not in problems else Cell(**{**vars(cell), "problem": problems[at]})
        for at, cell in enumerate(cells)
    )
    return Bench(finished, machine(), tuple(slower_integers(finished)))


def summarise(cell: Cell, visits: Sequence[dict[str, Any]]) -> Cell:
    """Put the visits of one cell together."""
    steady = [value for visit in visits for value in visit["steady_s"]]
    figures = quantiles_ms(steady)
    medians = {key: quantiles_ms(visit[key] for visit in visits)["p50"] for key in ("load_s", "first_s")}
    each = tuple(value for visit in visits if (value := quantiles_ms(visit["steady_s"])["p50"]) is not None)
    return Cell(
        cell.model,
        cell.kind,
        cell.rung,
        cell.threads,
        runs=len(steady),
        p50_ms=figures["p50"],
        p95_ms=figures["p95"],
        p99_ms=figures["p99"],
        round_p50_ms=each,
        load_ms=medians["load_s"],
        first_ms=medians["first_s"],
        rss_bytes=max(visit["rss_bytes"] for visit in visits),
    )


def slower_integers(cells: Sequence[Cell]) -> list[str]:
    """Where an int8 model is slower than a float one on the same rung and threads, in every round."""
    found = []
    for ours in cells:
        for theirs in cells:
            same = (ours.rung, ours.threads) == (theirs.rung, theirs.threads)
            if not same or (ours.kind, theirs.kind) != ("int8", "float"):
                continue
            if ours.p50_ms and theirs.p50_ms and min(ours.round_p50_ms) > max(theirs.round_p50_ms):
                found.append(
                    f"int8 is slower than float here: {Path(ours.model).name} {ours.p50_ms:.1f} ms, "
                    f"{Path(theirs.model).name} {theirs.p50_ms:.1f} ms ({ours.rung}, {ours.threads} threads)"
                )
    return found


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    from edgekit_device.infer.interpreter import find_interpreter

    name = ""
    for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
        if line.lower().startswith(("model name", "hardware")):
            name = line.split(":", 1)[1].strip()
            break
    return {
        "cpu": name or platform.processor() or "unknown",
        "cores": len(os.sched_getaffinity(0)),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "interpreter": find_interpreter()[0],
        "load_1m": round(os.getloadavg()[0], 2),
        "warm_up_runs": WARM_UP_RUNS,
    }


def _kind(path: Path) -> str:
    if not path.is_file():
        raise UsageError(f"{path}: there is no such file")
    info = read_model(path.read_bytes(), str(path))
    weights = [tensor.dtype for tensor in info.main.tensors if tensor.is_constant and len(tensor.shape) == 4]
    inside = [tensor.dtype for tensor in info.main.tensors if not tensor.is_constant]
    integer = bool(weights) and set(weights) <= {"int8", "uint8", "int4"}
    return "int8" if integer and inside.count("float32") <= 2 else "float"


def _visit(cell: Cell, seconds: float, least: int) -> dict[str, Any]:
    path = os.pathsep.join(str(Path(p).absolute()) for p in sys.path)
    words = [cell.model, cell.rung, str(cell.threads), str(seconds), str(least)]
    try:
        child = subprocess.run(
            [sys.executable, "-m", "edgekit.reporting.stopwatch", *words],
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            timeout=_LIMIT_S + seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as cause:
        raise RungError(cell.rung, f"no answer in {_LIMIT_S:.0f} s") from cause
    if child.returncode:
        raise RungError(cell.rung, f"its process {ending(child.returncode)}")
    found: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
    if "error" in found:
        raise RungError(cell.rung, found["error"])
    return found
