"""A USB camera: V4L2 through OpenCV, MJPG, the smallest buffer, found again under another number."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Protocol

from edgekit_device.contract.errors import SourceBrokenError, SourceUnavailableError
from edgekit_device.sources.frame import Frame, Source, SourceOptions
from edgekit_device.sources.opencv import ClosableCapture, VideoCapture
from edgekit_device.sources.video_devices import VideoDevice, choose_device, list_devices

if TYPE_CHECKING:
    from edgekit_device.vision import Pixels

FAKE = "fake"
# OpenCV waits 10 s for a frame by itself, longer than the watchdog; it reads this at its first wait.
_SELECT_TIMEOUT = ("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "3")
# A cut JPEG does not decode; a few in a row are a bad cable, this many are a camera that delivers nothing.
_FAILED_READS = 30


class VideoDevices(Protocol):
    """The cameras of one machine."""

    def devices(self) -> list[VideoDevice]:
        """Those that are plugged in."""
        ...

    def open(self, path: str, options: SourceOptions) -> VideoCapture:
        """Open one; a device that refuses is returned unopened."""
        ...


class LinuxVideoDevices:
    """The cameras of this machine."""

    def devices(self) -> list[VideoDevice]:
        """Those that the kernel and udev name."""
        return list_devices()

    def open(self, path: str, options: SourceOptions) -> VideoCapture:
        """Open one with the wanted size and rate.

        MJPG first, because uncompressed frames of more than 640 x 480 do not fit USB 2 at 30 a second, and the
        format has to be known before the size is asked for.
        """
        import cv2

        os.environ.setdefault(*_SELECT_TIMEOUT)
        capture: VideoCapture = cv2.VideoCapture(path, cv2.CAP_V4L2)
        for prop, value in (
            (cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG")),
            (cv2.CAP_PROP_FRAME_WIDTH, options.width),
            (cv2.CAP_PROP_FRAME_HEIGHT, options.height),
            (cv2.CAP_PROP_FPS, options.fps),
            (cv2.CAP_PROP_BUFFERSIZE, 1),
            # 1 promises BGR, whatever the camera's own format is.
            (cv2.CAP_PROP_CONVERT_RGB, 1),
        ):
            capture.set(prop, value)
        return capture


def _refusal(path: str) -> str:
    if not os.access(path, os.R_OK | os.W_OK):
        return f"{path} may not be opened by this user; sudo usermod -aG video $USER, then log in again"
    return f"{path} cannot be opened; another program may hold it: fuser {path}"


class CameraSource:
    """One open camera.

    Attributes:
        device_id: What it is called, whatever its number.
        place: ``/dev/videoN``.
    """

    live = True

    def __init__(self, wanted: str, options: SourceOptions, world: VideoDevices) -> None:
        self._name = f"camera:{wanted}"
        device = choose_device(world.devices(), wanted, options.device_id)
        capture = world.open(device.path, options)
        if not capture.isOpened():
            capture.release()
            raise SourceUnavailableError(self._name, _refusal(device.path))
        self.device_id, self.place = device.device_id, device.path
        stated = float(capture.get(5))  # cv2.CAP_PROP_FPS
        self.pace_s = 1.0 / (stated if 1.0 <= stated <= 1000 else options.fps)
        self._world, self._capture = world, ClosableCapture(capture)
        self._count = self._failed = 0

    def read(self) -> Frame | None:
        """The next frame, empty when one could not be decoded; None once closed.

        Raises:
            SourceBrokenError: The camera is gone, or delivers nothing any more.
        """
        found, pixels = self._capture.read()
        now = time.monotonic()
        if self._capture.closed:
            return None
        if found and pixels is not None:
            self._failed = 0
            return self._frame(pixels, now)
        self._failed += 1
        if all(device.path != self.place or device.device_id != self.device_id for device in self._world.devices()):
            raise SourceBrokenError(self._name, f"{self.place} is gone; plug the camera in again")
        if self._failed >= _FAILED_READS:
            raise SourceBrokenError(self._name, f"{self._failed} reads of {self.place} brought no picture")
        return self._frame(_nothing(), now)

    def _frame(self, pixels: Pixels, now_s: float) -> Frame:
        self._count += 1
        return Frame(pixels, "BGR", now_s, self._count - 1)

    def close(self) -> None:
        """Give the camera back."""
        self._capture.close()


def _nothing() -> Pixels:
    import numpy as np

    return np.empty((0, 0, 3), np.uint8)


def open_camera(argument: str, options: SourceOptions) -> Source:
    """``camera:N``, ``camera:/dev/v4l/by-id/LINK``, ``camera:name:NAME``, ``camera`` for the first; ``camera:fake``.

    Raises:
        SourceUnavailableError: No such camera, no permission, or another program holds it.
    """
    if argument == FAKE:
        from edgekit_device.sources.fake_video_devices import FakeVideoDevices

        return CameraSource("", options, FakeVideoDevices(options))
    return CameraSource(argument, options, LinuxVideoDevices())
