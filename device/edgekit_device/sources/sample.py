"""A sample clip without a file: the bundle's own golden photos, panned like a slow camera move.

It plays only when asked for; a board without its camera never pretends to have one.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from edgekit_device.contract.errors import SourceUnavailableError
from edgekit_device.sources.frame import Anonymous, Frame, Pacer, Source, SourceOptions

if TYPE_CHECKING:
    from edgekit_device.vision import Pixels

SECONDS_PER_PHOTO = 2.0
_ZOOM = 0.9


def pan(photo: Pixels, share: float) -> Pixels:
    """The part of a photo that a slow pan shows.

    Args:
        photo: RGB, uint8, shape (H, W, 3).
        share: How far the pan is, 0..1: from the upper left to the lower right and back.

    Returns:
        uint8, shape (0.9 H, 0.9 W, 3), contiguous.
    """
    height, width = int(photo.shape[0] * _ZOOM), int(photo.shape[1] * _ZOOM)
    there = 1.0 - abs(2.0 * share - 1.0)
    top, left = round((photo.shape[0] - height) * there), round((photo.shape[1] - width) * there)
    return np.ascontiguousarray(photo[top : top + height, left : left + width])


class SampleSource(Anonymous):
    """Plays each photo for two seconds, for ever, at the wanted frame rate."""

    live = True

    def __init__(self, options: SourceOptions) -> None:
        if not options.photos:
            raise SourceUnavailableError("sample", "this bundle carries no golden photos to play")
        self._photos = options.photos
        self.pace_s = 1.0 / options.fps
        self._pacer = Pacer(self.pace_s)
        self._per_photo = max(2, round(SECONDS_PER_PHOTO * options.fps))
        self._count = 0

    def read(self) -> Frame | None:
        """The next frame; None once it is closed."""
        self._pacer.wait()
        if self._pacer.closed:
            return None
        photo = self._photos[self._count // self._per_photo % len(self._photos)]
        # A still between two steps of the pan would look frozen: one pixel carries the frame number.
        pixels = pan(photo, self._count % self._per_photo / self._per_photo)
        pixels[0, 0] = (self._count & 0xFF, self._count >> 8 & 0xFF, 0)
        frame = Frame(pixels, "RGB", time.monotonic(), self._count)
        self._count += 1
        return frame

    def close(self) -> None:
        """End a read that waits."""
        self._pacer.close()


def open_sample(argument: str, options: SourceOptions) -> Source:
    """``sample``.

    Raises:
        SourceUnavailableError: There are no photos to play.
    """
    return SampleSource(options)
