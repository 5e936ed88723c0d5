"""When a worker is stuck, and how long to wait before the next one. Pure: times in, words out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgekit_device.progress import Snapshot


@dataclass(frozen=True)
class Limits:
    """How long each step may take, seconds.

    Attributes:
        start_s: From the start of the process to its first "ready".
        open_edgetpu_s: From the moment the worker turns to the Edge TPU to "ready".
        infer_s: One inference.
        read_s: One read of a live source, beside its own pace.
        read_again_s: The same while a camera is known to be stalled: it may be back at any moment, and only a new
            opening finds out.
        backoff_first_s: Wait before the second try of a worker that never served.
        backoff_cap_s: Longest wait between tries; the resting state that keeps trying.
    """

    start_s: float = 60.0
    open_edgetpu_s: float = 7.0
    infer_s: float = 6.0
    read_s: float = 6.0
    read_again_s: float = 4.0
    backoff_first_s: float = 0.25
    backoff_cap_s: float = 30.0


def stuck(look: Snapshot, now_s: float, *, live: bool, pace_s: float, limits: Limits) -> str | None:
    """Name what a serving worker is stuck in; None while it moves.

    Args:
        look: The worker's progress page.
        now_s: Monotonic now.
        live: Whether the source is live; a file may wait for inference as long as it likes.
        pace_s: Seconds between frames of the source.
        limits: The limits.
    """
    if look.infer_since_s and now_s - look.infer_since_s > limits.infer_s:
        return f"inference_hang: one inference has run for {now_s - look.infer_since_s:.1f} s"
    if live and look.read_since_s and now_s - look.read_since_s > limits.read_s + 2 * pace_s:
        return f"camera_stalled: one read has not returned for {now_s - look.read_since_s:.1f} s"
    return None


def backoff_s(failures: int, limits: Limits) -> float:
    """Wait before the next try.

    Args:
        failures: How many workers in a row ended without having served one frame.
        limits: The limits.
    """
    if failures == 0:
        return 0.0
    return float(min(limits.backoff_cap_s, limits.backoff_first_s * 2 ** min(failures - 1, 20)))
