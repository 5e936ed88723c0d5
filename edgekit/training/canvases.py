"""Every picture decoded once: a square a little larger than the model's input, so that augmentation has room to move.

The middle of a canvas is, byte for byte, what a board makes of the photo.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.training.cache import Cache
from edgekit.training.folders import Sample
from edgekit.training.grouping import exif_time
from edgekit_device import vision
from edgekit_device.contract.errors import ShapeError
from edgekit_device.contract.preprocess import Preprocess
from edgekit_device.image_headers import read_image_file

Pixels = npt.NDArray[np.uint8]
Progress = Callable[[str, int, int], None]
_VERSION = 1  # Of the layout; a change makes old caches useless.


@dataclass(frozen=True)
class Canvases:
    """Pictures in memory-mapped form.

    Attributes:
        pixels: uint8, shape (n, side, side, channels), in the model's colour order.
        height: Of the model's input, in pixels.
        width: Of the model's input, in pixels.
        problems: One per picture: why it cannot be used, or an empty string.
        times: Time of exposure as ISO text, or an empty string.
        key: Names these bytes.
    """

    pixels: Pixels
    height: int
    width: int
    problems: tuple[str, ...]
    times: tuple[str, ...]
    key: str

    def view(self, at: int) -> Pixels:
        """What a board sees of picture `at`: shape (height, width, channels)."""
        top, left = self.margins
        seen: Pixels = self.pixels[at, top : top + self.height, left : left + self.width]
        return seen

    @property
    def margins(self) -> tuple[int, int]:
        """Rows above and columns left of what a board sees."""
        return (self.pixels.shape[1] - self.height) // 2, (self.pixels.shape[2] - self.width) // 2

    def views(self, places: Sequence[int] | npt.NDArray[np.int64]) -> Pixels:
        """Views of several pictures, shape (n, height, width, channels)."""
        if not len(places):
            return np.zeros((0, self.height, self.width, self.pixels.shape[3]), np.uint8)
        return np.stack([self.view(int(at)) for at in places])


def canvas_size(spec: Preprocess) -> tuple[int, int]:
    """Height and width of a canvas in pixels."""
    if spec.crop == "squash":
        return spec.height, spec.width
    # Even margins on both sides, so that the middle is the middle.
    return tuple(side + 2 * round((side / spec.crop_fraction - side) / 2) for side in (spec.height, spec.width))  # type: ignore[return-value]


def make_canvases(
    samples: Sequence[Sample], spec: Preprocess, cache: Cache, *, progress: Progress | None = None
) -> Canvases:
    """Decode pictures, or take what an earlier run decoded.

    Args:
        samples: The pictures.
        spec: The model's preprocessing (float input).
        cache: Where to keep the result.
        progress: Called with ("decode", done, total).
    """
    key = _key(samples, spec)
    height, width = canvas_size(spec)

    def fill(folder: Path) -> dict[str, Any]:
        shape = (len(samples), height, width, spec.channels)
        pixels = np.lib.format.open_memmap(folder / "pixels.npy", mode="w+", dtype=np.uint8, shape=shape)
        problems, times = [], []
        with ThreadPoolExecutor(max_workers=4) as pool:
            for at, (canvas, problem, at_time) in enumerate(pool.map(lambda s: _canvas(s, spec), samples)):
                if canvas is not None:
                    pixels[at] = canvas
                problems.append(problem)
                times.append(at_time)
                if progress:
                    progress("decode", at + 1, len(samples))
        pixels.flush()
        return {"problems": problems, "times": times}

    folder, facts = cache.folder(f"pixels-{key}", fill)
    pixels = np.load(folder / "pixels.npy", mmap_mode="r")
    return Canvases(pixels, spec.height, spec.width, tuple(facts["problems"]), tuple(facts["times"]), key)


def _key(samples: Sequence[Sample], spec: Preprocess) -> str:
    text = f"{_VERSION};{sorted(spec.to_json().items())};" + ";".join(sample.sha256 for sample in samples)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _canvas(sample: Sample, spec: Preprocess) -> tuple[Pixels | None, str, str]:
    try:
        data = read_image_file(sample.path)
        if hashlib.sha256(data).hexdigest() != sample.sha256:
            return None, "changed while it was read", ""
        photo = vision.decode_image(data)
    except (OSError, ShapeError) as cause:
        return None, getattr(cause, "strerror", None) or str(cause), ""
    taken: datetime | None = exif_time(data)
    return draw_canvas(photo, spec), "", taken.isoformat() if taken else ""


def draw_canvas(photo: Pixels, spec: Preprocess) -> Pixels:
    """The canvas of one photo.

    Args:
        photo: RGB, uint8, shape (H, W, 3).
        spec: The model's preprocessing.

    Returns:
        uint8, shape (*canvas_size(spec), spec.channels).
    """
    channels = spec.channels
    plain = replace(spec, mean=(0.0,) * channels, std=(1.0,) * channels, dtype="uint8", scale=1.0, zero_point=0)
    seen: Pixels = vision.to_model_input(photo, plain)[0]
    height, width = canvas_size(spec)
    if (height, width) == (spec.height, spec.width):
        return seen
    whole: Pixels = vision.to_model_input(photo, replace(plain, crop_fraction=1.0, height=height, width=width))[
        0
    ].copy()
    top, left = (height - spec.height) // 2, (width - spec.width) // 2
    whole[top : top + spec.height, left : left + spec.width] = seen
    return whole
