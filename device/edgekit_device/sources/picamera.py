"""A CSI camera, through picamera2: OpenCV cannot open one.

picamera2 names formats from the last byte to the first: its "BGR888" arrays are R, G, B, and its "RGB888" arrays
are B, G, R.
"""

from __future__ import annotations

import threading
import time
from importlib import import_module
from typing import Any

from edgekit_device.contract.errors import SourceBrokenError, SourceUnavailableError
from edgekit_device.sources.frame import Frame, Source, SourceOptions

FAKE = "fake"
_FORMAT = "BGR888"
_STEP_S = 0.25
_SILENT_S = 4.0  # Under the watchdog's limit.


def find_picamera2(argument: str) -> Any:
    """The class Picamera2: the real one, or the shipped fake for ``picamera:fake``.

    Raises:
        SourceUnavailableError: picamera2 is not installed, or its numpy is not the one here.
    """
    module = "edgekit_device.sources.fake_picamera2" if argument == FAKE else "picamera2"
    try:
        return import_module(module).Picamera2
    except Exception as cause:  # An ABI clash with numpy is a ValueError, a missing libcamera an ImportError.
        raise SourceUnavailableError(
            "picamera",
            f"picamera2 cannot be used here ({type(cause).__name__}: {cause}); sudo apt install python3-picamera2, "
            "and make the venv with --system-site-packages",
        ) from cause


class PicameraSource:
    """One open CSI camera."""

    live = True

    def __init__(self, number: int, options: SourceOptions, picamera2: Any) -> None:
        self._name = f"picamera:{number}"
        try:
            cameras = picamera2.global_camera_info()
            if number >= len(cameras):
                raise SourceUnavailableError(
                    self._name, f"there are {len(cameras)} CSI cameras; check the ribbon cable: rpicam-hello --list"
                )
            self.device_id = str(cameras[number].get("Id", "")) or None
            self.place = str(cameras[number].get("Model", "")) or None
            self._camera = picamera2(number)
        except SourceUnavailableError:
            raise
        except Exception as cause:  # libcamera raises RuntimeError and IndexError, and its own.
            raise SourceUnavailableError(
                self._name, f"cannot be opened ({cause}); another program may hold it"
            ) from cause
        self.pace_s = 1.0 / options.fps
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._count = 0
        try:
            # Even sizes only; four buffers are picamera2's own choice for video, two keep the newest frame close.
            size = (options.width // 2 * 2, options.height // 2 * 2)
            self._camera.configure(
                self._camera.create_video_configuration(
                    main={"size": size, "format": _FORMAT},
                    controls={"FrameRate": options.fps},
                    buffer_count=3,
                    queue=False,
                )
            )
            self._camera.start()
        except Exception as cause:
            self._camera.close()
            raise SourceUnavailableError(self._name, f"cannot be started ({cause})") from cause

    def read(self) -> Frame | None:
        """The next frame; None once closed.

        Raises:
            SourceBrokenError: The camera fell silent or failed.
        """
        began = time.monotonic()
        try:
            job = self._camera.capture_request(wait=False)
            while not self._closed.is_set():
                try:
                    request = self._camera.wait(job, timeout=_STEP_S)
                except TimeoutError:
                    if time.monotonic() - began > _SILENT_S:
                        raise SourceBrokenError(self._name, f"no frame for {_SILENT_S:.0f} s") from None
                    continue
                try:
                    pixels, stamp_ns = request.make_array("main"), request.get_metadata().get("SensorTimestamp")
                finally:
                    request.release()
                self._count += 1
                return Frame(pixels, "RGB", _monotonic_s(stamp_ns), self._count - 1)
        except SourceBrokenError:
            raise
        except Exception as cause:
            if not self._closed.is_set():
                raise SourceBrokenError(self._name, f"{type(cause).__name__}: {cause}") from cause
        return None

    def close(self) -> None:
        """Stop the camera and give it back."""
        with self._lock:
            if self._closed.is_set():
                return
            self._closed.set()
            try:
                self._camera.stop()
            finally:
                self._camera.close()


def _monotonic_s(stamp_ns: int | None) -> float:
    """The sensor's time on the monotonic clock; libcamera stamps with the boot clock, which counts sleep as well."""
    now = time.monotonic()
    return now if stamp_ns is None else now - (time.clock_gettime(time.CLOCK_BOOTTIME) - stamp_ns / 1e9)


def open_picamera(argument: str, options: SourceOptions) -> Source:
    """``picamera`` or ``picamera:N``; ``picamera:fake`` is the shipped fake.

    Raises:
        SourceUnavailableError: No picamera2, no such camera, or it cannot be started.
    """
    number = int(argument) if argument.isdecimal() else 0
    return PicameraSource(number, options, find_picamera2(argument))
