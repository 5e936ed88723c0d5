"""The capture thread: reads the source, hands the newest frame to inference, never waits for it."""

from __future__ import annotations

import threading
import time
import zlib
from typing import TYPE_CHECKING

from edgekit_device.contract.errors import SourceError

if TYPE_CHECKING:
    from edgekit_device.meter import Meter
    from edgekit_device.progress import Progress
    from edgekit_device.sources.frame import Frame, Source
    from edgekit_device.vision import Pixels

_SAMPLED_ROWS = 24


def fingerprint(pixels: Pixels) -> int:
    """A checksum over some rows: equal for a frozen picture, different where a sensor's noise moves one bit."""
    step = max(1, pixels.shape[0] // _SAMPLED_ROWS)
    return zlib.crc32(pixels[::step].tobytes())


class Capture(threading.Thread):
    """Owns a source.

    A live source overwrites the frame that nobody has taken: the latest wins, and the loss is counted. A file
    waits until its frame is taken: nothing is lost, and decoding overlaps inference by one frame.

    Attributes:
        error: Why the source ended, if it did not end by itself.
        ended: Set when no frame will come any more.
    """

    def __init__(self, source: Source, meter: Meter, progress: Progress) -> None:
        super().__init__(name="capture", daemon=True)
        self._source, self._meter, self._progress = source, meter, progress
        self._frame: Frame | None = None
        self._changed = threading.Condition()
        self._stopping = False
        self.error: SourceError | None = None
        self.ended = threading.Event()
        self._last_print: int | None = None

    def run(self) -> None:
        """Read until the source ends or fails."""
        try:
            while not self._stopping:
                self._progress.put("read_since_s", time.monotonic())
                frame = self._source.read()
                self._progress.put("read_since_s", 0.0)
                if frame is None:
                    break
                if self._source.live and self._is_frozen(frame):
                    continue
                self._hand_over(frame)
        except SourceError as error:
            self.error = error
        finally:
            self._progress.put("read_since_s", 0.0)
            with self._changed:
                self.ended.set()
                self._changed.notify_all()

    def _is_frozen(self, frame: Frame) -> bool:
        print_now = fingerprint(frame.raw)
        frozen, self._last_print = print_now == self._last_print, print_now
        return frozen

    def _hand_over(self, frame: Frame) -> None:
        now = time.monotonic()
        self._progress.put("frame_at_s", now)
        with self._changed:
            while not self._source.live and self._frame is not None and not self._stopping:
                self._changed.wait(0.5)
            dropped = self._frame is not None
            self._frame = frame
            self._changed.notify_all()
        self._meter.captured(int(dropped))

    def take(self, timeout_s: float) -> Frame | None:
        """The newest frame that was not taken yet; None after `timeout_s` or at the end."""
        with self._changed:
            if self._frame is None and not self.ended.is_set():
                self._changed.wait(timeout_s)
            frame, self._frame = self._frame, None
            self._changed.notify_all()
        return frame

    @property
    def finished(self) -> bool:
        """Whether the source has ended and every frame was taken."""
        with self._changed:
            return self.ended.is_set() and self._frame is None

    def stop(self) -> None:
        """Ask the thread to end after the read it is in."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
