"""Which frames are worth keeping: those unlike the ones kept, those the model is unsure of, and one now and then.

Pure: small pictures and numbers in, a reason out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgekit_device import vision

if TYPE_CHECKING:
    from edgekit_device.vision import Pixels

Thumb = npt.NDArray[np.float32]
ROWS, COLUMNS = 12, 16
FIRST, DIFFERENT, LOW_MARGIN, TIME = "first", "different", "low_margin", "time"


@dataclass(frozen=True)
class Rule:
    """When a frame is kept.

    Attributes:
        different: Least distance to every kept frame that makes one worth keeping for itself. Sensor noise and
            compression move a still scene by 0.01 or less, a person who walks in by 0.05 to 0.2.
        still: Least distance for any reason: nearer ones are the same picture again.
        low_margin: A top-2 margin below this is a frame the model is unsure of.
        every_s: Keep one after that long without any; None never does.
    """

    different: float = 0.08
    still: float = 0.02
    low_margin: float = 0.25
    every_s: float | None = None


def thumb(pixels: Pixels) -> Thumb:
    """A frame as the few numbers that frames are compared by.

    Args:
        pixels: uint8, shape (H, W, C).

    Returns:
        float32, shape (12, 16, 3), 0..1; a grey frame is repeated over the channels.
    """
    small = vision.resize(pixels, ROWS, COLUMNS, "area", antialias=True)
    return np.broadcast_to(small, (ROWS, COLUMNS, 3)).astype(np.float32) / 255.0


class Chooser:
    """Remembers what was kept."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self._kept: list[Thumb] = []
        self._last_s: float | None = None

    def distance(self, seen: Thumb) -> float:
        """Mean absolute difference to the nearest kept frame, 0..1; 1 when there is none."""
        if not self._kept:
            return 1.0
        return float(np.abs(np.stack(self._kept) - seen).mean(axis=(1, 2, 3)).min())

    def reason(self, seen: Thumb, margin: float | None, now_s: float) -> str | None:
        """Why to keep a frame; None to let it go.

        Args:
            seen: Its `thumb`.
            margin: Difference of its two highest probabilities; None without a model.
            now_s: Monotonic now.
        """
        if not self._kept:
            return FIRST
        distance = self.distance(seen)
        if distance < self.rule.still:
            return None
        if distance >= self.rule.different:
            return DIFFERENT
        if margin is not None and margin < self.rule.low_margin:
            return LOW_MARGIN
        waited_s = float("inf") if self._last_s is None else now_s - self._last_s
        return TIME if self.rule.every_s is not None and waited_s >= self.rule.every_s else None

    def keep(self, seen: Thumb, now_s: float | None = None) -> None:
        """Remember a frame that was kept; without a time, one from an earlier run."""
        self._kept.append(seen)
        self._last_s = self._last_s if now_s is None else now_s
