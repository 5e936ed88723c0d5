"""Seeded moving pictures for machines without a camera, paced like one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from edgekit_device.sources.frame import Anonymous, Frame, Pacer, Source, SourceOptions, synthetic_options

if TYPE_CHECKING:
    from edgekit_device.vision import Pixels

_BLOCK = 16


class SyntheticSource(Anonymous):
    """Coloured blocks that drift by one pixel a frame, with sensor noise in one row, so that no two are equal."""

    live = True

    def __init__(self, options: SourceOptions) -> None:
        self.pace_s = 1.0 / options.fps
        self._width = options.width
        self._random = np.random.default_rng(options.seed)
        rows, columns = -(-options.height // _BLOCK), -(-options.width // _BLOCK) + 1
        blocks = self._random.integers(0, 256, (rows, columns, 3), np.uint8)
        scene = blocks.repeat(_BLOCK, axis=0).repeat(_BLOCK, axis=1)[: options.height]
        self._scene: Pixels = np.ascontiguousarray(np.concatenate([scene, scene[:, : options.width]], axis=1))
        self._period = scene.shape[1]
        self._pacer = Pacer(self.pace_s)
        self._count = 0

    def read(self) -> Frame | None:
        """The next frame; None once it is closed."""
        self._pacer.wait()
        if self._pacer.closed:
            return None
        shift = self._count % self._period
        pixels = self._scene[:, shift : shift + self._width].copy()
        pixels[0] = self._random.integers(0, 256, pixels.shape[1:], np.uint8)
        frame = Frame(pixels, "RGB", time.monotonic(), self._count)
        self._count += 1
        return frame

    def close(self) -> None:
        """End a read that waits."""
        self._pacer.close()


def open_synthetic(argument: str, options: SourceOptions) -> Source:
    """``synthetic`` or ``synthetic:WIDTHxHEIGHT@FPS``.

    Raises:
        UsageError: The argument is not of that form.
    """
    return SyntheticSource(synthetic_options(argument, options))
