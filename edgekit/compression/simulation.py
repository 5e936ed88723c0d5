"""What each operator computes, on a whole batch at once: in float, or as the integer kernels would round it.

An integer kernel sums exactly and rounds once, when it writes its output to the grid of that tensor; so float
arithmetic on grid values, rounded at every output, differs from it by the last quantum only now and then. Source:
B. Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only inference",
CVPR 2018.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.compression.graph import FloatGraph, Node
from edgekit.errors import CompressionError

Batch = npt.NDArray[np.float32]

_LEVELS = 255
# TFLite fixes the grid of a softmax: probabilities in steps of 1/256.
FIXED_GRID = {"SOFTMAX": (0.0, _LEVELS / 256), "LOGISTIC": (0.0, _LEVELS / 256)}
# These copy their input's grid.
SAME_GRID = ("RESHAPE", "MAX_POOL_2D", "AVERAGE_POOL_2D", "PAD", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE")


@dataclass(frozen=True)
class Grid:
    """An affine int8 grid: real = scale * (q - zero_point), q from -128 to 127."""

    scale: float
    zero_point: int

    @classmethod
    def of(cls, low: float, high: float) -> Grid:
        """The grid that TFLite's quantiser gives a range: it always holds zero exactly."""
        low, high = min(low, 0.0), max(high, 0.0)
        scale = (high - low) / _LEVELS or 1.0
        return cls(scale, int(np.clip(round(-128 - low / scale), -128, 127)))

    @property
    def low(self) -> float:
        """The least value on it."""
        return self.scale * (-128 - self.zero_point)

    @property
    def high(self) -> float:
        """The greatest value on it."""
        return self.scale * (127 - self.zero_point)

    def round(self, values: Batch) -> Batch:
        """The nearest values on it; what lies outside goes to its ends."""
        scaled = np.multiply(values, np.float32(1 / self.scale))
        np.rint(scaled, out=scaled)
        np.clip(scaled, -128 - self.zero_point, 127 - self.zero_point, out=scaled)
        return np.multiply(scaled, np.float32(self.scale), out=scaled)


Look = Callable[[int, Batch], None]


def run(graph: FloatGraph, batch: Batch, look: Look, *, chunk: int = 16) -> None:
    """Run a batch through the float model.

    Args:
        graph: The model.
        batch: float32, shape (n, height, width, channels).
        look: Called with (tensor index, values) for every activation of every chunk; values may be changed later.
        chunk: Images at a time.
    """
    for start in range(0, len(batch), chunk):
        values = Values(graph, batch[start : start + chunk])
        look(graph.info.main.input_indices[0], batch[start : start + chunk])
        for node in graph.nodes:
            if node.has_weights:
                bias = graph.constant(node.bias) if node.bias >= 0 else None
                found = activate(node, linear(graph, node, values[node.inputs[0]], graph.constant(node.weights), bias))
            else:
                found = compute(graph, node, values.inputs(node))
            look(node.output, found)
            values.keep(node, found)


class Values:
    """The activations that a later operator still needs."""

    def __init__(self, graph: FloatGraph, batch: Batch) -> None:
        self._values = {graph.info.main.input_indices[0]: batch}
        self._last = {index: node.index for node in graph.nodes for index in node.inputs}

    def __getitem__(self, index: int) -> Batch:
        return self._values[index]

    def inputs(self, node: Node) -> list[Batch]:
        """The inputs of an operator that are not constants."""
        return [self._values[index] for index in node.inputs if index in self._values]

    def keep(self, node: Node, output: Batch) -> None:
        """Note an operator's output, and drop what it was the last to read."""
        self._values[node.output] = output
        for index in node.inputs:
            if self._last[index] == node.index:
                self._values.pop(index, None)


def grids_of(graph: FloatGraph) -> dict[int, Grid]:
    """The grid of every activation of a calibrated model, as TFLite's quantiser will choose it.

    Raises:
        CompressionError: An activation has no range.
    """
    grids: dict[int, Grid] = {}
    for index in graph.info.main.input_indices:
        grids[index] = _grid(graph, index)
    for node in graph.nodes:
        if node.kind in SAME_GRID:
            grids[node.output] = grids[node.inputs[0]]
        elif node.kind in FIXED_GRID:
            grids[node.output] = Grid.of(*FIXED_GRID[node.kind])
        else:
            grids[node.output] = _grid(graph, node.output)
    return grids


def _grid(graph: FloatGraph, index: int) -> Grid:
    found = graph.range_of(index)
    if found is None:
        raise CompressionError(graph.info.name, f"{graph.tensors[index].name} was not calibrated")
    return Grid.of(*found)


def linear(graph: FloatGraph, node: Node, batch: Batch, weights: Any, bias: Any) -> Batch:
    """The weighted sum of a convolution or dense layer, before its activation.

    Args:
        graph: The model.
        node: One with weights.
        batch: Its input, float32, shape (n, height, width, channels) or (n, features).
        weights: In the tensor's own shape.
        bias: Shape (channels,), or None.

    Returns:
        float32, shape (n, ..., channels).
    """
    import tensorflow as tf

    if node.kind == "FULLY_CONNECTED":
        out = batch.reshape(len(batch), -1) @ weights.T
    else:
        strides, padding = (1, *node.options["strides"], 1), node.options["padding"]
        dilations = node.options["dilations"]
        if node.kind == "CONV_2D":
            out = tf.nn.conv2d(batch, weights.transpose(1, 2, 3, 0), strides, padding, dilations=dilations).numpy()
        else:
            kernel = weights.reshape(*weights.shape[1:3], batch.shape[-1], -1)
            out = tf.nn.depthwise_conv2d(batch, kernel, strides, padding, dilations=dilations).numpy()
    return np.asarray(out if bias is None else np.add(out, bias, out=out), np.float32)


def activate(node: Node, batch: Batch) -> Batch:
    """The activation fused behind an operator; may write into its argument.

    Raises:
        CompressionError: One that is not known here.
    """
    if node.activation is None:
        return batch
    if node.activation == "unknown":
        raise CompressionError("the float model", f"{node.kind} has an activation that is not known here")
    return np.clip(batch, 0, 6 if node.activation == "relu6" else None, out=batch)


def compute(graph: FloatGraph, node: Node, inputs: list[Batch]) -> Batch:
    """The output of an operator without weights, for a whole batch.

    Args:
        graph: The model.
        node: The operator.
        inputs: Its inputs that are not constants, float32, batch first.

    Raises:
        CompressionError: An operator that is not known here.
    """
    import tensorflow as tf

    kind, options = node.kind, node.options
    if kind in ("ADD", "MUL"):
        first, second = _both(graph, node, inputs)
        return activate(node, first + second if kind == "ADD" else first * second)
    (batch,) = inputs
    if kind == "MEAN":
        axes = tuple(int(axis) for axis in np.ravel(graph.constant(node.inputs[1])))
        return np.asarray(batch.mean(axis=axes, keepdims=options["keep_dims"]), np.float32)
    if kind in ("AVERAGE_POOL_2D", "MAX_POOL_2D"):
        pool = tf.nn.avg_pool2d if kind == "AVERAGE_POOL_2D" else tf.nn.max_pool2d
        return activate(node, pool(batch, options["filter"], options["strides"], options["padding"]).numpy())
    if kind in ("RESHAPE", "SQUEEZE"):
        shape = graph.tensors[node.output].shape[1:]
        if batch[0].size != np.prod(shape, dtype=int):
            # A converter may drop the batch axis of a one-pixel image; then a batch of many cannot follow.
            raise CompressionError(graph.info.name, f"a {kind} leaves no axis for a batch")
        return batch.reshape(len(batch), *shape)
    if kind == "PAD":
        return np.pad(batch, graph.constant(node.inputs[1]))
    if kind == "SOFTMAX":
        power = np.exp(options["beta"] * (batch - batch.max(axis=-1, keepdims=True)))
        return np.asarray(power / power.sum(axis=-1, keepdims=True), np.float32)
    if kind == "RELU6":
        return np.clip(batch, 0, 6)
    if kind == "RELU":
        return np.maximum(batch, 0)
    if kind == "LOGISTIC":
        return np.asarray(1 / (1 + np.exp(-batch)), np.float32)
    raise CompressionError(graph.info.name, f"the passes do not know the operator {kind}")


def _both(graph: FloatGraph, node: Node, inputs: list[Batch]) -> tuple[Any, Any]:
    if len(inputs) == 2:
        return inputs[0], inputs[1]
    constants = [graph.constant(index) for index in node.inputs if graph.is_constant(index)]
    return inputs[0], constants[0]
