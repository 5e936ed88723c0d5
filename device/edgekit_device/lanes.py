"""From frames to looks: one interpreter, or several side by side on frames of their own, results in the frames' order.

An interpreter with all threads waits for its slowest thread at every layer; interpreters with one thread each never
wait for one another. Which is faster is measured (`infer.tuning`); this module only runs what was chosen.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekit_device import vision

if TYPE_CHECKING:
    from edgekit_device.capture import Capture
    from edgekit_device.contract.preprocess import Preprocess
    from edgekit_device.infer.interpreter import Engine, Scores
    from edgekit_device.progress import Progress
    from edgekit_device.sources.frame import Frame

_IDLE_WAIT_S = 0.2
# A lane that runs ahead of a slow one may finish this many frames per lane before it waits: scores only, 4 KB each.
_AHEAD = 2


@dataclass(frozen=True)
class Look:
    """One frame, classified.

    Attributes:
        frame: What was looked at.
        scores: float32, shape (classes,).
        begun_s: Monotonic time at which preprocessing began.
        preprocess_s: Seconds of crop, resize, colour and quantisation.
        invoke_s: Seconds of inference.
    """

    frame: Frame
    scores: Scores
    begun_s: float
    preprocess_s: float
    invoke_s: float


def look_at(engine: Engine, spec: Preprocess, frame: Frame) -> Look:
    """Classify one frame, written straight into the interpreter's input."""
    begun = time.monotonic()
    engine.load(lambda out: vision.fill_model_input(frame.raw, spec, frame.order, out))
    prepared = time.monotonic()
    scores = engine.invoke()
    return Look(frame, scores, begun, prepared - begun, time.monotonic() - prepared)


class Lanes:
    """Takes frames from a capture and delivers a look for each.

    Args:
        engines: One interpreter a lane.
        spec: How frames become their input.
        deliver: Takes each look; called in the frames' order and never twice at a time.
        progress: Shows the watchdog since when the oldest inference runs.
    """

    def __init__(
        self, engines: Sequence[Engine], spec: Preprocess, deliver: Callable[[Look], None], progress: Progress
    ) -> None:
        self._engines, self._spec, self._deliver, self._progress = engines, spec, deliver, progress
        self._taking, self._clock = threading.Lock(), threading.Lock()
        self._begun_s = [0.0] * len(engines)
        self._delivered = threading.Condition()
        self._waiting: dict[int, Look] = {}
        self._taken = self._next = 0
        self._error: BaseException | None = None

    def run(self, capture: Capture, enough: Callable[[], bool]) -> None:
        """Serve until the source ends or it is enough; every frame taken is delivered.

        Raises:
            Exception: Whatever a lane raises.
        """
        others = [
            threading.Thread(target=self._drive, args=(lane, capture, enough), name=f"lane-{lane}", daemon=True)
            for lane in range(1, len(self._engines))
        ]
        for thread in others:
            thread.start()
        self._drive(0, capture, enough)
        for thread in others:
            thread.join()
        if self._error is not None:
            raise self._error

    def _drive(self, lane: int, capture: Capture, enough: Callable[[], bool]) -> None:
        try:
            while not enough() and self._error is None:
                taken = self._take(capture, enough)
                if taken is not None:
                    number, frame = taken
                    self._mark(lane, time.monotonic())
                    look = look_at(self._engines[lane], self._spec, frame)
                    self._mark(lane, 0.0)
                    self._put(number, look)
                elif capture.finished:
                    break
        except BaseException as error:
            self._error = error

    def _take(self, capture: Capture, enough: Callable[[], bool]) -> tuple[int, Frame] | None:
        with self._taking:
            with self._delivered:
                while self._taken - self._next >= _AHEAD * len(self._engines):
                    if enough() or self._error is not None:
                        return None
                    self._delivered.wait(_IDLE_WAIT_S)
            frame = capture.take(_IDLE_WAIT_S)
            if frame is None:
                return None
            self._taken += 1
            return self._taken - 1, frame

    def _put(self, number: int, look: Look) -> None:
        with self._delivered:
            self._waiting[number] = look
            while (look_now := self._waiting.pop(self._next, None)) is not None:
                self._deliver(look_now)
                self._next += 1
            self._delivered.notify_all()

    def _mark(self, lane: int, begun_s: float) -> None:
        """Say since when the oldest inference runs: one lane that hangs must show, however busy the others are."""
        with self._clock:
            self._begun_s[lane] = begun_s
            self._progress.put("infer_since_s", min((s for s in self._begun_s if s), default=0.0))
