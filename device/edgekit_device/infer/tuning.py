"""How many interpreter threads: the fewest that hold the camera's pace, else the fastest. Pure but for the measure."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# Measured at 30 frames/s, 1, 2 and 4 threads cost 19, 22 and 26 ms of processor a frame and all hold the pace.
BUDGET_SHARE = 0.7
ROUNDS, WARM_UP = 8, 2


def choose_threads(measure: Callable[[int], float], most: int, pace_s: float | None) -> tuple[int, dict[int, float]]:
    """Choose a number of threads.

    Args:
        measure: Seconds of one inference with that many threads, slowest of some rounds.
        most: Never more.
        pace_s: Seconds between frames of a live source; None for a file, which is to be as fast as can be.

    Returns:
        (threads, seconds by number of threads measured).
    """
    measured: dict[int, float] = {}
    count = 1
    while count <= most:
        measured[count] = measure(count)
        if pace_s is not None and measured[count] <= BUDGET_SHARE * pace_s:
            return count, measured
        count *= 2
    return min(measured, key=lambda n: measured[n]), measured


def slowest_of(call: Callable[[], object], rounds: int = ROUNDS, warm_up: int = WARM_UP) -> float:
    """Seconds of the slowest but one of some rounds, after a warm-up: a stray interruption is not a verdict."""
    for _ in range(warm_up):
        call()
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return sorted(taken)[-2]
