"""A Keras classifier as a list of operations in order, and the same model with every BatchNorm folded away."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.errors import PassError

WEIGHTED = ("Conv2D", "DepthwiseConv2D", "Dense")


@dataclass(frozen=True)
class Operation:
    """One layer at its place.

    Attributes:
        layer: The Keras layer.
        inputs: Numbers of the values it reads.
        output: Number of the value it makes.
    """

    layer: Any
    inputs: tuple[int, ...]
    output: int

    @property
    def kind(self) -> str:
        """The layer's class, e.g. ``Conv2D``."""
        return type(self.layer).__name__

    @property
    def name(self) -> str:
        """The layer's name."""
        return str(self.layer.name)


def operations(model: Any, name: str) -> list[Operation]:
    """The layers of a functional or sequential model, each behind those it reads.

    Args:
        model: The model.
        name: Of the pass, for errors.

    Raises:
        PassError: It is neither, holds a model as a layer, uses a layer twice, or has several inputs or outputs.
    """
    graph = getattr(model, "_functional", None) or model
    if not hasattr(graph, "_nodes_by_depth"):
        raise PassError(name, f"{model.name} is a subclassed model", "build it with keras.Model(inputs, outputs)")
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise PassError(name, f"{model.name} has several inputs or outputs", "use a model of one image and one score")
    found: list[Operation] = []
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        for node in graph._nodes_by_depth[depth]:
            layer = node.operation
            if hasattr(layer, "_nodes_by_depth") or getattr(layer, "_functional", None) is not None:
                raise PassError(name, f"'{layer.name}' is a model inside the model", "build both as one model")
            found.append(Operation(layer, tuple(id(t) for t in node.input_tensors), id(node.outputs[0])))
    uses = Counter(operation.name for operation in found)
    for layer_name, count in uses.items():
        if count > 1:
            raise PassError(name, f"layer '{layer_name}' is used {count} times", "give each place a layer of its own")
    return found


def readers(found: list[Operation]) -> Counter[int]:
    """How often each value is read."""
    return Counter(value for operation in found for value in operation.inputs)


def check_channels_last(operation: Operation, name: str) -> None:
    """Refuse channels first, which TFLite does not know.

    Raises:
        PassError: By the layer's name.
    """
    if getattr(operation.layer, "data_format", "channels_last") != "channels_last":
        raise PassError(name, f"'{operation.name}' has its channels first", "build it with data_format='channels_last'")


def fold(model: Any, name: str) -> Any:
    """The same function without BatchNorm: scales in the kernels, offsets in the biases; statistics as they stand.

    Args:
        model: A functional or sequential model.
        name: Of the pass, for errors.

    Returns:
        A functional ``keras.Model`` with the same names; dropout is gone too.

    Raises:
        PassError: A BatchNorm stands behind something that it cannot be folded into; by its name.
    """
    import keras

    found = operations(model, name)
    read = readers(found)
    norms = {op.inputs[0]: op for op in found if op.kind == "BatchNormalization"}
    values: dict[int, Any] = {}
    weights: list[tuple[Any, list[Any]]] = []
    image = None
    for operation in found:
        layer = operation.layer
        if operation.kind == "InputLayer":
            image = keras.Input(batch_shape=(None, *layer.batch_shape[1:]), name="image", dtype="float32")
            values[operation.output] = image
        elif operation.kind == "BatchNormalization":
            if operation.output in values:
                continue
            raise PassError(
                name,
                f"BatchNormalization '{operation.name}' has no convolution or dense layer right before it",
                "put it behind one, without an activation between",
            )
        elif "Dropout" in operation.kind:
            values[operation.output] = values[operation.inputs[0]]
        else:
            norm = norms.get(operation.output)
            foldable = operation.kind in WEIGHTED and read[operation.output] == 1 and _linear(layer)
            if norm is None or not foldable:
                made = _again(layer)
                values[operation.output] = made(_inputs(operation, values))
                weights.append((made, layer.get_weights()))
                continue
            made = type(layer).from_config({**layer.get_config(), "use_bias": True})
            values[operation.output] = values[norm.output] = made(_inputs(operation, values))
            weights.append((made, _folded(layer, norm.layer, name)))
    folded = keras.Model(image, values[_last(model)], name=model.name)
    for made, tensors in weights:
        made.set_weights(tensors)
    return folded


def _last(model: Any) -> int:
    return id(model.outputs[0])


def _again(layer: Any) -> Any:
    return type(layer).from_config(layer.get_config())


def _inputs(operation: Operation, values: dict[int, Any]) -> Any:
    read = [values[value] for value in operation.inputs]
    return read[0] if len(read) == 1 else read


def _linear(layer: Any) -> bool:
    return getattr(getattr(layer, "activation", None), "__name__", "linear") == "linear"


def _folded(layer: Any, norm: Any, name: str) -> list[Any]:
    if norm.axis not in (-1, len(layer.output.shape) - 1):
        raise PassError(name, f"BatchNormalization '{norm.name}' is not over channels", "use axis=-1")
    mean, variance = (v.numpy().astype(np.float64) for v in (norm.moving_mean, norm.moving_variance))
    gamma = norm.gamma.numpy().astype(np.float64) if norm.scale else np.ones_like(mean)
    beta = norm.beta.numpy().astype(np.float64) if norm.center else np.zeros_like(mean)
    factor = gamma / np.sqrt(variance + norm.epsilon)
    kernel, *bias = (np.array(v, np.float64) for v in layer.get_weights())
    # A depthwise kernel is (h, w, channels, multiplier): its output channels are the last two axes together.
    spread = factor.reshape(kernel.shape[2:]) if type(layer).__name__ == "DepthwiseConv2D" else factor
    offset = bias[0] if bias else np.zeros_like(mean)
    return [(kernel * spread).astype(np.float32), (beta + (offset - mean) * factor).astype(np.float32)]
