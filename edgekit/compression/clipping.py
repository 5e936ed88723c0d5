"""Activation ranges that give up rare values for finer steps: by percentile, or where the squared error is least.

Min-max keeps every value and lets one outlier choose the step. Source of the search: R. Banner et al., "Post training
4-bit quantization of convolutional networks for rapid-deployment", NeurIPS 2019, by trying ranges on a histogram
instead of assuming a distribution, as TensorRT does (S. Migacz, "8-bit inference with TensorRT", GTC 2017).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgekit.compression.graph import FloatGraph
from edgekit.compression.simulation import FIXED_GRID, SAME_GRID, Batch, Grid, run
from edgekit.errors import UsageError

METHODS = ("min-max", "percentile", "mse")
PERCENTILE = 99.99
_BINS = 2048
_SHARES = np.linspace(0.5, 1.0, 26)


def clip_ranges(
    graph: FloatGraph, batch: Batch, *, method: str = "mse", percentile: float = PERCENTILE
) -> dict[str, tuple[float, float]]:
    """Choose ranges for the activations of a calibrated model.

    Input, scores and output keep theirs, and so does what ends at ReLU6's clip: there 6 is not an outlier.

    Args:
        graph: The model, with its minima and maxima.
        batch: Normalised crops, float32, shape (n, height, width, channels).
        method: One of METHODS.
        percentile: Of values kept on each side, for ``percentile``.

    Returns:
        Tensor name -> range, for those that changed.

    Raises:
        UsageError: No such method.
    """
    if method not in METHODS:
        raise UsageError(f"no way to choose ranges is called '{method}'; choose one of {', '.join(METHODS)}")
    if method == "min-max":
        return {}
    ends = {*graph.info.main.input_indices, *graph.info.main.output_indices}
    # The highest score is the rarest value of its tensor, and the only one that is asked for.
    ends |= {index for node in graph.nodes if node.kind in FIXED_GRID for index in node.inputs}
    wanted = {
        node.output: found
        for node in graph.nodes
        if node.activation is None
        and node.kind not in (*FIXED_GRID, *SAME_GRID)
        and node.output not in ends
        and (found := graph.range_of(node.output))
        and found[0] < found[1]
    }
    counts = {index: np.zeros(_BINS) for index in wanted}

    def look(index: int, values: Batch) -> None:
        if index in counts:
            counts[index] += np.histogram(values, _BINS, wanted[index])[0]

    run(graph, batch, look)
    chosen: dict[str, tuple[float, float]] = {}
    for index, (low, high) in wanted.items():
        edges = np.linspace(low, high, _BINS + 1)
        if method == "percentile":
            found = _percentile(counts[index], edges, percentile)
        else:
            found = _least_error(counts[index], edges)
        if found != (low, high):
            chosen[graph.tensors[index].name] = found
    return chosen


def _percentile(
    counts: npt.NDArray[np.float64], edges: npt.NDArray[np.float64], percentile: float
) -> tuple[float, float]:
    share = np.cumsum(counts) / max(counts.sum(), 1)
    low = edges[int(np.searchsorted(share, 1 - percentile / 100))]
    high = edges[min(int(np.searchsorted(share, percentile / 100)) + 1, len(edges) - 1)]
    return float(low), float(high)


def _least_error(counts: npt.NDArray[np.float64], edges: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Each end is drawn in by itself, the other at its place: two searches instead of their product."""
    middle = ((edges[:-1] + edges[1:]) / 2).astype(np.float32)
    low, high = float(edges[0]), float(edges[-1])

    def error(low: float, high: float) -> float:
        return float(counts @ np.square(Grid.of(low, high).round(middle) - middle, dtype=np.float64))

    if high > 0:
        high = min((high * share for share in _SHARES), key=lambda end: error(low, end))
    if low < 0:
        low = min((low * share for share in _SHARES), key=lambda end: error(end, high))
    return float(low), float(high)
