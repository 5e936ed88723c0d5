"""A folded classifier that computes as its int8 graph will: weights and every edge rounded, gradients through.

Which edges carry a grid follows TFLite's int8 kernels: a convolution, a dense layer or an addition together with the
ReLU behind it is one operator and rounds once; pooling by maximum, padding and reshaping keep the grid they read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.compression.keras_graph import WEIGHTED, Operation, check_channels_last, operations, readers
from edgekit.errors import PassError
from edgekit.keras_network import normalised
from edgekit_device.contract.preprocess import Preprocess

INPUT = "image"
NAME = "qat"
# Read and written on the same grid.
_SAME = ("Flatten", "Reshape", "MaxPooling2D", "ZeroPadding2D", "AveragePooling2D", "Permute")
# Operators with a grid of their own behind them.
_OWN = ("Add", "Multiply", "Concatenate", "GlobalAveragePooling2D", "GlobalMaxPooling2D")
_LEVELS = 127.0
_LEAST_SPAN = 1e-3
_STEPS = 40


@dataclass(frozen=True)
class _Edge:
    """One operator of the int8 graph.

    Attributes:
        operation: The layer that computes.
        activation: ``relu``, ``relu6`` or nothing, fused behind it.
        key: The layer whose output this edge is; None where the grid is the input's.
        output: Number of the value.
    """

    operation: Operation
    activation: str
    key: str | None
    output: int


class QatNetwork:
    """Something that `Fit` can teach.

    Attributes:
        ranges: Edge -> (lowest, highest), keras variables; learnt with the weights.
    """

    def __init__(self, folded: Any, preprocess: Preprocess) -> None:
        self.preprocess, self._folded = preprocess, folded
        self._edges, self._logits = _plan(folded)
        self._image = next(op.output for op in operations(folded, NAME) if op.kind == "InputLayer")
        self._kernels: dict[str, tuple[Any, npt.NDArray[np.float32]]] = {}
        self._biases: dict[str, Any] = {}
        # Layer -> 0 where pruning has left a zero, which rounding keeps as well.
        self._masks: dict[str, npt.NDArray[np.float32]] = {}
        self.ranges: dict[str, tuple[Any, Any]] = {}
        self._make_variables()

    @property
    def trained(self) -> Sequence[Any]:
        """Kernels as shares of their channel's first largest weight, biases, and the ranges."""
        kernels = [variable for variable, _ in self._kernels.values()]
        return [*kernels, *self._biases.values(), *(end for pair in self.ranges.values() for end in pair)]

    @property
    def state(self) -> Sequence[Any]:
        """All of them: nothing else changes."""
        return self.trained

    def outputs(self, images: Any, *, training: bool) -> Mapping[str, Any]:
        """``logits`` as the int8 graph will give them, and ``features``: what the last layer with weights reads."""
        return self._run(normalised(images, self.preprocess), self._rounded)

    def observe(self, images: npt.NDArray[np.uint8]) -> dict[str, Any]:
        """What each edge carries with rounded weights and unrounded values: edge -> tensor."""
        seen: dict[str, Any] = {}

        def note(value: Any, key: str) -> Any:
            seen[key] = value
            return value

        self._run(normalised(images, self.preprocess), note)
        return seen

    def set_ranges(self, ranges: Mapping[str, tuple[float, float]]) -> None:
        """Begin with these."""
        for key, (low, high) in ranges.items():
            self.ranges[key][0].assign(min(0.0, low))
            self.ranges[key][1].assign(max(_LEAST_SPAN, high))

    def found_ranges(self) -> dict[str, tuple[float, float]]:
        """Edge -> (lowest, highest) as they are now, the input's pixels included."""
        ends = {k: (min(0.0, float(a)), max(_LEAST_SPAN, float(b))) for k, (a, b) in self.ranges.items()}
        return {INPUT: pixel_range(self.preprocess), **ends}

    def folded_model(self) -> Any:
        """The float model with the learnt weights; rounding is left to the quantiser."""
        for name, (variable, scale) in self._kernels.items():
            layer = self._folded.get_layer(name)
            layer.kernel.assign(variable.numpy() * scale * self._masks.get(name, np.float32(1)))
            if name in self._biases:
                layer.bias.assign(self._biases[name].numpy())
        return self._folded

    def _make_variables(self) -> None:
        import keras

        for edge in self._edges:
            layer = edge.operation.layer
            if edge.operation.kind in WEIGHTED:
                kernel = layer.kernel.numpy()
                # Steps are then shares of a channel's range, whatever BatchNorm has made of its size.
                largest = np.abs(kernel).max(axis=_within(layer), keepdims=True)
                scale = np.where(largest > 0, largest, 1.0).astype(np.float32)
                if (kernel == 0).any():
                    self._masks[layer.name] = (kernel != 0).astype(np.float32)
                self._kernels[layer.name] = keras.Variable(kernel / scale, name=f"{layer.name}_share"), scale
                if layer.use_bias:
                    self._biases[layer.name] = keras.Variable(layer.bias.numpy(), name=f"{layer.name}_bias")
            if edge.key is not None:
                ends = (keras.Variable(np.float32(v), name=f"{edge.key}_{n}") for v, n in ((0, "low"), (1, "high")))
                self.ranges[edge.key] = (next(ends), next(ends))

    def _run(self, image: Any, fake: Callable[[Any, str], Any]) -> dict[str, Any]:
        import tensorflow as tf

        low, high = pixel_range(self.preprocess)
        values = {self._image: tf.quantization.fake_quant_with_min_max_args(image, low, high)}
        features = None
        for edge in self._edges:
            inputs = [values[value] for value in edge.operation.inputs]
            if edge.operation.kind in WEIGHTED:
                features = inputs[0]
                value = self._weighted(edge.operation.layer, inputs[0])
            else:
                value = edge.operation.layer(inputs[0] if len(inputs) == 1 else inputs)
            if edge.activation:
                value = tf.nn.relu6(value) if edge.activation == "relu6" else tf.nn.relu(value)
            values[edge.output] = value if edge.key is None else fake(value, edge.key)
        return {"logits": values[self._logits], "features": features}

    def _weighted(self, layer: Any, value: Any) -> Any:
        import tensorflow as tf

        share, scale = self._kernels[layer.name]
        whole = share.value * scale
        if layer.name in self._masks:
            whole *= self._masks[layer.name]
        kernel = _rounded_weights(whole, _within(layer))
        kind = type(layer).__name__
        if kind == "Dense":
            out = tf.matmul(value, kernel)
        else:
            strides, padding = [1, *layer.strides, 1], layer.padding.upper()
            run = tf.nn.depthwise_conv2d if kind == "DepthwiseConv2D" else tf.nn.conv2d
            out = run(value, kernel, strides, padding, dilations=list(layer.dilation_rate))
        return out + self._biases[layer.name].value if layer.name in self._biases else out

    def _rounded(self, value: Any, key: str) -> Any:
        import tensorflow as tf

        low, high = self.ranges[key]
        return tf.quantization.fake_quant_with_min_max_vars(
            value, tf.minimum(low.value, 0.0), tf.maximum(high.value, _LEAST_SPAN)
        )


def pixel_range(preprocess: Preprocess) -> tuple[float, float]:
    """The smallest and the largest value that a normalised pixel can have, and zero between them."""
    ends = [(level - m) / s for m, s in zip(preprocess.mean, preprocess.std, strict=True) for level in (0, 255)]
    return min(0.0, *ends), max(0.0, *ends)


def best_range(values: npt.NDArray[np.float32]) -> tuple[float, float]:
    """The range whose 256 levels lie nearest to the values, by mean square."""
    low, high = min(0.0, float(values.min())), max(_LEAST_SPAN, float(values.max()))
    best, least = (low, high), np.inf
    for share in np.linspace(1.0, 0.3, _STEPS):
        a, b = low * share, high * share
        scale = (b - a) / 255
        zero = round(-a / scale)
        rounded = (np.clip(np.round(values / scale) + zero, 0, 255) - zero) * scale
        error = float(np.mean((values - rounded) ** 2))
        if error < least:
            best, least = (a, b), error
    return best


def _rounded_weights(kernel: Any, within: tuple[int, ...]) -> Any:
    """Each output channel on its own symmetric grid of 255 levels, as TFLite rounds it; the gradient passes through."""
    import tensorflow as tf

    scale = tf.maximum(tf.reduce_max(tf.abs(kernel), axis=within, keepdims=True) / _LEVELS, 1e-12)
    return kernel + tf.stop_gradient(tf.round(kernel / scale) * scale - kernel)


def _within(layer: Any) -> tuple[int, ...]:
    """Axes of a kernel inside one output channel."""
    return {"Dense": (0,), "DepthwiseConv2D": (0, 1)}.get(type(layer).__name__, (0, 1, 2))


def _plan(folded: Any) -> tuple[list[_Edge], int]:
    """The edges in order, and the number of the logits.

    Raises:
        PassError: A layer has no int8 form here; by its name.
    """
    found = operations(folded, NAME)
    read = readers(found)
    behind = {op.inputs[0]: op for op in found if op.inputs and read[op.inputs[0]] == 1}
    edges: list[_Edge] = []
    fused: set[int] = set()
    logits = found[-1].output
    for op in found:
        check_channels_last(op, NAME)
        if op.kind == "InputLayer" or op.output in fused:
            continue
        own = _activation(op)
        if own == "softmax" or op.kind == "Softmax":
            _require_last(op, found)
            if op.kind not in WEIGHTED:
                logits = op.inputs[0]
                continue
            own = ""
        output, key = op.output, op.name
        following = behind.get(op.output)
        if op.kind in (*WEIGHTED, "Add") and not own and following is not None and _is_relu(following):
            own, output, key = _activation(following), following.output, following.name
            fused.add(following.output)
        if op.kind in _SAME or (op.kind == "Activation" and own == ""):
            edges.append(_Edge(op, "", None, output))
        elif op.kind in (*WEIGHTED, *_OWN) or own in ("relu", "relu6"):
            edges.append(_Edge(op, own if op.kind in (*WEIGHTED, *_OWN) else "", key, output))
        else:
            known = ", ".join(sorted({*WEIGHTED, *_OWN, *_SAME, "BatchNormalization", "ReLU", "Softmax", "Dropout"}))
            raise PassError(NAME, f"'{op.name}' is a {op.kind}, which it cannot round (it knows {known})", "replace it")
    return edges, logits


def _is_relu(op: Operation) -> bool:
    return op.kind in ("ReLU", "Activation") and _activation(op) in ("relu", "relu6")


def _activation(op: Operation) -> str:
    """``relu``, ``relu6``, ``softmax`` or nothing.

    Raises:
        PassError: Another one; by the layer's name.
    """
    layer = op.layer
    if op.kind == "ReLU":
        if layer.max_value not in (None, 6) or layer.negative_slope or layer.threshold:
            raise PassError(NAME, f"'{op.name}' is no plain ReLU or ReLU6", "use keras.layers.ReLU(6.0)")
        return "relu" if layer.max_value is None else "relu6"
    name = getattr(getattr(layer, "activation", None), "__name__", "linear")
    if name in ("relu", "relu6", "softmax", "linear"):
        return "" if name == "linear" else str(name)
    raise PassError(NAME, f"'{op.name}' has the activation {name}, which it cannot round", "use relu or relu6")


def _require_last(op: Operation, found: list[Operation]) -> None:
    if op is not found[-1]:
        raise PassError(NAME, f"softmax of '{op.name}' is not the last layer", "let the classifier end in it")
