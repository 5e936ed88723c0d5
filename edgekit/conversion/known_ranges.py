"""Ranges that training has found, put on the tensors of a float .tflite: nothing is calibrated."""

from __future__ import annotations

from collections.abc import Mapping

from edgekit.conversion.pinning import input_range
from edgekit.conversion.quantisation import layer_names
from edgekit.conversion.ranges import annotate
from edgekit.errors import ConversionError
from edgekit_device.contract.preprocess import Preprocess
from edgekit_device.infer.flatbuffer import read_model

# Written on the grid of what they read.
_SAME = frozenset({"RESHAPE", "PAD", "PADV2", "MAX_POOL_2D", "AVERAGE_POOL_2D", "TRANSPOSE", "SQUEEZE", "EXPAND_DIMS"})


def with_known_ranges(float_model: bytes, layers: Mapping[str, tuple[float, float]], preprocess: Preprocess) -> bytes:
    """A float model as calibration would leave it.

    Args:
        float_model: What `lower` made.
        layers: Layer -> smallest and largest value behind it, the activation fused to it included.
        preprocess: The model's preprocessing, which gives the input's range.

    Returns:
        The float model, each activation with its range.

    Raises:
        ConversionError: A tensor belongs to no layer whose range is known.
    """
    info = read_model(float_model, "the float model")
    graph = info.main
    low, high = input_range(preprocess)
    known = {index: (min(low, 0.0), max(high, 0.0)) for index in graph.input_indices}
    for op in graph.operators:
        out = op.outputs[0]
        name = graph.tensors[out].name
        hit = next((layer for layer in layer_names(name) if layer in layers), None)
        source = next((index for index in op.inputs if index in known), None)
        if op.name in ("SOFTMAX", "LOGISTIC"):
            known[out] = (0.0, 1.0)
        elif op.name in _SAME and source is not None:
            known[out] = known[source]
        elif hit is not None:
            known[out] = layers[hit]
        else:
            raise ConversionError(
                "ranges", f"no range is known for {op.name} '{name[:80]}'", "run the pass qat again on this model"
            )
    return annotate(float_model, {graph.tensors[index].name: ends for index, ends in known.items()})
