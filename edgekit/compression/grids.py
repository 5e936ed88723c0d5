"""Ways to write real numbers with few bits: what each leaves of them, and what it weighs.

Every function takes a matrix and returns what is left of it after rounding; the rows are what shares a grid, so a
tensor is one row and a layer with a grid a channel has as many rows as channels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float32]
Grid = Callable[[Matrix, int], Matrix]

_BINS = 4096
_ROUNDS = 12
_BREAKS = np.linspace(0.2, 0.8, 7)
_SCALE_BYTES, _ZERO_BYTES, _CENTER_BYTES = 4, 1, 4


def symmetric(rows: Matrix, bits: int) -> Matrix:
    """Equal steps around zero, as TFLite's weights have: levels -(2^(b-1) - 1) to 2^(b-1) - 1."""
    levels = 2 ** (bits - 1) - 1
    return _stepped(rows, np.abs(rows).max(axis=1, keepdims=True) / levels)


def affine(rows: Matrix, bits: int) -> Matrix:
    """Equal steps from minimum to maximum, zero among them, as TFLite's activations have."""
    low = np.minimum(rows.min(axis=1, keepdims=True), 0)
    high = np.maximum(rows.max(axis=1, keepdims=True), 0)
    step = _whole((high - low) / (2**bits - 1))
    zero = np.rint(-low / step)
    steps = np.clip(np.rint(rows / step) + zero, 0, 2**bits - 1)
    return np.asarray((steps - zero) * step, np.float32)


def piecewise(rows: Matrix, bits: int) -> Matrix:
    """Fine steps near zero and coarse ones in the tails, half of the levels each.

    Source: J. Fang et al., "Post-training piecewise linear quantization for deep neural networks", ECCV 2020; the
    break is searched on a grid, where they assume a normal distribution.
    """
    peak = np.abs(rows).max(axis=1, keepdims=True)
    best, least = symmetric(rows, bits), np.full(len(rows), np.inf)
    size = np.abs(rows)
    # One bit says which region; the tails spend another on their side, as the sign does in the middle.
    levels = 2 ** (bits - 2) - 1
    if levels < 1:  # Two bits have no room for regions.
        return best
    for share in _BREAKS:
        edge = peak * share
        middle = _stepped(rows, edge / levels)
        tail = np.sign(rows) * (edge + _stepped(size - edge, (peak - edge) / levels))
        tried = np.where(size <= edge, np.clip(middle, -edge, edge), tail)
        error = np.square(tried - rows, dtype=np.float64).sum(axis=1)
        better = error < least
        best, least = np.where(better[:, None], tried, best), np.where(better, error, least)
    return np.asarray(best, np.float32)


def clustered(rows: Matrix, bits: int) -> Matrix:
    """2^b values of its own for each row, where k-means puts them.

    Source: S. Han et al., "Deep compression", ICLR 2016 (section 3). Lloyd's rounds run on a histogram of 4096 bins,
    from equal steps between minimum and maximum as there.
    """
    return np.stack([_clustered(row, 2**bits) for row in rows]).astype(np.float32)


GRIDS: dict[str, Grid] = {
    "symmetric": symmetric,
    "affine": affine,
    "piecewise": piecewise,
    "clustered": clustered,
}


def size_bytes(grid: str, values: int, rows: int, bits: int) -> int:
    """Bytes of the packed integers and of what it takes to read them.

    Args:
        grid: A key of GRIDS.
        values: How many numbers.
        rows: How many grids they share.
        bits: Of each number.
    """
    extra = {
        "symmetric": _SCALE_BYTES,
        "affine": _SCALE_BYTES + _ZERO_BYTES,
        "piecewise": 3 * _SCALE_BYTES,
        "clustered": 2**bits * _CENTER_BYTES,
    }
    return -(-values * bits // 8) + rows * int(extra[grid])


def _stepped(rows: Matrix, step: Matrix) -> Matrix:
    step = _whole(step)
    return np.asarray(np.rint(rows / step) * step, np.float32)


def _whole(step: Matrix) -> Matrix:
    return np.where(step > 0, step, 1.0)


def _clustered(row: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.float32]:
    low, high = float(row.min()), float(row.max())
    if low == high:
        return row
    weight, edges = np.histogram(row, _BINS, (low, high))
    place = (edges[:-1] + edges[1:]) / 2
    centers = np.linspace(low, high, count)
    for _ in range(_ROUNDS):
        owner = np.searchsorted((centers[:-1] + centers[1:]) / 2, place)
        total = np.bincount(owner, weight, count)
        moved = np.where(total > 0, np.bincount(owner, weight * place, count) / np.maximum(total, 1), centers)
        if np.allclose(moved, centers, rtol=0, atol=(high - low) * 1e-6):
            break
        centers = np.sort(moved)
    found: npt.NDArray[np.float32] = centers[np.searchsorted((centers[:-1] + centers[1:]) / 2, row)].astype(np.float32)
    return found
