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

import numpy as np

from edgekit_device.contract.errors import SourceBrokenError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgekit_device.sources.frame import Frame, Source

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
    "vanish": "the device is gone",
    "eof": "the stream ends",
}
_SPEC = re.compile(r"(?P<kind>[a-z]+)@(?P<start>\d+(\.\d+)?)s?(\+(?P<length>\d+(\.\d+)?)s?)?")
_SLOW_S = 10.0
_STEP_S = 0.05


@dataclass(frozen=True)
class Fault:
    """One fault: what, from when, until when, in seconds since the source was opened."""

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


class FaultySource:
    """A source with faults laid over it."""

    def __init__(self, inner: Source, faults: Sequence[str]) -> None:
        self._inner = inner
        self._faults = [parse_fault(text) for text in faults]
        self._opened_s = time.monotonic()
        self._closed = threading.Event()
        self._last: Frame | None = None
        self.live, self.pace_s = inner.live, inner.pace_s

    def _active(self) -> Fault | None:
        age_s = time.monotonic() - self._opened_s
        return next((f for f in self._faults if f.start_s <= age_s < f.end_s), None)

    def read(self) -> Frame | None:
        """The next frame, or what a broken camera gives instead."""
        fault = self._active()
        if fault is None:
            self._last = self._inner.read()
            return self._last
        if fault.kind in ("block", "stall"):
            while not self._closed.is_set() and (fault.kind == "block" or self._active() is fault):
                self._closed.wait(_STEP_S)
            return self._inner.read()
        if fault.kind in ("vanish", "eof"):
            raise SourceBrokenError("fault", f"{fault.kind}: {KINDS[fault.kind]}")
        if fault.kind == "slow":
            until = time.monotonic() + _SLOW_S
            while not self._closed.is_set() and time.monotonic() < until and self._active() is fault:
                self._closed.wait(_STEP_S)
        frame = self._inner.read()
        return frame if frame is None else self._broken(fault.kind, frame)

    def _broken(self, kind: str, frame: Frame) -> Frame:
        raw = frame.raw
        if kind == "freeze" and self._last is not None:
            return replace(self._last, captured_s=frame.captured_s, sequence=frame.sequence)
        if kind == "black":
            return replace(frame, raw=np.zeros_like(raw))
        if kind == "tear":
            torn = raw.copy()
            torn[raw.shape[0] // 2 :] = 128
            return replace(frame, raw=torn)
        if kind == "resize":
            return replace(frame, raw=np.ascontiguousarray(raw[::2, ::2]))
        if kind == "empty":
            return replace(frame, raw=raw[:0])
        if kind == "timejump":
            return replace(frame, captured_s=frame.captured_s - 3600.0)
        return frame

    def close(self) -> None:
        """Close the source below; a blocked read ends."""
        self._closed.set()
        self._inner.close()
