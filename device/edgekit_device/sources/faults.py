"""What goes wrong with cameras, on command: wraps any live source and breaks it as hardware breaks.

A specification is ``KIND@START`` or ``KIND@START+LENGTH``, times in seconds, e.g. ``freeze@5s+10s``. Without a
length the fault lasts.
"""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgekit_device.contract.errors import SourceBrokenError, SourceUnavailableError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgekit_device.sources.frame import Frame, Source, SourceOptions

KINDS = {
    "freeze": "the same picture again and again",
    "black": "a black picture",
    "tear": "the lower half is missing, as in a cut JPEG",
    "resize": "another frame size",
    "empty": "a frame of zero bytes",
    "timejump": "capture times that run backwards",
    "slow": "one frame in ten seconds",
    "stall": "reads that return nothing until the fault is over",
    "block": "a read that never returns",
    "vanish": "the device is gone; camera:fake comes back under another number",
    "eof": "the stream ends, at every read",
}
_SPEC = re.compile(r"(?P<kind>[a-z]+)@(?P<start>\d+(\.\d+)?)s?(\+(?P<length>\d+(\.\d+)?)s?)?")
_SLOW_S = 10.0
_STEP_S = 0.05


@dataclass(frozen=True)
class Fault:
    """One fault: what, from when, until when, in seconds since the epoch of the faults."""

    kind: str
    start_s: float
    end_s: float


def parse_fault(text: str) -> Fault:
    """Read one specification.

    Raises:
        UsageError: Not of the form, or no such kind.
    """
    match = _SPEC.fullmatch(text)
    if not match or match["kind"] not in KINDS:
        raise UsageError(f"unknown fault {text!r}; write KIND@5s or KIND@5s+10s with KIND one of {', '.join(KINDS)}")
    start = float(match["start"])
    return Fault(match["kind"], start, start + float(match["length"]) if match["length"] else float("inf"))


def active_fault(faults: Sequence[Fault], age_s: float) -> Fault | None:
    """The first fault that is on at an age."""
    return next((f for f in faults if f.start_s <= age_s < f.end_s), None)


def refuse_while_gone(options: SourceOptions) -> None:
    """A device that has vanished cannot be opened again before it is back.

    Raises:
        SourceUnavailableError: A ``vanish`` is on.
    """
    if options.epoch_s is None:
        return
    fault = active_fault([parse_fault(text) for text in options.faults], time.monotonic() - options.epoch_s)
    if fault is not None and fault.kind == "vanish":
        raise SourceUnavailableError("fault", f"vanish: {KINDS['vanish']}")


class FaultySource:
    """A source with faults laid over it."""

    def __init__(self, inner: Source, options: SourceOptions) -> None:
        self._inner = inner
        self._faults = [parse_fault(text) for text in options.faults]
        self._epoch_s = time.monotonic() if options.epoch_s is None else options.epoch_s
        self._closed = threading.Event()
        self._last: Frame | None = None
        self.live, self.pace_s = inner.live, inner.pace_s

    @property
    def device_id(self) -> str | None:
        """Of the source below."""
        return self._inner.device_id

    @property
    def place(self) -> str | None:
        """Of the source below."""
        return self._inner.place

    def _active(self) -> Fault | None:
        return active_fault(self._faults, time.monotonic() - self._epoch_s)

    def _sleep(self, fault: Fault, seconds: float, *, past_the_end: bool = False) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and (past_the_end or self._active() is fault):
            if self._closed.wait(_STEP_S):
                return

    def read(self) -> Frame | None:
        """The next frame, or what a broken camera gives instead.

        Raises:
            SourceBrokenError: The device is gone.
        """
        fault = self._active()
        if fault is None:
            self._last = self._inner.read()
            return self._last
        if fault.kind in ("block", "stall"):
            self._sleep(fault, float("inf"), past_the_end=fault.kind == "block")
        elif fault.kind == "vanish":
            raise SourceBrokenError("fault", f"vanish: {KINDS['vanish']}")
        elif fault.kind == "eof":
            return None
        elif fault.kind == "slow":
            self._sleep(fault, _SLOW_S)
        frame = self._inner.read()
        return frame if frame is None or self._closed.is_set() else self._broken(fault.kind, frame)

    def _broken(self, kind: str, frame: Frame) -> Frame:
        raw = frame.raw
        if kind == "freeze":
            # A camera that froze before its first picture still has one to repeat.
            self._last = self._last or frame
            return replace(self._last, captured_s=frame.captured_s, sequence=frame.sequence)
        if kind == "black":
            return replace(frame, raw=raw * 0)
        if kind == "tear":
            torn = raw.copy()
            torn[raw.shape[0] // 2 :] = 128
            return replace(frame, raw=torn)
        if kind == "resize":
            return replace(frame, raw=raw[::2, ::2].copy())
        if kind == "empty":
            return replace(frame, raw=raw[:0])
        if kind == "timejump":
            return replace(frame, captured_s=frame.captured_s - 3600.0)
        return frame

    def close(self) -> None:
        """Close the source below; a blocked read ends."""
        self._closed.set()
        self._inner.close()
