"""How many crops until the ranges settle: two halves of the calibration set, held against each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

# Two halves that differ by less than this in the width of a range are the same to a quantiser: litert-quantizer's
# documentation asks for 20 %.
TOLERANCE = 0.2
_DRAWS = 8


@dataclass(frozen=True)
class Stability:
    """How far the ranges of two halves lie apart.

    Attributes:
        steps: (crops in each half, median over activations, 90th percentile) of the relative difference in width.
        settled: Crops in each half from which on nine ranges in ten stay within TOLERANCE; None if it never does.
    """

    steps: tuple[tuple[int, float, float], ...]
    settled: int | None

    def to_json(self) -> dict[str, Any]:
        """As it stands in a report."""
        return {
            "tolerance": TOLERANCE,
            "settled": self.settled,
            "steps": [{"crops": n, "median": median, "p90": p90} for n, median, p90 in self.steps],
        }


def two_halves(lows: npt.NDArray[np.float32], highs: npt.NDArray[np.float32], *, seed: int = 0) -> Stability:
    """Draw two disjoint halves again and again, of growing size.

    Args:
        lows: Minimum of each activation on each crop, shape (crops, activations).
        highs: Maximum, the same shape.
        seed: Draws the halves.
    """
    rng = np.random.default_rng(seed)
    steps = []
    size = 1
    while 2 * size <= len(lows):
        apart = []
        for _ in range(_DRAWS):
            order = rng.permutation(len(lows))
            widths = [
                highs[half].max(axis=0) - lows[half].min(axis=0) for half in (order[:size], order[size : 2 * size])
            ]
            apart.append(np.abs(widths[0] - widths[1]) / np.maximum(np.maximum(*widths), 1e-12))
        mean = np.mean(apart, axis=0)
        steps.append((size, float(np.median(mean)), float(np.quantile(mean, 0.9))))
        size *= 2
    settled = None
    for count, _, most in reversed(steps):
        if most > TOLERANCE:
            break
        settled = count
    return Stability(tuple(steps), settled)
