"""A folder of pictures, in name order."""

from __future__ import annotations

import time
from pathlib import Path

from edgekit_device import vision
from edgekit_device.contract.errors import ShapeError, SourceBrokenError, SourceUnavailableError
from edgekit_device.image_headers import read_image_file
from edgekit_device.sources.frame import Anonymous, Frame, Pacer, Source, SourceOptions

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff"})


class ImagesSource(Anonymous):
    """Every readable picture of a folder once, or for ever with ``loop``; unreadable ones are skipped.

    Attributes:
        skipped: Names of the files that could not be decoded.
    """

    def __init__(self, folder: Path, options: SourceOptions) -> None:
        self._name = f"images:{folder}"
        if not folder.is_dir():
            raise SourceUnavailableError(self._name, "there is no such folder")
        self._files = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)
        if not self._files:
            raise SourceUnavailableError(self._name, f"holds no picture ({', '.join(sorted(SUFFIXES))})")
        self.live = options.realtime
        self.pace_s = 1.0 / options.fps
        self._pacer = Pacer(self.pace_s if options.realtime else 0.0)
        self._loop = options.loop
        self._at = self._count = 0
        self.skipped: list[str] = []

    def read(self) -> Frame | None:
        """The next picture, upright; None after the last.

        Raises:
            SourceBrokenError: Not one file of the folder could be decoded.
        """
        while not self._pacer.closed:
            if self._at == len(self._files):
                if self._count == 0:
                    raise SourceBrokenError(self._name, f"none of {len(self._files)} pictures could be read")
                if not self._loop:
                    return None
                self._at = 0
            file = self._files[self._at]
            self._at += 1
            try:
                pixels = vision.decode_image(read_image_file(file))
            except (ShapeError, OSError):
                self.skipped.append(file.name)
                continue
            self._pacer.wait()
            frame = Frame(pixels, "RGB", time.monotonic(), self._count)
            self._count += 1
            return frame
        return None

    def close(self) -> None:
        """End a read that waits."""
        self._pacer.close()


def open_images(argument: str, options: SourceOptions) -> Source:
    """``images:DIR``.

    Raises:
        SourceUnavailableError: No such folder, or no picture in it.
    """
    return ImagesSource(Path(argument or "."), options)
