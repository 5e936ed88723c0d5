"""Counts and times of one window, in the worker: only what really happened, on the monotonic clock."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any

from edgekit_device.contract.telemetry import QUANTILES, STEPS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgekit_device.infer.interpreter import Scores

BINS = 16
_SHARES = (0.50, 0.95, 0.99)


def quantiles_ms(values_s: Iterable[float]) -> dict[str, float | None]:
    """p50, p95 and p99 by the nearest-rank rule, in milliseconds; None without values.

    Nearest rank names a latency that some frame really had, which an interpolated one does not.
    """
    ordered = sorted(values_s)
    if not ordered:
        return dict.fromkeys(QUANTILES, None)
    ranks = (max(0, math.ceil(share * len(ordered)) - 1) for share in _SHARES)
    return {name: round(ordered[rank] * 1000, 3) for name, rank in zip(QUANTILES, ranks, strict=True)}


def histogram_bin(value: float) -> int:
    """Which of BINS equal bins of [0, 1] a value falls into; 1.0 belongs to the last."""
    return min(BINS - 1, max(0, int(value * BINS)))


def uncertainty(scores: Scores) -> tuple[float, float]:
    """How sure a score vector is.

    Args:
        scores: float32, shape (classes,); taken as probabilities after clipping below 0 and dividing by the sum.

    Returns:
        (entropy / ln(classes), difference of the two highest probabilities), both in [0, 1].
    """
    import numpy as np

    # Of a thousand quantised scores a dozen are not 0, and the logarithm of those is all that is asked for.
    positive = scores[scores > 0].astype(np.float64)
    total = float(positive.sum())
    # The maximum is not a number where any score is not.
    if scores.size < 2 or total <= 0 or not math.isfinite(total + float(scores.max())):
        return (0.0, 1.0) if scores.size == 1 else (1.0, 0.0)
    shares = positive / total
    top = np.partition(shares, -2)[-2:] if shares.size > 1 else (0.0, float(shares[0]))
    entropy = -float((shares * np.log(shares)).sum()) / math.log(scores.size)
    return min(1.0, max(0.0, entropy)), float(top[1] - top[0])


@dataclass
class Window:
    """What happened since the last Reading. All times are monotonic seconds."""

    started_s: float
    captured: int = 0
    served: int = 0
    inferences: int = 0
    dropped: int = 0
    seconds: dict[str, list[float]] = field(default_factory=lambda: {step: [] for step in STEPS})
    class_counts: dict[int, int] = field(default_factory=dict)
    entropy_hist: list[int] = field(default_factory=lambda: [0] * BINS)
    margin_hist: list[int] = field(default_factory=lambda: [0] * BINS)

    def summary(self, ended_s: float) -> dict[str, Any]:
        """The window's part of a Reading."""
        length_s = max(ended_s - self.started_s, 1e-9)
        return {
            "window_s": round(length_s, 3),
            "fps": round(self.served / length_s, 2),
            "capture_fps": round(self.captured / length_s, 2),
            "inference_fps": round(self.inferences / length_s, 2),
            "frames_dropped": self.dropped,
            "latency_ms": {step: quantiles_ms(values) for step, values in self.seconds.items()},
            "class_counts": {str(index): count for index, count in sorted(self.class_counts.items())},
            "entropy_hist": self.entropy_hist,
            "margin_hist": self.margin_hist,
        }


class Meter:
    """Counts frames from the capture thread and the inference loop; handed out and emptied once a window."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._window = Window(time.monotonic())

    def captured(self, dropped: int = 0) -> None:
        """One new frame arrived; `dropped` older ones were overwritten unseen."""
        with self._lock:
            self._window.captured += 1
            self._window.dropped += dropped

    def served(self, seconds: dict[str, float], scores: Scores, *, new: bool) -> None:
        """One inference is done.

        Args:
            seconds: Duration of each of STEPS.
            scores: float32, shape (classes,).
            new: Whether its frame had not been served before.
        """
        entropy, margin = uncertainty(scores)
        top = int(scores.argmax())
        with self._lock:
            window = self._window
            window.inferences += 1
            window.served += new
            for step, value in seconds.items():
                window.seconds[step].append(value)
            window.class_counts[top] = window.class_counts.get(top, 0) + 1
            window.entropy_hist[histogram_bin(entropy)] += 1
            window.margin_hist[histogram_bin(margin)] += 1

    def take(self) -> dict[str, Any]:
        """Close the window, return its summary and open the next."""
        now = time.monotonic()
        with self._lock:
            closed, self._window = self._window, Window(now)
        return closed.summary(now)


def empty_window(window_s: float) -> dict[str, Any]:
    """What a Reading says of a time in which no worker counted anything.

    Args:
        window_s: How long it was, seconds.
    """
    return {
        "window_s": round(window_s, 3),
        "fps": 0.0,
        "capture_fps": 0.0,
        "inference_fps": 0.0,
        "frames_dropped": 0,
        "latency_ms": {step: quantiles_ms(()) for step in STEPS},
        "class_counts": {},
        "entropy_hist": (0,) * BINS,
        "margin_hist": (0,) * BINS,
    }
