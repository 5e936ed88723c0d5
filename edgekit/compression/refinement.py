"""Round the weights and correct the biases of a calibrated float model, layer by layer, in the order they run.

Both models are carried along on the same crops: what the float layer sums up is what is wanted, what the quantised
one sums up, from inputs that all earlier layers have already spoilt, is what is found. The result is a float model
again, its weights on the very grid that the quantiser will choose: whatever engine turns it into integers makes the
same ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.compression.bias import corrected_bias
from edgekit.compression.graph import FloatGraph, Node, weight_matrix, weight_tensor
from edgekit.compression.patches import patches, places
from edgekit.compression.rounding import channel_scales, nearest, round_apart, round_together, shares_values
from edgekit.compression.simulation import Batch, Values, activate, compute, grids_of, linear

Array = npt.NDArray[np.float32]
Progress = Callable[[str, int, int], None]

# Places of a layer's output that its inputs' second moment is taken from.
PLACES = 4096


@dataclass(frozen=True)
class LayerReport:
    """What became of one layer.

    Attributes:
        name: Of its output tensor.
        sqnr_db: Of what it sums up, on the samples, with the errors of all layers before it.
        moved: Share of weights that are not on their nearest step.
        shift: Largest change of a bias, in the unit of the activation.
    """

    name: str
    sqnr_db: float
    moved: float
    shift: float


@dataclass(frozen=True)
class Passes:
    """What is done to each layer; the words of `refine`."""

    rounding: bool
    bias: bool
    per_tensor: tuple[str, ...]
    kept: tuple[str, ...]


def refine(
    graph: FloatGraph,
    batch: Batch,
    *,
    rounding: bool = True,
    bias: bool = True,
    per_tensor: tuple[str, ...] = (),
    kept: tuple[str, ...] = (),
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[bytes, tuple[LayerReport, ...]]:
    """Make a calibrated float model that loses less when it is quantised.

    Args:
        graph: The model, with ranges.
        batch: Normalised crops, float32, shape (n, height, width, channels).
        rounding: Round weights with error feedback (`rounding`); else each to its nearest step.
        bias: Correct biases (`bias`).
        per_tensor: Kinds of operators whose weights get one scale a tensor.
        kept: Names of the tensors whose layers stay in float: their weights are left alone.
        seed: Draws the places that second moments are taken from.
        progress: Called with ("refine", done, total).

    Returns:
        The model with its ranges, and one report for each layer with weights.

    Raises:
        CompressionError: An operator that is not known here, or an activation without a range.
    """
    how = Passes(rounding, bias, per_tensor, kept)
    walk = _Walk(graph, Values(graph, batch), how, np.random.default_rng(seed))
    grids = grids_of(graph)
    found = Values(graph, grids[graph.info.main.input_indices[0]].round(batch))
    for done, node in enumerate(graph.nodes):
        if progress:
            progress("refine", done, len(graph.nodes))
        if node.has_weights:
            good, bad = walk.layer(node, found)
        else:
            good, bad = (compute(graph, node, side.inputs(node)) for side in (walk.wanted, found))
        walk.wanted.keep(node, good)
        found.keep(node, grids[node.output].round(bad))
    if progress:
        progress("refine", len(graph.nodes), len(graph.nodes))
    return graph.patched(walk.constants), tuple(walk.reports)


class _Walk:
    """What is carried from layer to layer."""

    def __init__(self, graph: FloatGraph, wanted: Values, how: Passes, rng: np.random.Generator) -> None:
        self.graph, self.wanted, self.how, self.rng = graph, wanted, how, rng
        self.constants: dict[int, npt.NDArray[Any]] = {}
        self.reports: list[LayerReport] = []

    def layer(self, node: Node, found: Values) -> tuple[Batch, Batch]:
        """Both outputs of a layer with weights; the quantised one with its new constants."""
        graph = self.graph
        weights = graph.constant(node.weights)
        bias = graph.constant(node.bias) if node.bias >= 0 else None
        good = linear(graph, node, self.wanted[node.inputs[0]], weights, bias)
        rounded, moved = self._rounded(node, weights, found[node.inputs[0]], good.shape[1:])
        bad = linear(graph, node, found[node.inputs[0]], rounded, bias)
        shift = 0.0
        if self.how.bias and bias is not None:
            better = corrected_bias(bias, good, bad, node.activation)
            bad += better - bias
            shift = float(np.abs(better - bias).max())
            self.constants[node.bias] = better
        self.constants[node.weights] = rounded
        self.reports.append(LayerReport(graph.tensors[node.output].name, sqnr_db(good, bad), moved, shift))
        return activate(node, good), activate(node, bad)

    def _rounded(
        self, node: Node, weights: Array, batch: Batch, out_shape: tuple[int, ...]
    ) -> tuple[npt.NDArray[Any], float]:
        if self.graph.tensors[node.output].name in self.how.kept:
            return weights, 0.0
        matrix = weight_matrix(node.kind, weights).astype(np.float64)
        scales = channel_scales(matrix, per_tensor=node.kind in self.how.per_tensor)
        plain = nearest(matrix, scales)
        chosen = plain
        # Feedback would part what shares a value, and with it what a zip gains.
        if self.how.rounding and not shares_values(matrix):
            at = places(batch, out_shape, PLACES, self.rng)
            kernel = (int(weights.shape[1]), int(weights.shape[2])) if weights.ndim == 4 else (1, 1)
            seen = patches(node, batch, at, kernel)
            if node.kind == "DEPTHWISE_CONV_2D":
                # Contiguous: numpy multiplies stacks of strided matrices without BLAS, ten times slower.
                lanes = np.ascontiguousarray(seen.transpose(2, 1, 0))
                lanes = lanes if len(lanes) == len(matrix) else np.repeat(lanes, len(matrix) // len(lanes), axis=0)
                moments = (lanes @ lanes.transpose(0, 2, 1)).astype(np.float64) / len(at)
                chosen = round_apart(matrix, moments, scales)
            else:
                flat = seen.reshape(len(at), -1)
                chosen = round_together(matrix, (flat.T @ flat).astype(np.float64) / len(at), scales)
        moved = float(np.mean(np.abs(chosen - plain) > scales / 2))
        return weight_tensor(node.kind, chosen, weights.shape).astype(np.float32), moved


def sqnr_db(wanted: npt.NDArray[Any], found: npt.NDArray[Any]) -> float:
    """Signal to quantisation noise in decibels; 200 where there is no noise."""
    signal = float(np.vdot(wanted, wanted))
    error = wanted - found
    noise = float(np.vdot(error, error))
    return 10 * float(np.log10(signal / noise)) if signal > 0 and noise > signal * 1e-20 else 200.0
