"""A network camera: RTSP through OpenCV's FFmpeg, over TCP, with the least delay and with time limits."""

from __future__ import annotations

import os
import re
import threading
import time
from urllib.parse import urlsplit

from edgekit_device.contract.errors import SourceBrokenError, SourceUnavailableError, UsageError
from edgekit_device.sources.frame import Frame, Source, SourceOptions
from edgekit_device.sources.opencv import ClosableCapture

# Under the watchdog's limit, so that a silent camera is named here and its worker lives on.
_OPEN_TIMEOUT_MS, _READ_TIMEOUT_MS = 5000, 4000
_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
_LOW_LATENCY = "rtsp_transport;tcp|fflags;nobuffer|flags;low_delay|max_delay;500000|reorder_queue_size;0"
_SCHEMES = ("rtsp", "rtsps")
_FORM = "write rtsp:rtsp://HOST/PATH, with a password as rtsp://USER:${NAME}@HOST/PATH from the variable NAME"
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
# FFmpeg's options travel in the environment, which two openings at a time would tear from each other.
_ENVIRONMENT = threading.Lock()


def stream_url(argument: str) -> str:
    """The address as it may be shown: a password is a variable's name in it, never a value.

    Raises:
        UsageError: Not an RTSP address, or one with a password in it.
    """
    url = f"rtsp:{argument}" if argument.startswith("//") else argument
    try:
        parts = urlsplit(url)
        host, password = parts.hostname, parts.password
    except ValueError:
        host = password = None
    if not host or parts.scheme not in _SCHEMES:
        raise UsageError(f"rtsp: this is no address of a stream; {_FORM}")
    if password and not _VARIABLE.fullmatch(password):
        raise UsageError(f"rtsp://{host}: a password does not belong on a command line or in telemetry; {_FORM}")
    return url


def with_secrets(url: str) -> str:
    """The address with each ``${NAME}`` replaced from the environment.

    Raises:
        SourceUnavailableError: A variable is not set.
    """
    for name in _VARIABLE.findall(url):
        if name not in os.environ:
            raise SourceUnavailableError(url, f"the variable {name} is not set; give it to the service's environment")
    return _VARIABLE.sub(lambda match: os.environ[match[1]], url)


class RtspSource:
    """One open stream."""

    live = True

    def __init__(self, argument: str, options: SourceOptions) -> None:
        import cv2

        self.place = self._name = stream_url(argument)
        self.device_id = None
        url = with_secrets(self._name)
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _OPEN_TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, _READ_TIMEOUT_MS]
        with _ENVIRONMENT:
            before = os.environ.get(_OPTIONS)
            os.environ[_OPTIONS] = before or _LOW_LATENCY
            try:
                capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG, limits)
            finally:
                os.environ.pop(_OPTIONS) if before is None else os.environ.__setitem__(_OPTIONS, before)
        if not capture.isOpened():
            raise SourceUnavailableError(self._name, "does not answer or refuses; check address, user and network")
        stated = float(capture.get(cv2.CAP_PROP_FPS))
        self.pace_s = 1.0 / (stated if 1.0 <= stated <= 240 else options.fps)
        self._capture = ClosableCapture(capture)
        self._count = 0

    def read(self) -> Frame | None:
        """The next frame; None once closed.

        Raises:
            SourceBrokenError: The stream ended or fell silent.
        """
        began = time.monotonic()
        found, pixels = self._capture.read()
        now = time.monotonic()
        if self._capture.closed:
            return None
        if not found or pixels is None:
            silent = (now - began) * 1000 > _READ_TIMEOUT_MS * 0.9
            raise SourceBrokenError(self._name, "fell silent" if silent else "the stream ended")
        self._count += 1
        return Frame(pixels, "BGR", now, self._count - 1)

    def close(self) -> None:
        """Hang up."""
        self._capture.close()


def open_rtsp(argument: str, options: SourceOptions) -> Source:
    """``rtsp:rtsp://HOST/PATH``, or ``rtsp://HOST/PATH`` as it is.

    Raises:
        UsageError: Not an address of a stream.
        SourceUnavailableError: Nothing answers there in 5 s, or it refuses.
    """
    return RtspSource(argument, options)
