"""docs/results/evaluate.md: how often the bound on the drop holds, and what evaluation costs beyond the bare work."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np

from tests.verification.coverage import coverage
from tools.results import RESULTS, ROOT, heading

_DRAWS = 20_000
_ROUNDS = 5
_SIDE = (375, 500)


def run(arguments: Sequence[str]) -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1200)
    parser.add_argument("--model", type=Path, help="int8 lite0 with OUT.json beside it (default: converted now)")
    args = parser.parse_args(arguments)
    top = heading("Evaluation, measured", "make bench ONLY=evaluate", "edgekit", "ai-edge-litert", "numpy")
    with tempfile.TemporaryDirectory() as folder:
        speed = _speed(Path(folder), args.images, args.model)
    (RESULTS / "evaluate.md").write_text("\n".join([*top, *_coverage(), *speed]) + "\n", "utf-8")


def _coverage() -> list[str]:
    shares = (0.0, 0.25, 0.5, 0.9, 1.0)
    lines = [
        "",
        "## How often the 95 % bound holds",
        "",
        f"Share of {_DRAWS} simulated evaluations whose upper bound was at or above the true drop, in percent: the",
        "exact bound that EdgeKit states, and in brackets Tango's approximate one. d: share of images on which exactly",
        f"one model is right; columns: true drop as a share of d. Noise (three sigma): {300 * 0.0015:.2f}.",
        "",
        "| n | d | " + " | ".join(f"{share:g} d" for share in shares) + " |",
        "|---|---|" + "---|" * len(shares),
    ]
    for n in (50, 200, 1000, 2000, 5000):
        for differing in (0.01, 0.03, 0.10):
            cells = []
            for share in shares:
                exact, approximate = coverage(n, differing, share * differing, _DRAWS)
                cells.append(f"{100 * exact:.2f} ({100 * approximate:.2f})")
            print(n, differing, cells, flush=True)
            lines.append(f"| {n} | {differing:.0%} | " + " | ".join(cells) + " |")
    return lines


def _speed(folder: Path, count: int, model: Path | None) -> list[str]:
    from edgekit import convert, evaluate

    if model is None:
        model = folder / "lite0.tflite"
        convert("efficientnet-lite0", out=model)
    data = folder / "data"
    _crops(data, count)
    files = sorted(str(path) for path in data.rglob("*.jpg"))
    cores = len(os.sched_getaffinity(0))
    bare, whole, cpu = [], [], []
    for turn in range(_ROUNDS):
        # In turns: a busy machine slows both.
        marks = [_cpu_s()]
        bare.append(_bare(files, model, cores))
        marks.append(_cpu_s())
        whole.append(float(evaluate(model, data).extra["seconds"]))
        marks.append(_cpu_s())
        cpu.append((marks[2] - marks[1]) / (marks[1] - marks[0]))
        print(f"round {turn + 1}: bare {bare[-1]:.2f} s, evaluate {whole[-1]:.2f} s", flush=True)
    ratios = [one / other for one, other in zip(whole, bare, strict=True)]
    return [
        "",
        "## What it costs",
        "",
        f"{count} JPEG files of {_SIDE[1]} x {_SIDE[0]} pixels, int8 lite0, {cores} cores, {_ROUNDS} rounds in turns.",
        "Bare: decode, preprocess and invoke in one process a core, each with a share of the files, timed from when",
        "all are ready. Evaluate: the whole call, the start of its processes and its statistics included.",
        "",
        "| | median s | images/s |",
        "|---|---|---|",
        f"| bare | {statistics.median(bare):.2f} | {count / statistics.median(bare):.0f} |",
        f"| `edgekit evaluate` | {statistics.median(whole):.2f} | {count / statistics.median(whole):.0f} |",
        "",
        f"Ratio of each round: {', '.join(f'{r:.3f}' for r in ratios)}; median {statistics.median(ratios):.3f}.",
        f"Ratio of the processor time, start of all processes included: {', '.join(f'{r:.3f}' for r in cpu)}; "
        f"median {statistics.median(cpu):.3f}. On a machine that does other work this one is the steadier.",
        f"One-minute load when this was written: {os.getloadavg()[0]:.1f} on {cores} cores.",
    ]


def _cpu_s() -> float:
    """Processor time of this process and of all that it has waited for, in seconds."""
    found = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in found)


def _crops(data: Path, count: int) -> None:
    """Crops of the shipped photos; one folder a photo, called by class index: only time is measured."""
    import cv2

    rng = np.random.default_rng(0)
    photos = [cv2.imread(str(path)) for path in sorted((ROOT / "calibration_data").glob("*.jpg"))]
    for at in range(count):
        photo = photos[at % len(photos)]
        height, width = photo.shape[:2]
        side = int(rng.integers(min(height, width) * 6 // 10, min(height, width) + 1))
        top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
        crop = cv2.resize(photo[top : top + side, left : left + side], _SIDE[::-1], interpolation=cv2.INTER_AREA)
        home = data / str(at % len(photos))
        home.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(home / f"{at:05}.jpg"), crop, [cv2.IMWRITE_JPEG_QUALITY, 92])


def _bare(files: Sequence[str], model: Path, cores: int) -> float:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(cores + 1)
    crew = [context.Process(target=_work, args=(files[at::cores], model, barrier)) for at in range(cores)]
    for process in crew:
        process.start()
    barrier.wait()
    began = time.monotonic()
    barrier.wait()
    seconds = time.monotonic() - began
    for process in crew:
        process.join()
    return seconds


def _work(files: Sequence[str], model: Path, barrier: Barrier) -> None:
    import cv2

    from edgekit.artefacts import read_sidecar
    from edgekit_device import vision
    from edgekit_device.contract.preprocess import Preprocess
    from edgekit_device.infer.interpreter import Engine

    cv2.setNumThreads(1)
    engine = Engine(model.read_bytes())
    sidecar = read_sidecar(model)
    assert sidecar
    spec = Preprocess.from_json(dict(sidecar.preprocess))
    engine.raw(np.zeros(engine.input.shape, engine.input.dtype))
    barrier.wait()
    for name in files:
        pixels = cv2.imdecode(np.frombuffer(Path(name).read_bytes(), np.uint8), cv2.IMREAD_COLOR_RGB)
        engine.scores(vision.to_model_input(pixels, spec)).argmax()
    barrier.wait()
