"""How many bits do the weights need: every tensor on every grid, with its error and its size."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.compression.graph import CHANNEL_AXIS, weight_matrix
from edgekit.compression.grids import GRIDS, size_bytes
from edgekit_device.infer.flatbuffer import ModelInfo, constant

BITS = tuple(range(2, 9))
# Clusters of one channel would weigh more than its weights.
GRANULARITIES = {
    "symmetric": ("model", "layer", "channel"),
    "affine": ("model", "layer", "channel"),
    "piecewise": ("layer", "channel"),
    "clustered": ("model", "layer"),
}
WHOLE = "(all)"

Progress = Callable[[str, int, int], None]
Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Row:
    """One tensor, or all of them, under one grid.

    Attributes:
        layer: Name of the weights; WHOLE for the model.
        kind: Operator.
        values: How many weights.
        grid: ``symmetric``, ``affine``, ``piecewise`` or ``clustered``.
        granularity: What shares a grid: ``model``, ``layer`` or ``channel``.
        bits: Of each weight.
        mse: Mean squared error.
        sqnr_db: Signal to quantisation noise; 200 where there is no noise.
        bytes: Packed, with scales, zero points or centres.
    """

    layer: str
    kind: str
    values: int
    grid: str
    granularity: str
    bits: int
    mse: float
    sqnr_db: float
    bytes: int

    def to_json(self) -> dict[str, Any]:
        """One object of the table."""
        return asdict(self)


def weights_of(data: bytes, info: ModelInfo) -> dict[str, tuple[str, Matrix]]:
    """The float weights of a model: name -> (operator, matrix with a row for each output channel)."""
    found: dict[str, tuple[str, Matrix]] = {}
    for graph in info.subgraphs:
        for operator in graph.operators:
            if operator.name not in CHANNEL_AXIS or len(operator.inputs) < 2:
                continue
            tensor = graph.tensors[operator.inputs[1]]
            if tensor.is_constant and tensor.dtype == "float32":
                values = np.frombuffer(constant(data, tensor), np.float32).reshape(tensor.shape)
                found[tensor.name] = (operator.name, weight_matrix(operator.name, values))
    return found


def study_weights(
    weights: dict[str, tuple[str, Matrix]], bits: Sequence[int] = BITS, *, progress: Progress | None = None
) -> list[Row]:
    """Put every tensor on every grid.

    Args:
        weights: From `weights_of`.
        bits: Of each weight.
        progress: Called with ("study", done, total).

    Returns:
        A row for each tensor, grid, granularity and number of bits, and one for all tensors together.
    """
    rows: list[Row] = []
    total = len(bits) * sum(len(kinds) for kinds in GRANULARITIES.values())
    everything = np.concatenate([matrix.ravel() for _, matrix in weights.values()])[None]
    for grid, granularities in GRANULARITIES.items():
        for granularity in granularities:
            for width in bits:
                rows += _rows(weights, everything, grid, granularity, width)
                if progress:
                    progress("study", len({(r.grid, r.granularity, r.bits) for r in rows}), total)
    return rows


def _rows(
    weights: dict[str, tuple[str, Matrix]], everything: Matrix, grid: str, granularity: str, bits: int
) -> list[Row]:
    method = GRIDS[grid]
    shared = method(everything, bits)[0] if granularity == "model" else None
    rows: list[Row] = []
    sums: dict[str, float] = defaultdict(float)
    start = 0
    for name, (kind, matrix) in weights.items():
        if shared is not None:
            left = shared[start : start + matrix.size].reshape(matrix.shape)
            start += matrix.size
        else:
            left = method(matrix if granularity == "channel" else matrix.reshape(1, -1), bits).reshape(matrix.shape)
        noise = float(np.square(left - matrix, dtype=np.float64).sum())
        signal = float(np.square(matrix, dtype=np.float64).sum())
        groups = {"model": 0, "layer": 1, "channel": len(matrix)}[granularity]
        size = size_bytes(grid, matrix.size, groups, bits)
        rows.append(_row(name, kind, matrix.size, grid, granularity, bits, noise, signal, size))
        for key, value in (("noise", noise), ("signal", signal), ("bytes", size), ("values", matrix.size)):
            sums[key] += value
    extra = size_bytes(grid, 0, 1, bits) if granularity == "model" else 0
    whole = (int(sums["values"]), grid, granularity, bits, sums["noise"], sums["signal"], int(sums["bytes"]) + extra)
    return [*rows, _row(WHOLE, "", *whole)]


def _row(
    layer: str,
    kind: str,
    values: int,
    grid: str,
    granularity: str,
    bits: int,
    noise: float,
    signal: float,
    size: int,
) -> Row:
    sqnr = 10 * float(np.log10(signal / noise)) if noise > 0 and signal > 0 else 200.0
    return Row(layer, kind, values, grid, granularity, bits, noise / max(values, 1), min(sqnr, 200.0), size)
