"""What every source delivers, and what it promises."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from edgekit_device.contract.errors import UsageError

if TYPE_CHECKING:
    from edgekit_device.vision import Pixels


@dataclass(frozen=True)
class Frame:
    """One picture from a source.

    Attributes:
        raw: uint8, shape (H, W, C), channels as `order` says. Kept as the source delivers it, because a crop of
            224 x 224 is cheaper to recolour than a whole frame.
        order: ``RGB``, ``BGR`` or ``GRAY``.
        captured_s: Monotonic time of capture, seconds.
        sequence: Position in the source, from 0; a jump means that the source itself lost frames.
    """

    raw: Pixels
    order: str
    captured_s: float
    sequence: int

    @property
    def pixels(self) -> Pixels:
        """RGB or grey, uint8, shape (H, W, C)."""
        # Imported late: the supervisor knows options and frames by type, and has no use for OpenCV.
        from edgekit_device import vision

        return self.raw if self.order == "GRAY" else vision.to_color(self.raw, self.order, "RGB")


@dataclass(frozen=True)
class SourceOptions:
    """How a source is to deliver.

    Attributes:
        loop: Start again at the end of a file.
        realtime: Deliver a file at its own pace, as a camera would.
        width: Wanted frame width in pixels where the source can choose.
        height: Wanted frame height in pixels where the source can choose.
        fps: Wanted frames per second where the source can choose.
        seed: For generated pictures.
        roi: Region of interest, ``X,Y,W,H`` in pixels or as fractions; None is the whole frame.
        device_id: What the camera was called when it was last open, so that it is found under another number.
        faults: Fault specifications, e.g. ``freeze@5s``.
        epoch_s: Monotonic time from which fault times count; None counts from the opening. A worker that is
            started again gets the first one's, so that a fault ends when it was meant to.
        photos: What `sample` plays: RGB, uint8, shape (H, W, 3) each.
    """

    loop: bool = False
    realtime: bool = False
    width: int = 640
    height: int = 480
    fps: float = 30.0
    seed: int = 0
    roi: str | None = None
    device_id: str | None = None
    faults: tuple[str, ...] = ()
    epoch_s: float | None = None
    photos: tuple[Pixels, ...] = ()


def synthetic_options(argument: str, options: SourceOptions) -> SourceOptions:
    """Read ``WIDTHxHEIGHT@FPS``; an empty argument leaves the options as they are.

    Raises:
        UsageError: Not of that form, or smaller than 16 x 16.
    """
    if argument:
        size, _, rate = argument.partition("@")
        try:
            width, height = (int(n) for n in size.split("x"))
            options = replace(options, width=width, height=height, fps=float(rate) if rate else options.fps)
        except ValueError as cause:
            raise UsageError(f"synthetic:{argument}: write synthetic:640x480@30") from cause
    if not (16 <= options.width <= 8192 and 16 <= options.height <= 8192 and 0.01 <= options.fps <= 1000):
        raise UsageError("a synthetic frame has 16 to 8192 pixels each way and comes 0.01 to 1000 times a second")
    return options


class Source(Protocol):
    """A source of frames, read by one thread.

    Attributes:
        live: Whether frames come at the world's pace; then the latest frame wins. A file that is not played in
            real time waits for inference instead, so that every frame counts.
        pace_s: Seconds between frames of a live source.
        device_id: A name that stays when the device comes back under another number; None without one.
        place: Where the device is now, e.g. ``/dev/video0``; None where that says nothing.
    """

    live: bool
    pace_s: float

    @property
    def device_id(self) -> str | None:
        """See above."""
        ...

    @property
    def place(self) -> str | None:
        """See above."""
        ...

    def read(self) -> Frame | None:
        """Wait for the next frame; None at the end.

        Raises:
            SourceBrokenError: The source cannot deliver any more.
        """
        ...

    def close(self) -> None:
        """Give the device or file back; a read that waits in another thread ends. Harmless when called twice."""
        ...


class Anonymous:
    """What sources without a device of their own say about it."""

    @property
    def device_id(self) -> str | None:
        """None: there is no device to find again."""
        return None

    @property
    def place(self) -> str | None:
        """None: it is nowhere in particular."""
        return None


class Pacer:
    """Keeps a generated or filed source at its frame rate, on the monotonic clock."""

    def __init__(self, pace_s: float) -> None:
        self.pace_s = pace_s
        self._due_s: float | None = None
        self._closed = threading.Event()

    def close(self) -> None:
        """End the wait of a reader in another thread, now and from now on."""
        self._closed.set()

    @property
    def closed(self) -> bool:
        """Whether the source was closed."""
        return self._closed.is_set()

    def wait(self) -> None:
        """Sleep until the next frame is due; a late reader is not made to catch up."""
        now = time.monotonic()
        if self._due_s is None or now - self._due_s > 1.0:
            self._due_s = now
        elif self._due_s > now:
            self._closed.wait(self._due_s - now)
        self._due_s += self.pace_s
