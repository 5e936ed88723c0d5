"""Which weights are zero and when: schedules and masks, decided from numbers alone.

Sources: the polynomial schedule, M. Zhu and S. Gupta, "To prune, or not to prune", 2017, as TFMOT computes it;
thresholds as shares of a layer's spread, S. Han et al., 2015.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Scores = Mapping[str, npt.NDArray[np.float64]]
Masks = dict[str, npt.NDArray[np.bool_]]


class Schedule(Protocol):
    """How the share of zeros grows."""

    def share(self, step: int, total: int) -> float | None:
        """Share of zeros from this step on; None where the masks stay as they are."""


@dataclass(frozen=True)
class Polynomial:
    """Fast at first, slower towards the end.

    Attributes:
        initial: Share of zeros at `begin`.
        final: Share of zeros from `end` on.
        begin: Step of the first mask.
        end: Step of the last one; 0 for two thirds of those behind `begin`.
        frequency: Steps between masks; 0 for a tenth of the way.
        power: Of the polynomial; 1 is a straight line.
    """

    initial: float
    final: float
    begin: int = 0
    end: int = 0
    frequency: int = 0
    power: float = 3.0

    def share(self, step: int, total: int) -> float | None:
        """See `Schedule`; always a mask at the very end, so that the final share is reached."""
        last = total - 1
        begin = min(self.begin, last)
        # Two thirds of what is left: the rest of the way heals.
        end = min(self.end or begin + max(1, 2 * (total - begin) // 3), last)
        begin = min(begin, end)
        frequency = self.frequency or max(1, (end - begin) // 10)
        if step < begin or step > end or ((step - begin) % frequency and step != end):
            return None
        way = (step - begin) / (end - begin) if end > begin else 1.0
        return float(self.final + (self.initial - self.final) * (1 - way) ** self.power)


@dataclass(frozen=True)
class Table:
    """Shares by epoch, such as {2: 0.5, 4: 0.75}: a half from the second epoch on, three quarters from the fourth.

    Attributes:
        shares: Epoch, from 1 -> share of zeros.
        epochs: How many there are in all.
    """

    shares: Mapping[int, float]
    epochs: int

    def share(self, step: int, total: int) -> float | None:
        """See `Schedule`."""
        each = max(1, total // self.epochs)
        return self.shares.get(step // each + 1) if step % each == 0 else None


def read_table(text: str) -> dict[int, float]:
    """``2:0.5/4:0.75`` as {2: 0.5, 4: 0.75}.

    Raises:
        ValueError: It is not written so, or does not grow.
    """
    table: dict[int, float] = {}
    for part in text.split("/"):
        epoch, _, share = part.partition(":")
        try:
            number, wanted = int(epoch), float(share)
        except ValueError as cause:
            raise ValueError(f"table='{text}' must be written like 2:0.5/4:0.75") from cause
        if number < 1 or not 0 <= wanted < 1:
            raise ValueError(f"table='{text}' must have epochs from 1 on and shares from 0 to below 1")
        if table and (number <= max(table) or wanted < max(table.values())):
            raise ValueError(f"table='{text}' must grow, epoch by epoch and share by share")
        table[number] = wanted
    return table


def masks_of(scores: Scores, share: float, *, everywhere: bool) -> Masks:
    """Keep what scores highest.

    Args:
        scores: Layer -> score of each weight, shape of its kernel.
        share: Of weights that become zero.
        everywhere: One ranking over all layers; else each layer loses the same share.

    Returns:
        Layer -> where weights stay.
    """
    if not everywhere:
        return {name: _kept(values.ravel(), share).reshape(values.shape) for name, values in scores.items()}
    kept = _kept(np.concatenate([values.ravel() for values in scores.values()]), share)
    ends = np.cumsum([values.size for values in scores.values()])[:-1]
    parts = np.split(kept, ends)
    return {name: part.reshape(values.shape) for part, (name, values) in zip(parts, scores.items(), strict=True)}


def _kept(scores: npt.NDArray[np.float64], share: float) -> npt.NDArray[np.bool_]:
    count = round(len(scores) * (1 - share))
    kept = np.zeros(len(scores), bool)
    kept[np.argsort(-scores, kind="stable")[:count]] = True
    return kept


def masks_below(weights: Scores, threshold: float, *, everywhere: bool) -> Masks:
    """Keep weights above a threshold: an absolute one, or a share of each layer's standard deviation."""
    return {
        name: np.abs(values) >= threshold * (1.0 if everywhere else float(values.std()))
        for name, values in weights.items()
    }
