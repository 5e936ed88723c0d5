"""Seeded moving pictures for machines without a camera, paced like one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from edgekit_device.contract.errors import UsageError
from edgekit_device.sources.frame import Frame, Pacer, Source, SourceOptions

if TYPE_CHECKING:
    from edgekit_device.vision import Pixels

_BLOCK = 16


class SyntheticSource:
    """Coloured blocks that drift by one pixel a frame, with sensor noise in one row, so that no two are equal."""

    live = True

    def __init__(self, options: SourceOptions) -> None:
        if options.width < _BLOCK or options.height < _BLOCK:
            raise UsageError(f"a synthetic frame is at least {_BLOCK} x {_BLOCK} pixels")
        if options.fps <= 0:
            raise UsageError("a synthetic source needs a frame rate above 0")
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

    def read(self) -> Frame:
        """The next frame; never ends."""
        self._pacer.wait()
        shift = self._count % self._period
        pixels = self._scene[:, shift : shift + self._width].copy()
        pixels[0] = self._random.integers(0, 256, pixels.shape[1:], np.uint8)
        frame = Frame(pixels, "RGB", time.monotonic(), self._count)
        self._count += 1
        return frame

    def close(self) -> None:
        """Nothing to give back."""


def open_synthetic(argument: str, options: SourceOptions) -> Source:
    """``synthetic`` or ``synthetic:WIDTHxHEIGHT@FPS``.

    Raises:
        UsageError: The argument is not of that form.
    """
    if argument:
        size, _, rate = argument.partition("@")
        try:
            width, height = (int(n) for n in size.split("x"))
            options = SourceOptions(
                width=width, height=height, fps=float(rate) if rate else options.fps, seed=options.seed
            )
        except ValueError as cause:
            raise UsageError(f"synthetic:{argument}: write synthetic:640x480@30") from cause
    return SyntheticSource(options)
