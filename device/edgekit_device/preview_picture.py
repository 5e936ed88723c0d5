"""One preview picture: smaller, with label, score and rate drawn on it, as JPEG."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit_device import vision

if TYPE_CHECKING:
    from edgekit_device.vision import Pixels

WIDEST_PX = 480
_BAR_PX = 34
_QUALITY = 75
_EMPTY_SIZE = (480, 640)


@dataclass(frozen=True)
class Caption:
    """What is written on a picture; None is left out.

    Attributes:
        label: The decision.
        score: Its score, 0..1.
        fps: New frames served per second.
        trouble: What keeps new pictures from coming.
    """

    label: str | None = None
    score: float | None = None
    fps: float | None = None
    trouble: str | None = None

    @property
    def left(self) -> str:
        """What is seen, or what is wrong."""
        if self.trouble:
            return self.trouble
        if self.label is None:
            return "waiting for the first picture"
        return self.label if self.score is None else f"{self.label}  {self.score:.2f}"

    @property
    def right(self) -> str:
        """How fast."""
        return "" if self.fps is None else f"{self.fps:.1f} FPS"


def draw(pixels: Pixels | None, order: str, caption: Caption) -> bytes:
    """Make the JPEG.

    Args:
        pixels: uint8, shape (H, W, C), channels as `order` says; never written to. None is a dark picture.
        order: ``RGB``, ``BGR`` or ``GRAY``.
        caption: The words.
    """
    import cv2

    if pixels is None or 0 in pixels.shape:
        pixels, order = np.full((*_EMPTY_SIZE, 3), 32, np.uint8), "BGR"
    height, width = pixels.shape[:2]
    scale = min(1.0, WIDEST_PX / width)
    if scale < 1.0:
        # Area would be smoother; nearest to linear costs a tenth, and this is a picture to look at.
        pixels = cv2.resize(
            pixels, (round(width * scale), max(1, round(height * scale))), interpolation=cv2.INTER_LINEAR
        )
        pixels = pixels if pixels.ndim == 3 else pixels[..., None]
    bgr = vision.to_color(pixels, order, "BGR")
    page = np.full((bgr.shape[0] + _BAR_PX, max(bgr.shape[1], 320), 3), 24, np.uint8)
    page[: bgr.shape[0], : bgr.shape[1]] = bgr
    _write(cv2, page, caption)
    return bytes(cv2.imencode(".jpg", page, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes())


def _write(cv2: Any, page: Pixels, caption: Caption) -> None:
    font, size, base = cv2.FONT_HERSHEY_SIMPLEX, 0.55, page.shape[0] - 12
    right_px = cv2.getTextSize(caption.right, font, size, 1)[0][0]
    room = page.shape[1] - right_px - 30
    left = caption.left.encode("ascii", "replace").decode()
    while left and cv2.getTextSize(left, font, size, 1)[0][0] > room:
        left = left[:-1]
    color = (110, 160, 255) if caption.trouble else (240, 240, 240)
    cv2.putText(page, left, (10, base), font, size, color, 1, cv2.LINE_AA)
    cv2.putText(page, caption.right, (page.shape[1] - right_px - 10, base), font, size, (150, 220, 150), 1, cv2.LINE_AA)
