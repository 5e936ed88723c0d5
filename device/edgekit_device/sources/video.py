"""A video file, through OpenCV."""

from __future__ import annotations

import time
from pathlib import Path

from edgekit_device.contract.errors import SourceBrokenError, SourceUnavailableError
from edgekit_device.sources.frame import Anonymous, Frame, Pacer, Source, SourceOptions
from edgekit_device.sources.opencv import ClosableCapture

_DEFAULT_FPS = 30.0
# A container often states a few frames more than can be decoded; fewer than this share is a broken file.
_WHOLE = 0.9


class VideoSource(Anonymous):
    """Every frame of a file once, or for ever with ``loop``; at its own pace with ``realtime``."""

    def __init__(self, path: Path, options: SourceOptions) -> None:
        import cv2

        self._name = f"video:{path}"
        if not path.is_file():
            raise SourceUnavailableError(self._name, "there is no such file")
        self._path, self._loop = path, options.loop
        capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
        if not capture.isOpened():
            raise SourceUnavailableError(self._name, "is not a video that OpenCV can read")
        stated = float(capture.get(cv2.CAP_PROP_FPS))
        self.pace_s = 1.0 / (stated if 0.1 <= stated <= 1000 else _DEFAULT_FPS)
        self._stated_frames = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.live = options.realtime
        self._pacer = Pacer(self.pace_s if options.realtime else 0.0)
        self._capture = ClosableCapture(capture)
        self._count = self._in_round = 0
        self._rewind = cv2.CAP_PROP_POS_FRAMES

    def read(self) -> Frame | None:
        """The next frame; None at the end.

        Raises:
            SourceBrokenError: The file ends long before the length that it states.
        """
        found, pixels = self._capture.read()
        if self._capture.closed:
            return None
        if not found or pixels is None:
            if self._in_round < self._stated_frames * _WHOLE or self._in_round == 0:
                raise SourceBrokenError(
                    self._name, f"broken after {self._in_round} of {self._stated_frames} frames; copy it again"
                )
            if not self._loop:
                return None
            self._in_round = 0
            self._capture.capture.set(self._rewind, 0)
            return self.read()
        self._pacer.wait()
        frame = Frame(pixels, "BGR", time.monotonic(), self._count)
        self._count += 1
        self._in_round += 1
        return frame

    def close(self) -> None:
        """Close the file; a read that waits for its frame's time ends."""
        self._pacer.close()
        self._capture.close()


def open_video(argument: str, options: SourceOptions) -> Source:
    """``video:FILE``.

    Raises:
        SourceUnavailableError: No such file, or not a video.
    """
    return VideoSource(Path(argument), options)
