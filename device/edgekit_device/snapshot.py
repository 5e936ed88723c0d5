"""One picture on request, made in the worker: the only frame that ever leaves it, and only where the owner said so.

Serving is asked for a reference to one frame and goes on; drawing happens on a thread of its own.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from edgekit_device.contract.asking import MAX_PICTURE_BYTES
from edgekit_device.preview_picture import Caption, draw

if TYPE_CHECKING:
    from edgekit_device.sources.frame import Frame
    from edgekit_device.vision import Pixels

WAIT_S = 3.0
TALLEST_PX = 480
_TRIES = 4


class Snapshot:
    """Takes the next served frame and sends it as a JPEG.

    Args:
        send: Sends a message to the supervisor.
        allowed: Whether this board's owner allows pictures.
        trouble: What the camera suffers from now.

    Attributes:
        wanted: Whether `show` should be called for the next frame.
    """

    def __init__(
        self, send: Callable[..., None], *, allowed: bool = False, trouble: Callable[[], str | None] = lambda: None
    ) -> None:
        self._send, self._allowed, self._trouble = send, allowed, trouble
        self.wanted = False
        self._arrived = threading.Event()
        self._shown: tuple[Frame, dict[str, Any]] | None = None
        self._busy = threading.Lock()

    def take(self, number: str) -> None:
        """Answer with the next frame, soon; called by the thread that obeys commands.

        Args:
            number: Comes back with the picture.
        """
        if not self._allowed:
            self._send("picture", id=number, jpeg=None, reason="this worker was started without pictures")
            return
        threading.Thread(target=self._take, args=(number,), name="snapshot", daemon=True).start()

    def show(self, frame: Frame, now: dict[str, Any]) -> None:
        """Take a served frame; called by inference, only while one is wanted."""
        self.wanted = False
        self._shown = frame, dict(now)
        self._arrived.set()

    def _take(self, number: str) -> None:
        with self._busy:
            self._arrived.clear()
            self.wanted = True
            came = self._arrived.wait(WAIT_S)
            self.wanted = False
            shown, self._shown = self._shown, None
        if not came or shown is None:
            reason = f"no new frame for {WAIT_S:.0f} s" + (f": {why}" if (why := self._trouble()) else "")
            self._send("picture", id=number, jpeg=None, reason=reason)
            return
        frame, now = shown
        jpeg = picture(frame.raw, frame.order, Caption(now["label"], now["score"]))
        text = base64.b64encode(jpeg).decode() if jpeg else None
        self._send("picture", id=number, jpeg=text, reason=None if jpeg else "the picture is too large")


def picture(pixels: Pixels, order: str, caption: Caption) -> bytes | None:
    """A JPEG of at most MAX_PICTURE_BYTES; None where even a small one is larger.

    Args:
        pixels: uint8, shape (H, W, C), channels as `order` says; never written to.
        order: ``RGB``, ``BGR`` or ``GRAY``.
        caption: The words.
    """
    for step in range(_TRIES):
        # Whole steps, so that no interpolation is needed: the picture is made smaller again, and smoothly, by `draw`.
        stride = max(1, -(-pixels.shape[0] // (TALLEST_PX >> step)))
        jpeg = draw(pixels[::stride, ::stride], order, caption)
        if len(jpeg) <= MAX_PICTURE_BYTES:
            return jpeg
    return None
