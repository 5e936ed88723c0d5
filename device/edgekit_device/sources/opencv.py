"""One cv2.VideoCapture, read by one thread and closed by any."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from edgekit_device.vision import Pixels


class VideoCapture(Protocol):
    """The part of cv2.VideoCapture that sources use."""

    def isOpened(self) -> bool:  # noqa: N802
        """Whether frames can be asked for."""
        ...

    def read(self) -> tuple[bool, Pixels | None]:
        """(whether a frame came, BGR uint8 (H, W, 3))."""
        ...

    def get(self, prop: int) -> float:
        """A property; 0 where it is unknown."""
        ...

    def set(self, prop: int, value: float) -> bool:
        """Set a property."""
        ...

    def release(self) -> None:
        """Give the device back."""
        ...


class ClosableCapture:
    """Releases a capture exactly once, and never while a read is inside it: OpenCV crashes on that."""

    def __init__(self, capture: VideoCapture) -> None:
        self.capture = capture
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._released = False

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closing.is_set()

    def read(self) -> tuple[bool, Pixels | None]:
        """The next frame as OpenCV gives it; (False, None) once closed."""
        with self._lock:
            if not self.closed:
                try:
                    found, pixels = self.capture.read()
                finally:
                    self._release_if_closing()
                return (False, None) if self.closed else (found, pixels)
        return False, None

    def _release_if_closing(self) -> None:
        if self.closed and not self._released:
            self._released = True
            self.capture.release()

    def close(self) -> None:
        """Release now, or leave it to the read that is under way: nobody waits for a native call."""
        self._closing.set()
        if self._lock.acquire(blocking=False):
            try:
                self._release_if_closing()
            finally:
                self._lock.release()
