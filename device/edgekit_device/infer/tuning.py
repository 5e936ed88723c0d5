"""How many threads, in how many interpreters: what holds the source's pace, or is fastest. Pure but for the measure.

A number of threads in one interpreter is written ``4``; interpreters side by side with one thread each ``4x1``.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Measured at 30 frames/s, 1, 2 and 4 threads cost 19, 22 and 26 ms of processor a frame and all hold the pace.
BUDGET_SHARE = 0.7
ROUNDS, WARM_UP = 8, 2
# Another interpreter costs memory: it has to be worth it.
_WORTH = 0.97

THROUGHPUT, LATENCY = "throughput", "latency"
MODES = (THROUGHPUT, LATENCY)


class Layout(NamedTuple):
    """How the processor is used.

    Attributes:
        lanes: Interpreters side by side, each on a frame of its own.
        threads: Threads of each.
    """

    lanes: int
    threads: int

    def __str__(self) -> str:
        return str(self.threads) if self.lanes == 1 else f"{self.lanes}x{self.threads}"


def choose_layout(
    seconds: Callable[[int], float],
    rate_s: Callable[[Layout], float],
    most: int,
    *,
    pace_s: float | None,
    mode: str = THROUGHPUT,
) -> tuple[Layout, dict[str, float]]:
    """Choose how to use the processor.

    Args:
        seconds: Seconds of one inference with that many threads, slowest but one of some rounds.
        rate_s: Seconds per frame of a layout under full load.
        most: Never more threads, over all interpreters.
        pace_s: Seconds between frames of a live source; None for a file.
        mode: ``throughput``: hold a live source's pace with the fewest threads, or take as many frames of a file as
            can be; ``latency``: the shortest time from a frame to its result.

    Returns:
        (the layout, seconds by layout measured).
    """
    measured: dict[str, float] = {}
    if mode == LATENCY or pace_s is not None:
        threads, found = choose_threads(seconds, most, pace_s if mode == THROUGHPUT else None)
        measured.update({str(count): value for count, value in found.items()})
        if mode == LATENCY or (pace_s is not None and found[threads] <= pace_s):
            return Layout(1, threads), measured
    # A file, or a camera that no number of threads keeps up with.
    rates = {layout: rate_s(layout) for layout in layouts(most)}
    measured.update({str(layout): value for layout, value in rates.items()})
    single = min((layout for layout in rates if layout.lanes == 1), key=lambda layout: rates[layout])
    best = min(rates, key=lambda layout: rates[layout])
    return (best if rates[best] < _WORTH * rates[single] else single), measured


def layouts(most: int) -> list[Layout]:
    """What is worth a measurement: doubling threads in one interpreter, and one interpreter a core."""
    counts = [1 << power for power in range(most.bit_length()) if 1 << power <= most]
    return [Layout(1, count) for count in counts] + ([Layout(most, 1)] if most > 1 else [])


def choose_threads(measure: Callable[[int], float], most: int, pace_s: float | None) -> tuple[int, dict[int, float]]:
    """Choose a number of threads for one interpreter.

    Args:
        measure: Seconds of one inference with that many threads, slowest but one of some rounds.
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


def seconds_per_call(calls: Sequence[Callable[[], object]], rounds: int = ROUNDS) -> float:
    """Seconds per call when each of some calls is repeated in a thread of its own, all at once."""
    for call in calls:
        call()

    def repeat(call: Callable[[], object]) -> None:
        for _ in range(rounds):
            call()

    threads = [threading.Thread(target=repeat, args=(call,)) for call in calls[1:]]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    repeat(calls[0])
    for thread in threads:
        thread.join()
    return (time.perf_counter() - began) / (rounds * len(calls))
