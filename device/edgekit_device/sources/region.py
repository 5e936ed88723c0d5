"""The part of the picture that matters, cut out as a view: no pixel is copied."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgekit_device.contract.errors import SourceBrokenError, UsageError

if TYPE_CHECKING:
    from edgekit_device.sources.frame import Frame, Source


@dataclass(frozen=True)
class Region:
    """A rectangle, from the upper left corner; in pixels, or as shares of the frame where all four are <= 1."""

    x: float
    y: float
    width: float
    height: float

    @property
    def in_fractions(self) -> bool:
        """Whether the numbers are shares of the frame's width and height."""
        return max(self.x, self.y, self.width, self.height) <= 1.0

    def box(self, frame_height: int, frame_width: int) -> tuple[int, int, int, int] | None:
        """The rectangle in one frame.

        Args:
            frame_height: In pixels.
            frame_width: In pixels.

        Returns:
            (top, left, bottom, right) in pixels, clipped to the frame; None where nothing of it is left.
        """
        across, down = (frame_width, frame_height) if self.in_fractions else (1, 1)
        left, top = round(self.x * across), round(self.y * down)
        right = min(frame_width, round((self.x + self.width) * across))
        bottom = min(frame_height, round((self.y + self.height) * down))
        return (top, left, bottom, right) if top < bottom and left < right else None


def parse_region(text: str) -> Region:
    """Read ``X,Y,W,H``.

    Raises:
        UsageError: Not four numbers, a negative one, or an empty rectangle.
    """
    try:
        x, y, width, height = (float(part) for part in text.split(","))
        region = Region(x, y, width, height)
        good = min(x, y) >= 0 and min(width, height) > 0 and max(x, y, width, height) < 1e6
    except ValueError:
        good = False
    if not good:
        raise UsageError(f"unknown region {text!r}; write X,Y,W,H in pixels (160,0,320,480) or shares (0.25,0,0.5,1)")
    return region


class RegionSource:
    """A source of which only one region is delivered."""

    def __init__(self, inner: Source, text: str) -> None:
        self._inner, self._text, self._region = inner, text, parse_region(text)
        self.live, self.pace_s = inner.live, inner.pace_s

    @property
    def device_id(self) -> str | None:
        """Of the source below."""
        return self._inner.device_id

    @property
    def place(self) -> str | None:
        """Of the source below."""
        return self._inner.place

    def read(self) -> Frame | None:
        """The region of the next frame; a frame without pixels passes as it is, to be named further on.

        Raises:
            SourceBrokenError: The region lies outside of the frame, or the source below broke.
        """
        frame = self._inner.read()
        if frame is None or frame.raw.ndim < 2 or 0 in frame.raw.shape:
            return frame
        height, width = frame.raw.shape[:2]
        box = self._region.box(height, width)
        if box is None:
            raise SourceBrokenError(f"region {self._text}", f"lies outside of the {width}x{height} picture; mend --roi")
        top, left, bottom, right = box
        return replace(frame, raw=frame.raw[top:bottom, left:right])

    def close(self) -> None:
        """Close the source below."""
        self._inner.close()
