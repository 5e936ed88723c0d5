"""How far two models agree on the same pixels, measured with the board's own preprocessing and interpreter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.errors import UsageError
from edgekit.verification.intervals import clustered
from edgekit_device import vision
from edgekit_device.contract.preprocess import Preprocess
from edgekit_device.infer.interpreter import Engine
from edgekit_device.vision import Pixels

TOP = 5

Scores = npt.NDArray[np.float32]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Agreement:
    """What was measured; the reference is the float model, the candidate its quantised twin.

    Attributes:
        n: Crops.
        photos: Photos that they were cut from.
        top1: Share of crops with the same highest class. Equal scores go to the lower class, as on the board.
        top1_interval: 95 %, clustered by photo (`intervals.clustered`).
        top5_overlap: Mean share of the reference's five highest classes among the candidate's.
        mean_abs_diff: Mean absolute difference of a score.
        max_abs_diff: Largest absolute difference of a score.
        sqnr_db: Signal to quantisation noise of the scores in decibels; None if there is no noise at all.
        disagreements: Crops whose highest class differs, worst first: (index, reference class, candidate class).
    """

    n: int
    photos: int
    top1: float
    top1_interval: tuple[float, float]
    top5_overlap: float
    mean_abs_diff: float
    max_abs_diff: float
    sqnr_db: float | None
    disagreements: tuple[tuple[int, int, int], ...]

    def to_json(self) -> dict[str, Any]:
        """As it stands in OUT.json."""
        return {
            "n": self.n,
            "photos": self.photos,
            "top1": self.top1,
            "top1_interval": list(self.top1_interval),
            "top5_overlap": self.top5_overlap,
            "mean_abs_diff": self.mean_abs_diff,
            "max_abs_diff": self.max_abs_diff,
            "sqnr_db": self.sqnr_db,
        }


def measure(
    reference: Engine,
    candidate: Engine,
    crops: Sequence[Pixels],
    photos: Sequence[str],
    preprocess: Preprocess,
    *,
    progress: Progress | None = None,
) -> Agreement:
    """Run both models on the same crops and compare their scores.

    Args:
        reference: The float model.
        candidate: The quantised model.
        crops: uint8, shape (preprocess.height, preprocess.width, preprocess.channels), in the model's colour order.
        photos: Which photo each crop was cut from.
        preprocess: The model's preprocessing; each engine's own input tensor decides the last step.
        progress: Called with ("agree", done, total).

    Raises:
        UsageError: No crops, or the two models do not have the same classes.
    """
    if reference.classes != candidate.classes:
        raise UsageError(f"the models have {reference.classes} and {candidate.classes} classes: not the same task")
    total = len(crops)
    ours, theirs = [], []
    for done, pixels in enumerate(crops, 1):
        ours.append(scores(reference, pixels, preprocess))
        theirs.append(scores(candidate, pixels, preprocess))
        if progress:
            progress("agree", done, total)
    shape = (total, reference.classes)
    return compare(np.reshape(ours, shape), np.reshape(theirs, shape), photos)


def scores(engine: Engine, pixels: Pixels, preprocess: Preprocess) -> Scores:
    """One crop through one model, quantised as the model's own input tensor says.

    Args:
        engine: The model.
        pixels: uint8, shape (height, width, channels), in the model's colour order.
        preprocess: The model's preprocessing.

    Returns:
        float32, shape (classes,).
    """
    spec = preprocess.quantised(engine.input.dtype, engine.input.scale, engine.input.zero_point)
    return engine.scores(vision.quantise(pixels, spec)[None])


def compare(reference: Scores, candidate: Scores, photos: Sequence[str]) -> Agreement:
    """Compare two tables of scores.

    Args:
        reference: float32, shape (n, classes).
        candidate: float32, the same shape.
        photos: Which photo each row came from, n names.

    Raises:
        UsageError: No rows, or not the same number of them.
    """
    if not len(reference) or not len(reference) == len(candidate) == len(photos):
        raise UsageError(f"nothing to compare: {len(reference)} and {len(candidate)} scores of {len(photos)} crops")
    first, second = reference.argmax(axis=1), candidate.argmax(axis=1)
    same = first == second
    difference = np.abs(reference.astype(np.float64) - candidate)
    top = min(TOP, reference.shape[1])
    overlap = [len(set(a) & set(b)) / top for a, b in zip(_top(reference, top), _top(candidate, top), strict=True)]
    noise, signal = float(np.sum(difference**2)), float(np.sum(reference.astype(np.float64) ** 2))
    # Worst is where the reference was surest of the class that the candidate dropped.
    lost = reference[np.arange(len(reference)), first] - reference[np.arange(len(reference)), second]
    worst = sorted(np.flatnonzero(~same), key=lambda row: -float(lost[row]))
    return Agreement(
        n=len(reference),
        photos=len(set(photos)),
        top1=float(same.mean()),
        top1_interval=clustered(same, photos),
        top5_overlap=float(np.mean(overlap)),
        mean_abs_diff=float(difference.mean()),
        max_abs_diff=float(difference.max()),
        sqnr_db=10 * float(np.log10(signal / noise)) if noise > 0 and signal > 0 else None,
        disagreements=tuple((int(row), int(first[row]), int(second[row])) for row in worst),
    )


def _top(table: Scores, count: int) -> npt.NDArray[np.intp]:
    # A stable sort of the negated scores: equal scores keep the order of their classes, as argmax does.
    return np.argsort(-table, axis=1, kind="stable")[:, :count]
