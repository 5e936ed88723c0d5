"""What keeps int8 from agreeing more: grids that no pass can make finer, and levers that were tried."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

# TFLite fixes the grid of a softmax.
_STEPS = 256
LEVERS = (16, 64, 96)


def measure_grids(work: Path, crops: Sequence[Any], spec: Any) -> None:
    """Round the float model's scores, and its logits, to the grids that the int8 model has for them."""
    from edgekit.compression.graph import FloatGraph
    from edgekit.compression.simulation import run
    from edgekit.conversion.noise import load_tensorflow
    from edgekit.verification.agreement import compare
    from edgekit_device import vision
    from edgekit_device.infer.flatbuffer import read_model

    out, model = work / "grids.json", work / "lite0-int8.tflite"
    if out.exists() or not model.exists():
        return
    load_tensorflow()
    graph = FloatGraph((work / "lite0-float32.tflite").read_bytes())
    last, kept = graph.nodes[-1].inputs[0], []
    real = spec.quantised("float32", 0.0, 0)
    images = np.stack([vision.quantise(crop.pixels, real) for crop in crops])
    run(graph, images, lambda index, values: kept.append(values.copy()) if index == last else None)
    logits = np.concatenate(kept).astype(np.float64)
    info = read_model(model.read_bytes(), str(model)).main
    grid = info.tensors[info.operators[-1].inputs[0]]
    scale, zero = grid.scales[0], grid.zero_points[0]
    coarse = scale * (np.clip(np.rint(logits / scale) + zero, -128, 127) - zero)
    photos = [crop.photo for crop in crops]
    exact = _softmax(logits)

    def same(scores: Any) -> float:
        return compare(exact.astype(np.float32), scores.astype(np.float32), photos).top1

    found = {
        "scores": same(np.rint(exact * _STEPS) / _STEPS),
        "both": same(np.rint(_softmax(coarse) * _STEPS) / _STEPS),
        "step": scale,
    }
    out.write_text(json.dumps(found))


def grid_lines(work: Path) -> list[str]:
    """The section of the page."""
    if not (work / "grids.json").exists():
        return []
    found = json.loads((work / "grids.json").read_text())
    return [
        "## What limits it (lite0)",
        "",
        "Float scores rounded to steps of 1/256, the grid that TFLite gives every int8 softmax:",
        f"{found['scores']:.1%} of the 249 crops keep their class. Logits on their int8 grid",
        f"(steps of {found['step']:.3f}) as well: {found['both']:.1%}. That much is left when all layers before are",
        "exact: on a crop where two classes lead together by less than a step, no pass can tell them apart. Without",
        "passes int8 reaches what the third row of the table says; the passes close the better part of the distance.",
        "",
    ]


def lever_lines(work: Path, cells: Any) -> list[str]:
    """The section of the page on crops that the passes see.

    Args:
        work: Where the scores lie.
        cells: (candidate table, reference table) -> agreement, its interval, ..., SQNR in dB.
    """
    rows = []
    for name, what in ((f"lever-{count}", f"{count} crops") for count in LEVERS):
        if not (work / f"{name}.npz").exists():
            continue
        share, interval, *_, sqnr = cells(work / f"{name}.npz", work / "lite0-float32.npz")
        more = work / f"{name}.thousand.npz"
        other = ""
        if more.exists():
            share2, interval2, *_, sqnr2 = _thousand(more, work / "lite0-float32.thousand.npz")
            other = f"{share2} ({interval2}), {sqnr2} dB"
        rows.append(f"| {what} | {share} ({interval}), {sqnr} dB | {other} |")
    if not rows:
        return []
    return [
        "## How many crops the passes see (lite0)",
        "",
        "32 by default; ranges come from 128 crops of 27 photos each time. The differences are within the intervals.",
        "",
        "| passes see | 249 crops | 1,000 photos |",
        "|---|---|---|",
        *rows,
        "",
    ]


def _thousand(candidate: Path, reference: Path) -> list[str]:
    from edgekit.verification.agreement import compare

    ours, theirs = np.load(candidate), np.load(reference)
    whole = compare(theirs["scores"], ours["scores"], ours["photos"].tolist())
    low, high = whole.top1_interval
    return [f"{100 * whole.top1:.1f} %", f"{100 * low:.1f} to {100 * high:.1f}", f"{whole.sqnr_db or 0:.1f}"]


def _softmax(logits: Any) -> Any:
    power = np.exp(logits - logits.max(axis=1, keepdims=True))
    return power / power.sum(axis=1, keepdims=True)
