"""The capture thread: reads the source, hands the newest frame to inference, never waits for it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edgekit_device.camera_health import TIME_BACK, WITHHELD, CameraHealth, State
from edgekit_device.contract.errors import EdgeKitError, SourceError, UsageError
from edgekit_device.lookout import Lookout
from edgekit_device.sources import JUDGED, is_device, open_source, split_source

if TYPE_CHECKING:
    from edgekit_device.meter import Meter
    from edgekit_device.progress import Progress
    from edgekit_device.sources.frame import Frame, Source, SourceOptions

_REOPEN_FIRST_S, _REOPEN_CAP_S = 0.25, 2.0


@dataclass(frozen=True)
class Device:
    """How to hold a camera that comes and goes.

    Attributes:
        opener: Opens it, given the name that it had when it was last open.
        report: Takes what becomes of it: `state`, `reason` and more, as `camera_state` reads it.
        pace_s: Seconds between frames that are expected before it says so itself.
        device_id: Its name from an earlier worker.
        judged: Whether its pictures are those of a camera, whose health they tell.
    """

    opener: Callable[[str | None], Source]
    report: Callable[..., None]
    pace_s: float
    device_id: str | None = None
    judged: bool = True


class Capture(threading.Thread):
    """Owns a source.

    A live source overwrites the frame that nobody has taken: the latest wins, and the loss is counted. A file
    waits until its frame is taken: nothing is lost, and decoding overlaps inference by `depth` frames. A device is
    opened here, and again when it goes away; a file that ends is over.

    Attributes:
        depth: Frames of a file that may wait to be taken, at least 1; a live source always keeps one.
        error: Why the source ended, if it did not end by itself.
        ended: Set when no frame will come any more.
        live: Whether frames come at the world's pace.
        pace_s: Seconds between frames of a live source.
    """

    def __init__(self, source: Source | None, meter: Meter, progress: Progress, device: Device | None = None) -> None:
        super().__init__(name="capture", daemon=True)
        if source is None and device is None:
            raise UsageError("a capture needs a source or a device")
        self._source, self._device, self._meter, self._progress = source, device, meter, progress
        self.live = device is not None or (source is not None and source.live)
        self.pace_s = device.pace_s if source is None and device is not None else getattr(source, "pace_s", 0.0)
        self._device_id = device.device_id if device else None
        self._health, self._lookout = CameraHealth(self.pace_s), Lookout()
        self._judging = threading.Lock()
        self._frames: deque[Frame] = deque()
        self.depth = 1
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._wait_s = _REOPEN_FIRST_S
        self.error: SourceError | None = None
        self.ended = threading.Event()

    def run(self) -> None:
        """Read until the source ends or fails; a device, until told to stop."""
        try:
            while not self._stopping.is_set():
                frame = self._read_device() if self._device else self._read_file()
                if frame is not None:
                    self._take_in(frame)
                elif self._device is None:
                    break
        except SourceError as error:
            self.error = error
        finally:
            self._progress.put("read_since_s", 0.0)
            with self._changed:
                self.ended.set()
                self._changed.notify_all()

    def _read_file(self) -> Frame | None:
        return None if self._source is None else self._timed(self._source.read)

    def _timed(self, call: Callable[[], Any]) -> Any:
        """Run a call that may hang, where the watchdog sees it."""
        self._progress.put("read_since_s", time.monotonic())
        try:
            return call()
        finally:
            self._progress.put("read_since_s", 0.0)

    # -- a device --------------------------------------------------------------------------------------------

    def _read_device(self) -> Frame | None:
        """One frame, or None after a wait because there is none."""
        device = self._device
        try:
            if self._source is None:
                self._open()
            frame = self._read_file()
            if frame is not None:
                self._wait_s = _REOPEN_FIRST_S
                return frame
            reason = "the stream ended"
        except SourceError as error:
            reason = error.problem
        except EdgeKitError as error:
            reason = f"{type(error).__name__}: {error}"
        if device is not None and not self._stopping.is_set():
            with self._judging:
                self._say(self._health.gone(reason, time.monotonic()))
            self._close()
            self._stopping.wait(self._wait_s)
            self._wait_s = min(_REOPEN_CAP_S, self._wait_s * 2)
        return None

    def _open(self) -> None:
        device = self._device
        if device is None:
            return
        source: Source = self._timed(lambda: device.opener(self._device_id))
        self._source, self.pace_s = source, source.pace_s
        self._device_id = source.device_id or self._device_id
        with self._judging:
            self._health.opened(time.monotonic(), source.pace_s)
        device.report(state="opened", pace_s=source.pace_s, device_id=self._device_id, place=source.place)

    def _close(self) -> None:
        source, self._source = self._source, None
        if source is not None:
            try:
                self._timed(source.close)
            except Exception:  # noqa: S110 - a device that is gone may refuse even this, in its own words.
                pass

    def _say(self, state: State | None) -> None:
        if state is not None and self._device is not None:
            self._device.report(state=state.word, reason=state.reason, frames=self._health.frames)

    # -- a frame ---------------------------------------------------------------------------------------------

    def _take_in(self, frame: Frame) -> None:
        if not self.live:
            self._hand_over(frame)
            return
        now = time.monotonic()
        look = self._lookout.look(frame, now)
        if self._device is None or not self._device.judged:
            if look.new:
                self._hand_over(frame)
            return
        with self._judging:
            word, change = self._health.add(look)
            reopen = self._health.wants_reopening(now)
        self._say(change)
        if look.new and word not in WITHHELD:
            self._hand_over(replace(frame, captured_s=now) if word == TIME_BACK else frame)
        if reopen:
            self._close()

    def _hand_over(self, frame: Frame) -> None:
        now = time.monotonic()
        self._progress.put("frame_at_s", now)
        with self._changed:
            while not self.live and len(self._frames) >= self.depth and not self._stopping.is_set():
                self._changed.wait(0.5)
            dropped = len(self._frames) if self.live else 0
            if self.live:
                self._frames.clear()
            self._frames.append(frame)
            self._changed.notify_all()
        self._meter.captured(dropped)

    def take(self, timeout_s: float) -> Frame | None:
        """The next frame that was not taken yet, of a live source the newest; None after `timeout_s` or at the end."""
        with self._changed:
            if not self._frames and not self.ended.is_set():
                self._changed.wait(timeout_s)
            frame = self._frames.popleft() if self._frames else None
            self._changed.notify_all()
        if frame is None and self._device is not None and self._device.judged:
            # Whoever waits for frames is the only one awake while a read hangs.
            with self._judging:
                silence = self._health.silence(time.monotonic())
            self._say(silence)
        return frame

    @property
    def trouble(self) -> str | None:
        """What the camera suffers from now, e.g. ``camera_frozen``; None while it is well or unknown."""
        return None if self._health.word in (None, "ok") else self._health.word

    @property
    def finished(self) -> bool:
        """Whether the source has ended and every frame was taken."""
        with self._changed:
            return self.ended.is_set() and not self._frames

    def stop(self) -> None:
        """Ask the thread to end after the read it is in."""
        with self._changed:
            self._stopping.set()
            self._changed.notify_all()


def capture_for(
    text: str, options: SourceOptions, meter: Meter, progress: Progress, report: Callable[..., None]
) -> Capture:
    """The capture thread of a source by its name, not started yet.

    Args:
        text: ``kind:argument``.
        options: How it is to deliver.
        meter: Counts what comes.
        progress: Shows the watchdog where the thread is.
        report: Takes what becomes of a device.

    Raises:
        SourceUnavailableError: A file that cannot be opened; a device is waited for instead.
        UsageError: No such source.
    """
    if not is_device(text):
        return Capture(open_source(text, options), meter, progress)
    options = replace(options, epoch_s=options.epoch_s or time.monotonic())

    def opener(device_id: str | None) -> Source:
        return open_source(text, replace(options, device_id=device_id))

    device = Device(opener, report, 1.0 / options.fps, options.device_id, judged=split_source(text)[0] in JUDGED)
    return Capture(None, meter, progress, device)
