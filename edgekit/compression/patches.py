"""What a layer's weights are multiplied with, read off at some of the places where it computes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgekit.compression.graph import Node

Array = npt.NDArray[np.float32]


def places(batch: Array, out_shape: tuple[int, ...], count: int, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """Draw output places.

    Args:
        batch: A layer's input, shape (n, ...).
        out_shape: Shape of its output, without the batch.
        count: How many, at most.
        rng: Draws them.

    Returns:
        Shape (count, 3): image, row, column; row and column are 0 for a dense layer.
    """
    height, width = out_shape[:2] if len(out_shape) == 3 else (1, 1)
    total = len(batch) * height * width
    flat = rng.choice(total, min(count, total), replace=False) if count < total else np.arange(total)
    return np.stack(np.unravel_index(flat, (len(batch), height, width)), axis=1)


def patches(node: Node, batch: Array, at: npt.NDArray[np.intp], kernel: tuple[int, int]) -> Array:
    """The inputs that meet the kernel at these places; padding is zero.

    Args:
        node: A convolution or a dense layer.
        batch: Its input, shape (n, height, width, channels) or (n, features).
        at: From `places`.
        kernel: Height and width of the kernel.

    Returns:
        float32, shape (places, taps, channels): taps in row order, 1 for a dense layer.
    """
    if batch.ndim == 2:
        return batch[at[:, 0]][:, None, :]
    image, row, column = at.T
    strides, (down, right) = node.options["strides"], node.options["dilations"]
    top, left = (
        _before(size, length, stride, step, node.options["padding"])
        for size, length, stride, step in zip(batch.shape[1:3], kernel, strides, (down, right), strict=True)
    )
    found = np.zeros((len(at), kernel[0] * kernel[1], batch.shape[3]), np.float32)
    for tap, (i, j) in enumerate(np.ndindex(*kernel)):
        y, x = row * strides[0] - top + i * down, column * strides[1] - left + j * right
        inside = (y >= 0) & (y < batch.shape[1]) & (x >= 0) & (x < batch.shape[2])
        found[inside, tap] = batch[image[inside], y[inside], x[inside]]
    return found


def _before(size: int, length: int, stride: int, step: int, padding: str) -> int:
    """How many zeros stand before the first row: TensorFlow's SAME puts the odd one behind."""
    if padding == "VALID":
        return 0
    reach = (length - 1) * step + 1
    return max(0, (-(-size // stride) - 1) * stride + reach - size) // 2
