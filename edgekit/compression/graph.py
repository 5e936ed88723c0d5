"""A float .tflite as passes see it: its operators with their options, its constants, and a way to change those.

Passes work on the file that the quantiser will read, not on the Keras model: BatchNorm is already folded the way
TFLite folds it, so a weight seen here is the weight that is quantised. Constants keep their size, so a change is
written over the old bytes and nothing is laid out again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.errors import CompressionError
from edgekit_device.infer.flatbuffer import OperatorInfo, TensorInfo, constant, read_model

Array = npt.NDArray[np.float32]

# Operators with weights, and the axis of the output channel in them.
CHANNEL_AXIS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}
_WEIGHTS, _BIAS = 1, 2
# From the schema: enum ActivationFunctionType and enum Padding.
_ACTIVATIONS = {0: None, 1: "relu", 3: "relu6"}
_PADDINGS = {0: "SAME", 1: "VALID"}


@dataclass(frozen=True)
class Node:
    """One operator of the graph.

    Attributes:
        index: Place in the order of execution.
        kind: The operator's name, e.g. ``CONV_2D``.
        inputs: Tensor indices; -1 for an input left out.
        output: Tensor index of its only output.
        activation: Fused behind it: None, ``relu`` or ``relu6``.
        options: What its kind needs: strides, padding, dilations, filter, keep_dims, beta.
    """

    index: int
    kind: str
    inputs: tuple[int, ...]
    output: int
    activation: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def has_weights(self) -> bool:
        """Whether it is a convolution or a dense layer."""
        return self.kind in CHANNEL_AXIS

    @property
    def weights(self) -> int:
        """Tensor index of the weights."""
        return self.inputs[_WEIGHTS]

    @property
    def bias(self) -> int:
        """Tensor index of the bias; -1 without one."""
        return self.inputs[_BIAS] if len(self.inputs) > _BIAS else -1


class FloatGraph:
    """A float model, parsed.

    Attributes:
        data: The file.
        info: What it declares.
        nodes: In the order of execution.
    """

    def __init__(self, data: bytes, name: str = "the float model") -> None:
        """Parse a file.

        Raises:
            ModelFormatError: Not a TFLite file.
            CompressionError: An operator has several outputs, or the file several graphs.
        """
        self.data, self.info = data, read_model(data, name)
        self._schema = _schema_of(data)
        self.nodes = tuple(self._node(i, op) for i, op in enumerate(self.info.main.operators))

    @property
    def tensors(self) -> tuple[TensorInfo, ...]:
        """By index."""
        return self.info.main.tensors

    def constant(self, index: int) -> npt.NDArray[Any]:
        """The values of a constant tensor, in its own shape; a copy that may be changed."""
        tensor = self.tensors[index]
        return np.frombuffer(constant(self.data, tensor), tensor.dtype).reshape(tensor.shape).copy()

    def is_constant(self, index: int) -> bool:
        """Whether a tensor's values stand in the file."""
        return index >= 0 and self.tensors[index].is_constant

    def range_of(self, index: int) -> tuple[float, float] | None:
        """The minimum and maximum that calibration noted for an activation; None if it noted none."""
        table = self._schema.Tensors(index).Quantization()
        if table is None or table.MinLength() != 1 or table.MaxLength() != 1:
            return None
        return float(table.Min(0)), float(table.Max(0))

    def patched(
        self,
        constants: Mapping[int, npt.NDArray[Any]],
    ) -> bytes:
        """The same file with other values in some tensors.

        Args:
            constants: Tensor index -> values, in the tensor's shape.

        Raises:
            CompressionError: Two tensors share the bytes of one that would change.
        """
        changed = bytearray(self.data)
        owners: dict[int, list[str]] = {}
        for tensor in self.tensors:
            if tensor.is_constant:
                owners.setdefault(tensor.buffer_offset, []).append(tensor.name)
        for index, values in constants.items():
            tensor = self.tensors[index]
            if len(owners[tensor.buffer_offset]) > 1:
                raise CompressionError(
                    self.info.name, f"{' and '.join(owners[tensor.buffer_offset])} share their values"
                )
            raw = np.ascontiguousarray(values, dtype=tensor.dtype).tobytes()
            if len(raw) != tensor.buffer_bytes:
                raise CompressionError(self.info.name, f"{tensor.name} has another size")
            changed[tensor.buffer_offset : tensor.buffer_offset + tensor.buffer_bytes] = raw
        return bytes(changed)

    def _node(self, index: int, operator: OperatorInfo) -> Node:
        if len(operator.outputs) != 1:
            raise CompressionError(self.info.name, f"{operator.name} has {len(operator.outputs)} outputs")
        options = _options(self._schema.Operators(index), operator.name)
        activation = _ACTIVATIONS.get(options.pop("activation", 0), "unknown")
        return Node(index, operator.name, operator.inputs, operator.outputs[0], activation, options)


def weight_matrix(kind: str, weights: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Weights with the output channel first and everything else behind: shape (channels, inputs per channel).

    A depthwise kernel's inputs are its own height * width taps.
    """
    return np.moveaxis(weights, CHANNEL_AXIS[kind], 0).reshape(weights.shape[CHANNEL_AXIS[kind]], -1)


def weight_tensor(kind: str, matrix: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """The reverse of `weight_matrix`, for a tensor of this shape."""
    axis = CHANNEL_AXIS[kind]
    moved = (shape[axis], *shape[:axis], *shape[axis + 1 :])
    return np.ascontiguousarray(np.moveaxis(matrix.reshape(moved), 0, axis))


def _schema_of(data: bytes) -> Any:
    from tensorflow.lite.python import schema_py_generated as schema

    return schema.Model.GetRootAs(data, 0).Subgraphs(0)


def _options(operator: Any, kind: str) -> dict[str, Any]:
    from tensorflow.lite.python import schema_py_generated as schema

    classes = {
        "CONV_2D": schema.Conv2DOptions,
        "DEPTHWISE_CONV_2D": schema.DepthwiseConv2DOptions,
        "FULLY_CONNECTED": schema.FullyConnectedOptions,
        "ADD": schema.AddOptions,
        "MUL": schema.MulOptions,
        "AVERAGE_POOL_2D": schema.Pool2DOptions,
        "MAX_POOL_2D": schema.Pool2DOptions,
        "MEAN": schema.ReducerOptions,
        "SOFTMAX": schema.SoftmaxOptions,
    }
    table = operator.BuiltinOptions()
    if table is None or kind not in classes:
        return {}
    found = classes[kind]()
    found.Init(table.Bytes, table.Pos)
    options: dict[str, Any] = {}
    if hasattr(found, "FusedActivationFunction"):
        options["activation"] = int(found.FusedActivationFunction())
    if hasattr(found, "StrideH"):
        options["strides"] = (int(found.StrideH()), int(found.StrideW()))
        options["padding"] = _PADDINGS[int(found.Padding())]
    if hasattr(found, "DilationHFactor"):
        options["dilations"] = (int(found.DilationHFactor()), int(found.DilationWFactor()))
    if hasattr(found, "FilterHeight"):
        options["filter"] = (int(found.FilterHeight()), int(found.FilterWidth()))
    if hasattr(found, "KeepDims"):
        options["keep_dims"] = bool(found.KeepDims())
    if hasattr(found, "Beta"):
        options["beta"] = float(found.Beta())
    return options
