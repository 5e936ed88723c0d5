"""What the quantisation of one layer alone does to the scores: everything else stays in float.

A layer's own error says little: an early one is amplified, one before a clip is swallowed. So its integer weights,
bias and output grid are put into the float model, and the change is read off at the end.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.compression.bias import corrected_bias
from edgekit.compression.graph import FloatGraph, Node, weight_matrix, weight_tensor
from edgekit.compression.rounding import channel_scales, nearest
from edgekit.compression.simulation import Batch, Grid, activate, compute, linear
from edgekit_device.infer.flatbuffer import ModelInfo, OperatorInfo, TensorInfo, constant

Progress = Callable[[str, int, int], None]

# These only bring values to a grid or back: a float model has no such operator.
_BRIDGES = ("QUANTIZE", "DEQUANTIZE")
_LOWEST = {"int8": -128, "uint8": 0, "int16": -32768}
_END = ("SOFTMAX", "LOGISTIC")

# What can be tried on one layer alone.
RANGES = "calibrate on more photos"
CHANNELS = "one weight scale a channel"
WEIGHTS = "quantise its weights again"
BIAS = "bias correction"


@dataclass(frozen=True)
class Swap:
    """One layer as integers have it.

    Attributes:
        weights: Dequantised, in the tensor's shape; None for a layer without.
        bias: Dequantised; None for a layer without.
        low: Least value of the output's grid.
        high: Greatest value of it.
        scale: Step of it; 0 for a float output.
        per_channel: Whether the weights have one scale a channel.
    """

    weights: npt.NDArray[np.float32] | None
    bias: npt.NDArray[np.float32] | None
    low: float
    high: float
    scale: float
    per_channel: bool

    def round(self, values: Batch) -> Batch:
        """Values on the output's grid."""
        if self.scale == 0:
            return values
        steps = np.rint(np.clip(values, self.low, self.high) / np.float32(self.scale))
        return np.asarray(steps * np.float32(self.scale), np.float32)


@dataclass(frozen=True)
class Effect:
    """What one layer alone does.

    Attributes:
        index: Place of its node in the float graph.
        noise: Mean square change of a score before the softmax.
        saturated: Share of the layer's float outputs that lie outside its integer grid.
        used: Share of the grid that the float outputs span.
        own_sqnr_db: Of its own output, from exact inputs.
        own_mse: Mean squared error of its own output.
    """

    index: int
    noise: float
    saturated: float
    used: float
    own_sqnr_db: float
    own_mse: float


def match(graph: FloatGraph, data: bytes, info: ModelInfo) -> dict[int, Swap]:
    """Find each float layer's integer twin, by the name of its output, else by its place in the order.

    Args:
        graph: The float model.
        data: The integer model's file.
        info: What it declares.

    Returns:
        Node index -> its twin; layers that the integer model keeps in float, or computes otherwise, are missing.
    """
    tensors = info.main.tensors
    operators = [op for op in info.main.operators if op.name not in _BRIDGES]
    by_name = {tensors[op.outputs[0]].name: op for op in operators}
    in_step = [op.name for op in operators] == [node.kind for node in graph.nodes]
    found: dict[int, Swap] = {}
    for node in graph.nodes:
        operator = by_name.get(graph.tensors[node.output].name)
        if operator is None and in_step:
            operator = operators[node.index]
        if operator is None or operator.name != node.kind:
            continue
        output = tensors[operator.outputs[0]]
        if output.dtype in _LOWEST and len(output.scales) == 1:
            found[node.index] = _swap(data, tensors, operator, node, output)
    return found


def _swap(data: bytes, tensors: tuple[TensorInfo, ...], operator: OperatorInfo, node: Node, output: TensorInfo) -> Swap:
    low, high = _ends(output)
    weights = bias = None
    per_channel = True
    if node.has_weights:
        tensor = tensors[operator.inputs[1]]
        weights, per_channel = dequantised(data, tensor), len(tensor.scales) > 1 or max(tensor.shape) == 1
        if len(operator.inputs) > 2 and operator.inputs[2] >= 0:
            bias = dequantised(data, tensors[operator.inputs[2]])
    return Swap(weights, bias, low, high, output.scales[0], per_channel)


def _ends(tensor: TensorInfo) -> tuple[float, float]:
    """The least and the greatest value on a tensor's grid."""
    lowest = _LOWEST[tensor.dtype]
    highest = -1 - lowest if lowest else 255
    return tensor.scales[0] * (lowest - tensor.zero_points[0]), tensor.scales[0] * (highest - tensor.zero_points[0])


def dequantised(data: bytes, tensor: TensorInfo) -> npt.NDArray[np.float32]:
    """The real values of a constant: scale * (q - zero_point)."""
    raw = np.frombuffer(constant(data, tensor), tensor.dtype).reshape(tensor.shape)
    if not tensor.scales:
        return raw.astype(np.float32)
    shape = [1] * len(tensor.shape)
    if len(tensor.scales) > 1:
        shape[tensor.quantized_dimension] = -1
    scales, zeros = (
        np.reshape(np.asarray(v, np.float64), shape if len(v) > 1 else ()) for v in (tensor.scales, tensor.zero_points)
    )
    return ((raw - zeros) * scales).astype(np.float32)


def rebuilt(
    graph: FloatGraph, swaps: Mapping[int, Swap], info: ModelInfo, without: int | None
) -> tuple[dict[int, npt.NDArray[np.float32]], dict[str, tuple[float, float]]]:
    """What turns the float model into the integer one again, but for one layer.

    Args:
        graph: The float model.
        swaps: From `match`.
        info: What the integer model declares.
        without: The node whose weights stay as they are in float; None for the whole model.

    Returns:
        Constants for `FloatGraph.patched`, and the range of each activation by tensor name.
    """
    constants: dict[int, npt.NDArray[np.float32]] = {}
    ranges: dict[str, tuple[float, float]] = {}
    for place, image in zip(graph.info.main.input_indices, info.main.inputs, strict=True):
        if image.dtype in _LOWEST and image.scales:
            ranges[graph.tensors[place].name] = _ends(image)
    for index, swap in swaps.items():
        node = graph.nodes[index]
        ranges[graph.tensors[node.output].name] = (swap.low, swap.high)
        if index == without:
            continue
        if swap.weights is not None:
            constants[node.weights] = swap.weights
        if swap.bias is not None and node.bias >= 0:
            constants[node.bias] = swap.bias
    return constants, ranges


class Sensitivity:
    """A float model with all its activations on some crops, into which one layer's integers can be put."""

    def __init__(self, graph: FloatGraph, batch: Batch) -> None:
        """Run the crops.

        Args:
            graph: The float model.
            batch: Normalised crops, float32, shape (n, height, width, channels); every activation of all of them is
                kept, some 30 MB a crop for EfficientNet-Lite0.
        """
        self.graph = graph
        self.values = {graph.info.main.input_indices[0]: batch}
        for node in graph.nodes:
            self.values[node.output] = self._computed(node, self.values)
        final = graph.nodes[-1]
        # Probabilities hide an error wherever they are near 0 or 1: the scores before them do not.
        self.last = final.inputs[0] if final.kind in _END else final.output
        scores = self.values[self.last]
        self.signal = _power(scores - scores.mean(axis=-1, keepdims=True))

    def effects(self, swaps: Mapping[int, Swap], *, progress: Progress | None = None) -> list[Effect]:
        """Put each layer's integers into the float model, one layer at a time.

        Args:
            swaps: From `match`.
            progress: Called with ("blame", done, total).
        """
        found = []
        for done, (index, swap) in enumerate(sorted(swaps.items())):
            if progress:
                progress("blame", done, len(swaps))
            if self.graph.nodes[index].kind not in _END:
                found.append(self.effect(index, swap))
        if progress:
            progress("blame", len(swaps), len(swaps))
        return found

    def effect(self, index: int, swap: Swap) -> Effect:
        """What one layer's integers do."""
        node = self.graph.nodes[index]
        exact, spoilt = self.values[node.output], self._spoilt(node, swap)
        low, high = float(exact.min()), float(exact.max())
        span, half = swap.high - swap.low, swap.scale / 2
        own = _power(exact) / max(_power(spoilt - exact), 1e-30)
        return Effect(
            index=index,
            noise=self._noise(node, spoilt),
            saturated=float(np.mean((exact < swap.low - half) | (exact > swap.high + half))),
            used=(min(high, swap.high) - max(low, swap.low)) / span if span > 0 else 1.0,
            own_sqnr_db=min(200.0, 10 * float(np.log10(max(own, 1e-20)))),
            own_mse=_power(spoilt - exact),
        )

    def remedies(self, index: int, swap: Swap) -> dict[str, float]:
        """What noise would be left if this layer were mended: remedy -> mean square change of a score."""
        graph, node = self.graph, self.graph.nodes[index]
        exact = self.values[node.output]
        grid = Grid.of(float(exact.min()), float(exact.max()))
        tries = {RANGES: replace(swap, low=grid.low, high=grid.high, scale=grid.scale)}
        if node.has_weights and swap.weights is not None:
            weights = graph.constant(node.weights)
            bias = graph.constant(node.bias) if node.bias >= 0 else None
            matrix = weight_matrix(node.kind, weights).astype(np.float64)
            plain = weight_tensor(node.kind, nearest(matrix, channel_scales(matrix)), weights.shape)
            again = CHANNELS if not swap.per_channel else WEIGHTS
            tries[again] = replace(swap, weights=plain.astype(np.float32), bias=bias)
            if swap.bias is not None:
                batch = self.values[node.inputs[0]]
                wanted = linear(graph, node, batch, weights, bias)
                found = linear(graph, node, batch, swap.weights, swap.bias)
                tries[BIAS] = replace(swap, bias=corrected_bias(swap.bias, wanted, found, node.activation))
        return {name: self._noise(node, self._spoilt(node, changed)) for name, changed in tries.items()}

    def peaks(self, index: int) -> npt.NDArray[np.float32]:
        """The largest magnitude in each channel of a layer's output."""
        values = self.values[self.graph.nodes[index].output]
        return np.asarray(np.abs(values).max(axis=tuple(range(values.ndim - 1))), np.float32)

    def _computed(self, node: Node, values: Mapping[int, Batch]) -> Batch:
        graph = self.graph
        if node.has_weights:
            bias = graph.constant(node.bias) if node.bias >= 0 else None
            found = linear(graph, node, values[node.inputs[0]], graph.constant(node.weights), bias)
            return activate(node, found)
        return compute(graph, node, [values[index] for index in node.inputs if index in values])

    def _spoilt(self, node: Node, swap: Swap) -> Batch:
        if node.has_weights and swap.weights is not None:
            found = linear(self.graph, node, self.values[node.inputs[0]], swap.weights, swap.bias)
            return swap.round(activate(node, found))
        return swap.round(self._computed(node, self.values))

    def _noise(self, node: Node, spoilt: Batch) -> float:
        """Mean square change of a score when this node's output is another one."""
        changed = {node.output: spoilt}
        for later in self.graph.nodes[node.index + 1 :]:
            if self.last in changed:
                break
            if any(index in changed for index in later.inputs):
                changed[later.output] = self._computed(later, ChainMap(changed, self.values))
        difference = changed.get(self.last, self.values[self.last]) - self.values[self.last]
        return _power(difference - difference.mean(axis=-1, keepdims=True))


def _power(values: npt.NDArray[Any]) -> float:
    return float(np.mean(np.square(values, dtype=np.float64)))
