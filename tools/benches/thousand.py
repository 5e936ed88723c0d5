"""One photo for each class of ImageNet: agreement and accuracy where the float model mostly knows what it sees.

The photos are those of github.com/EliSchwartz/imagenet-sample-images at commit bc69043 (`git clone`); they stand under
ImageNet's terms and are not part of this repository. The WordNet id before the first underscore of a name is the class.
Each counts once, through the crop that a board would see.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

_GOAL = 0.985


@lru_cache
def _photos(folder: Path, variant: str) -> tuple[Any, Any, list[str]]:
    """Crops, class indices and names."""
    from edgekit.conversion.calibration import center_crop, load_images
    from edgekit.data import data_path
    from edgekit.zoo import find_weights, get_variant

    spec = find_weights(variant, "imagenet").preprocess_at(get_variant(variant).resolution)
    wnids = data_path("models", "imagenet_wnids.txt").read_text("utf-8").split()
    images = load_images(folder).images
    classes = np.array([wnids.index(photo.path.name.partition("_")[0]) for photo in images])
    return [center_crop(photo.pixels(), spec) for photo in images], classes, [photo.sha256 for photo in images]


def score(model: Path, variant: str, folder: Path, spec: Any) -> None:
    """Keep a model's scores beside it; nothing happens where they are there."""
    from edgekit.verification.agreement import scores
    from edgekit_device.infer.interpreter import Engine

    out = model.with_name(f"{model.stem}.thousand.npz")
    if out.exists():
        return
    crops, classes, photos = _photos(folder, variant)
    engine = Engine(model.read_bytes(), threads=2)
    table = np.array([scores(engine, crop, spec) for crop in crops])
    np.savez_compressed(out, scores=table.astype(np.float32), classes=classes, photos=np.array(photos))
    print(f"{model.stem}: scored on {len(crops)} photos", flush=True)


def table(work: Path, rows: list[tuple[str, str, str]]) -> list[str]:
    """The section of the page.

    Args:
        work: Where the scores lie.
        rows: (file stem, stem of its float twin, what it is).
    """
    from edgekit.verification.agreement import compare
    from edgekit.verification.bounds import judge_drop
    from edgekit.verification.intervals import wilson

    lines: list[str] = []
    for stem, twin, what in rows:
        ours, theirs = work / f"{stem}.thousand.npz", work / f"{twin}.thousand.npz"
        if not ours.exists() or not theirs.exists():
            continue
        found, wanted = np.load(ours), np.load(theirs)
        truth, count = wanted["classes"], len(wanted["classes"])
        right, knew = found["scores"].argmax(axis=1) == truth, wanted["scores"].argmax(axis=1) == truth
        top1 = f"{100 * right.mean():.1f} %"
        if stem == twin:
            low, high = wilson(float(right.mean()), count)
            lines.append(f"| {what} | | | {top1} ({100 * low:.1f} to {100 * high:.1f}) | | |")
            continue
        same = compare(wanted["scores"], found["scores"], found["photos"].tolist())
        low, high = same.top1_interval
        drop = judge_drop(count, int((knew & ~right).sum()), int((right & ~knew).sum()))
        sqnr = "exact" if same.sqnr_db is None else f"{same.sqnr_db:.1f}"
        lines.append(
            f"| {what} | {100 * same.top1:.1f} % ({100 * low:.1f} to {100 * high:.1f}) | {sqnr} | {top1} "
            f"| {drop.lost} / {drop.gained} | {_points(drop.observed)}, at most {_points(drop.upper)} |"
        )
    if not lines:
        return []
    return [
        "## One photo for each class of ImageNet",
        "",
        "1,000 photos (github.com/EliSchwartz/imagenet-sample-images, commit bc69043; not shipped), the one crop that",
        "a board would see. Nothing was calibrated on them, nor was any setting chosen by them. Many are of ImageNet's",
        "training set: accuracy is therefore higher than on its validation set, and agreement is what it is on photos",
        "that a model mostly knows. Drop: points of top-1 against the float model, and what it is at most at 95 %",
        f"confidence. The goal for the agreement of lite0 int8 is {_GOAL:.1%}, on the point estimate.",
        "",
        "| model | agreement (95 %) | SQNR dB | top-1 | lost / gained | drop |",
        "|---|---|---|---|---|---|",
        *lines,
        "",
    ]


def _points(share: float) -> str:
    return f"{round(100 * share, 2) + 0.0:+.2f}"
