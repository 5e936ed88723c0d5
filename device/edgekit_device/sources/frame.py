"""What every source delivers, and what it promises."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

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
        faults: Fault specifications, e.g. ``freeze@5s``.
        photos: What `sample` plays: RGB, uint8, shape (H, W, 3) each.
    """

    loop: bool = False
    realtime: bool = False
    width: int = 640
    height: int = 480
    fps: float = 30.0
    seed: int = 0
    faults: tuple[str, ...] = ()
    photos: tuple[Pixels, ...] = ()


class Source(Protocol):
    """A source of frames, read by one thread.

    Attributes:
        live: Whether frames come at the world's pace; then the latest frame wins. A file that is not played in
            real time waits for inference instead, so that every frame counts.
        pace_s: Seconds between frames of a live source.
    """

    live: bool
    pace_s: float

    def read(self) -> Frame | None:
        """Wait for the next frame; None at the end.

        Raises:
            SourceBrokenError: The source cannot deliver any more.
        """
        ...

    def close(self) -> None:
        """Give the device or file back. Harmless when called twice."""
        ...


class Pacer:
    """Keeps a generated or filed source at its frame rate, on the monotonic clock."""

    def __init__(self, pace_s: float) -> None:
        self.pace_s = pace_s
        self._due_s: float | None = None

    def wait(self) -> None:
        """Sleep until the next frame is due; a late reader is not made to catch up."""
        now = time.monotonic()
        if self._due_s is None or now - self._due_s > 1.0:
            self._due_s = now
        elif self._due_s > now:
            time.sleep(self._due_s - now)
        self._due_s += self.pace_s
