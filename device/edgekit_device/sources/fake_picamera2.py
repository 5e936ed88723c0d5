"""picamera2 without a Pi, behind ``picamera:fake``: the part of it that EdgeKit uses, with its own manners.

Formats are named as picamera2 names them, from the last byte to the first: an array of "RGB888" holds B, G, R and
one of "BGR888" holds R, G, B. What the real one refuses is refused: an odd size, a format it does not have, a
capture before start, a second opening, a request that is never released (after `buffer_count` of them).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, ClassVar

import numpy as np

from edgekit_device.sources.frame import SourceOptions
from edgekit_device.sources.synthetic import SyntheticSource
from edgekit_device.vision import Pixels

Scene = Callable[[int, int, int], Pixels]


class FakeRequest:
    """One completed request."""

    def __init__(self, owner: Picamera2, pixels: Pixels) -> None:
        self._owner, self._pixels = owner, pixels
        self._stamp_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self._released = False

    def make_array(self, name: str) -> Pixels:
        """A copy of the picture, uint8, shape (H, W, 3), in the configured format's order."""
        if name != "main":
            raise RuntimeError(f"stream {name!r} is not configured")
        return self._pixels.copy()

    def get_metadata(self) -> dict[str, Any]:
        """The sensor's time of the frame, nanoseconds of the boot clock."""
        return {"SensorTimestamp": self._stamp_ns}

    def release(self) -> None:
        """Give the buffer back."""
        if not self._released:
            self._released = True
            self._owner.give_back()


class Picamera2:
    """One CSI camera.

    Attributes:
        scene: What it sees, as RGB: a function of (height, width, frame number); None shows moving blocks.
    """

    scene: ClassVar[Scene | None] = None
    _held: ClassVar[bool] = False

    @staticmethod
    def global_camera_info() -> list[dict[str, Any]]:
        """The one camera."""
        return [
            {"Model": "imx708", "Location": 2, "Rotation": 180, "Id": "/base/soc/i2c0mux/i2c@1/imx708@1a", "Num": 0}
        ]

    def __init__(self, camera_num: int = 0) -> None:
        if camera_num != 0:
            raise IndexError("list index out of range")
        if Picamera2._held:
            raise RuntimeError("Camera __init__ sequence did not complete.")
        Picamera2._held = True
        self._config: dict[str, Any] | None = None
        self._started = threading.Event()
        self._buffers: threading.Semaphore | None = None
        self._inner: SyntheticSource | None = None
        self._count = 0

    def create_video_configuration(self, **parts: Any) -> dict[str, Any]:
        """A configuration to be given to `configure`."""
        return {"buffer_count": 6, "queue": True, **parts}

    def configure(self, config: dict[str, Any]) -> None:
        """Take a configuration."""
        main = config["main"]
        if main["format"] not in ("RGB888", "BGR888"):
            raise RuntimeError(f"Format {main['format']} not supported here")
        if main["size"][0] % 2 or main["size"][1] % 2:
            raise RuntimeError("width and height should be even")
        self._config = config

    def start(self) -> None:
        """Start the stream."""
        if self._config is None:
            raise RuntimeError("Camera has not been configured")
        width, height = self._config["main"]["size"]
        self._inner = SyntheticSource(
            SourceOptions(width=width, height=height, fps=self._config["controls"]["FrameRate"])
        )
        self._buffers = threading.Semaphore(self._config["buffer_count"])
        self._started.set()

    def capture_request(self, wait: bool = True) -> Any:
        """A job whose result is the next completed request."""
        if not self._started.is_set():
            raise RuntimeError("Camera not started")
        job: Future[FakeRequest] = Future()
        threading.Thread(target=self._complete, args=(job,), daemon=True).start()
        return job.result() if wait else job

    def _complete(self, job: Future[FakeRequest]) -> None:
        if self._buffers is None or self._inner is None or self._config is None:
            return
        while not self._buffers.acquire(timeout=0.1):
            if not self._started.is_set():
                return  # A job of a stopped camera never completes.
        frame = self._inner.read()
        if frame is None:
            return
        height, width = frame.raw.shape[:2]
        scene = type(self).scene
        rgb = frame.raw if scene is None else scene(height, width, self._count)
        self._count += 1
        in_memory = rgb if self._config["main"]["format"] == "BGR888" else np.ascontiguousarray(rgb[..., ::-1])
        job.set_result(FakeRequest(self, in_memory))

    def wait(self, job: Future[FakeRequest], timeout: float | None = None) -> FakeRequest:
        """The result of a job; TimeoutError when it takes longer."""
        return job.result(timeout)

    def give_back(self) -> None:
        """Take one buffer back."""
        if self._buffers is not None:
            self._buffers.release()

    def stop(self) -> None:
        """Stop the stream."""
        self._started.clear()
        if self._inner is not None:
            self._inner.close()

    def close(self) -> None:
        """Give the camera back."""
        self.stop()
        Picamera2._held = False
