"""Pinning the input scale, so that the grid of the input tensor is the grid of the pixels.

A converter takes the input's scale from the smallest and the largest value it is shown. Shown the whole range of a
pixel, (x - 127) / 128 gives scale 1/128 and zero point -1 exactly, and a board subtracts 128 or nothing at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from edgekit.errors import ConversionError
from edgekit_device import vision
from edgekit_device.contract.preprocess import Preprocess
from edgekit_device.infer.flatbuffer import ModelInfo
from edgekit_device.vision import Pixels

# Steps between the smallest and the largest value of each type; int16 is symmetric in TFLite.
_LOWEST = {"int8": -128, "uint8": 0}
# The converter computes in float32 and float64 by turns: one part in a million is far below a tenth of a quantum.
SCALE_TOLERANCE = 1e-6


def input_range(preprocess: Preprocess) -> tuple[float, float]:
    """The smallest and the largest value that a normalised pixel can have, over all channels."""
    table = vision.lookup_table(preprocess.quantised("float32", 0.0, 0))
    assert table is not None
    return float(table.min()), float(table.max())


def expected_input(preprocess: Preprocess, dtype: str) -> tuple[float, int]:
    """Scale and zero point of a pinned input; (0.0, 0) for float32.

    TFLite's grid always holds zero, so a range on one side of it is stretched to it.
    """
    low, high = input_range(preprocess)
    low, high = min(low, 0.0), max(high, 0.0)
    if dtype == "float32":
        return 0.0, 0
    if dtype == "int16":
        return max(-low, high) / 32767, 0
    scale = (high - low) / 255
    return scale, round(_LOWEST[dtype] - low / scale)


def span_all_levels(samples: Sequence[Pixels], preprocess: Preprocess) -> Iterator[Pixels]:
    """The same samples, together reaching the smallest and the largest value that a pixel can have.

    Where they do not reach it by themselves, the one darkest pixel is made black and the one brightest white, in the
    channel that decides: the least change that does it, and far from anything a photo would not contain.

    Args:
        samples: uint8, shape (H, W, C).
        preprocess: The model's preprocessing.

    Yields:
        As many arrays, copies where they were changed.
    """
    table = vision.lookup_table(preprocess.quantised("float32", 0.0, 0))
    assert table is not None
    changes: list[tuple[int, int, int, int, int]] = []
    for channel, level in ((int(table[0].argmin()), 0), (int(table[255].argmax()), 255)):
        found = [_nearest(pixels[..., channel], level) for pixels in samples]
        index = int(np.argmin([distance for distance, _, _ in found]))
        _, row, column = found[index]
        changes.append((index, row, column, channel, level))
    for index, pixels in enumerate(samples):
        own = [change[1:] for change in changes if change[0] == index]
        changed = pixels.copy() if own else pixels
        for row, column, channel, level in own:
            changed[row, column, channel] = level
        yield changed


def _nearest(plane: Pixels, level: int) -> tuple[int, int, int]:
    """(distance in levels, row, column) of the pixel nearest to black or white.

    White is looked for from the end, so that in a plain image the two are not the same pixel.
    """
    distance = np.abs(plane.astype(np.int16) - level).ravel()
    at = int(distance.argmin()) if level == 0 else distance.size - 1 - int(distance[::-1].argmin())
    return int(distance[at]), at // plane.shape[1], at % plane.shape[1]


def check_pin(info: ModelInfo, preprocess: Preprocess) -> None:
    """Refuse a model whose input grid is not the pixels' own.

    Raises:
        ConversionError: Another scale or zero point.
    """
    tensor = info.main.inputs[0]
    if tensor.dtype == "float32":
        return
    scale, zero_point = expected_input(preprocess, tensor.dtype)
    found = (tensor.scales[0], tensor.zero_points[0]) if tensor.scales else (0.0, 0)
    if abs(found[0] - scale) > SCALE_TOLERANCE * scale or found[1] != zero_point:
        raise ConversionError(
            "quantise",
            f"the input has scale {found[0]!r} and zero point {found[1]}, and pixels need {scale!r} and {zero_point}",
            "show the converter the whole range of pixels",
        )
