"""Where preview pictures are made: in a thread of its own, a few a second, each once for all who look.

Serving hands over a reference and goes on; while nobody looks nothing is drawn.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from edgekit_device.preview_picture import Caption, draw

if TYPE_CHECKING:
    from edgekit_device.sources.frame import Frame

PICTURES_PER_S = 5.0
_STALE_S = 2.0
_FIRST_FRAME_S = 0.5


class Shown(NamedTuple):
    """What was served last."""

    frame: Frame
    label: str | None
    score: float | None


class Studio(threading.Thread):
    """Draws and encodes, while somebody looks.

    Attributes:
        encoded: Pictures encoded since the start.
    """

    def __init__(self, trouble: Callable[[], str | None], pictures_per_s: float = PICTURES_PER_S) -> None:
        super().__init__(name="preview", daemon=True)
        self._trouble, self._pace_s = trouble, 1.0 / pictures_per_s
        self._changed = threading.Condition()
        self._lookers = 0
        self._shown: Shown | None = None
        self._shown_s = 0.0
        self._served = self._counted = 0
        self._counted_s = time.monotonic()
        self._fps: float | None = None
        self._picture: tuple[int, bytes] = (0, b"")
        self.encoded = 0
        self.closing = False

    def show(self, frame: Frame, label: str | None, score: float | None) -> None:
        """Take a served frame; called by inference for every one, so it only counts and keeps a reference."""
        now = time.monotonic()
        self._served += 1
        self._shown_s = now
        if now - self._counted_s >= 1.0:
            self._fps = (self._served - self._counted) / (now - self._counted_s)
            self._counted, self._counted_s = self._served, now
        if self._lookers:
            self._shown = Shown(frame, label, score)

    def look(self, change: int) -> None:
        """One more (1) or one less (-1) looks."""
        with self._changed:
            self._lookers += change
            if not self._lookers:
                self._shown = None  # A frame that nobody sees is memory.
            self._changed.notify_all()

    @property
    def newest(self) -> int:
        """Number of the newest picture."""
        return self._picture[0]

    def next_picture(self, after: int, timeout_s: float) -> tuple[int, bytes]:
        """(number, JPEG) of a picture newer than `after`; the newest there is after `timeout_s`."""
        with self._changed:
            self._changed.wait_for(lambda: self._picture[0] > after or self.closing, timeout_s)
            return self._picture

    def run(self) -> None:
        """Encode at most so many pictures a second."""
        looked_s = time.monotonic()
        while not self.closing:
            with self._changed:
                if not self._lookers:
                    self._changed.wait_for(lambda: self._lookers or self.closing)
                    looked_s = time.monotonic()
                    continue
            began = time.monotonic()
            if self._shown is None and began - looked_s < _FIRST_FRAME_S:
                time.sleep(0.01)  # A dark picture first, when the next frame is due at once, would only flicker.
                continue
            self._encode(began)
            time.sleep(max(0.0, self._pace_s - (time.monotonic() - began)))

    def _encode(self, now_s: float) -> None:
        shown, trouble, fps = self._shown, self._trouble(), self._fps
        if now_s - self._shown_s > _STALE_S and fps is not None:
            fps = 0.0
            trouble = trouble or f"no new picture for {now_s - self._shown_s:.0f} s"
        caption = Caption(shown.label if shown else None, shown.score if shown else None, fps, trouble)
        jpeg = draw(shown.frame.raw if shown else None, shown.frame.order if shown else "BGR", caption)
        with self._changed:
            self._picture = (self._picture[0] + 1, jpeg)
            self.encoded += 1
            self._changed.notify_all()

    def close(self) -> None:
        """End the thread and every stream."""
        with self._changed:
            self.closing = True
            self._changed.notify_all()
