"""Weights rounded one after the other, each rounding error answered by the weights that are still free.

For one output channel the error is (w - q)' H (w - q), H the second moment of the layer's inputs. Rounding input by
input, and shifting what is not rounded yet by the least-squares answer to the error so far, keeps it small: the
integers differ from the nearest ones, and the sum that the layer computes is closer. Source: E. Frantar et al.,
"OPTQ: accurate quantization for generative pre-trained transformers" (GPTQ), ICLR 2023 (algorithm 1, with
the inputs in order of falling second moment).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]

LEVELS = 127
_BLOCK = 128
_FEW = 0.75


def channel_scales(weights: Matrix, *, per_tensor: bool = False) -> Matrix:
    """The step of each channel's symmetric grid, as the quantiser will choose it: shape (channels, 1)."""
    peak = np.abs(weights).max(axis=1, keepdims=True)
    if per_tensor:
        peak = np.full_like(peak, peak.max())
    return np.where(peak > 0, peak, 1.0) / LEVELS


def nearest(weights: Matrix, scales: Matrix) -> Matrix:
    """Every weight to the nearest step, by itself: what a quantiser does."""
    return np.clip(np.rint(weights / scales), -LEVELS, LEVELS) * scales


def shares_values(weights: Matrix) -> bool:
    """Whether the weights of a layer share few values, channel by channel, as the pass `cluster` leaves them.

    Zeros do not count: pruned weights share theirs.
    """
    filled = [row[row != 0] for row in weights]
    whole = sum(len(row) for row in filled)
    return whole > 0 and sum(len(np.unique(row)) for row in filled) < _FEW * whole


def round_together(weights: Matrix, moment: Matrix, scales: Matrix, *, damping: float = 0.01) -> Matrix:
    """Round a layer's weights with error feedback; all channels read the same inputs.

    The largest weight of each channel goes to the end of the grid whatever is fed back to it, so that a quantiser
    that takes the scale from the largest weight finds this grid and no other.

    Args:
        weights: Shape (channels, inputs).
            A weight that is exactly zero stays zero: pruning has left it so.
        moment: Second moment of the inputs, shape (inputs, inputs).
        scales: Step of each channel's grid, shape (channels, 1).
        damping: Added to the diagonal of `moment`, as a share of its mean.

    Returns:
        Weights on the grid, shape (channels, inputs).
    """
    order = np.argsort(-np.diag(moment), kind="stable")
    answer = _answers(moment[np.ix_(order, order)], damping)
    left, ends = weights[:, order].copy(), _ends(weights[:, order], scales)
    there = left != 0
    result = np.empty_like(left)
    size = weights.shape[1]
    for start in range(0, size, _BLOCK):
        stop = min(start + _BLOCK, size)
        errors = np.zeros((len(left), stop - start))
        for column in range(start, stop):
            result[:, column] = _step(left[:, column], ends[:, column], scales[:, 0]) * there[:, column]
            error = (left[:, column] - result[:, column]) / answer[column, column]
            left[:, column + 1 : stop] -= np.outer(error, answer[column, column + 1 : stop])
            errors[:, column - start] = error
        left[:, stop:] -= errors @ answer[start:stop, stop:]
    back = np.empty_like(result)
    back[:, order] = result
    return back


def round_apart(weights: Matrix, moments: Matrix, scales: Matrix, *, damping: float = 0.01) -> Matrix:
    """As `round_together`, for depthwise layers: each channel has inputs of its own.

    Args:
        weights: Shape (channels, taps).
        moments: Second moment of each channel's inputs, shape (channels, taps, taps).
        scales: Shape (channels, 1).
        damping: As there.
    """
    order = np.argsort(-np.diagonal(moments, axis1=1, axis2=2), axis=1, kind="stable")
    sorted_moments = np.take_along_axis(np.take_along_axis(moments, order[:, :, None], 1), order[:, None, :], 2)
    answer = _answers(sorted_moments, damping)
    left = np.take_along_axis(weights, order, 1)
    ends, there = _ends(left, scales), left != 0
    result = np.empty_like(left)
    for column in range(weights.shape[1]):
        result[:, column] = _step(left[:, column], ends[:, column], scales[:, 0]) * there[:, column]
        error = (left[:, column] - result[:, column]) / answer[:, column, column]
        left[:, column + 1 :] -= error[:, None] * answer[:, column, column + 1 :]
    back = np.empty_like(result)
    np.put_along_axis(back, order, result, 1)
    return back


def _answers(moment: Matrix, damping: float) -> Matrix:
    """Upper Cholesky factor of the inverse: row j holds how the later weights answer an error in weight j."""
    size = moment.shape[-1]
    ridge = damping * np.trace(moment, axis1=-2, axis2=-1) / size + 1e-9
    damped = moment + ridge[..., None, None] * np.eye(size)
    return np.swapaxes(np.linalg.cholesky(np.linalg.inv(damped)), -1, -2)


def _ends(weights: Matrix, scales: Matrix) -> Matrix:
    """-1 or 1 where a weight is the one that sets its scale, else 0."""
    largest = np.arange(weights.shape[1]) == np.abs(weights).argmax(axis=1)[:, None]
    return np.where(largest & (np.abs(weights) > (LEVELS - 0.5) * scales), np.sign(weights), 0.0)


def _step(values: Matrix, ends: Matrix, scales: Matrix) -> Matrix:
    steps = np.clip(np.rint(values / scales), -LEVELS, LEVELS)
    return np.where(ends != 0, ends * LEVELS, steps) * scales
