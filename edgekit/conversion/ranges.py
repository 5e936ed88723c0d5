"""The ranges that calibration left in a float .tflite: read them, and write others in their place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

_MIN, _MAX = 4, 6  # Places of the two vectors in the table QuantizationParameters.


def read_ranges(calibrated: bytes) -> dict[str, tuple[float, float]]:
    """Tensor name -> minimum and maximum, of every activation that was calibrated."""
    found: dict[str, tuple[float, float]] = {}
    for tensor, table in _tables(calibrated):
        if table.MinLength() == 1 and table.MaxLength() == 1:
            found[tensor.Name().decode("utf-8")] = (float(table.Min(0)), float(table.Max(0)))
    return found


def write_ranges(calibrated: bytes, ranges: Mapping[str, tuple[float, float]]) -> bytes:
    """The same file with other ranges for the tensors named; a name that was not calibrated is passed over."""
    changed = bytearray(calibrated)
    for tensor, table in _tables(calibrated):
        name = tensor.Name().decode("utf-8")
        if name in ranges and table.MinLength() == 1 and table.MaxLength() == 1:
            for slot, value in zip((_MIN, _MAX), ranges[name], strict=True):
                start = table._tab.Vector(table._tab.Offset(slot))
                changed[start : start + 4] = np.float32(value).tobytes()
    return bytes(changed)


def annotate(float_model: bytes, ranges: Mapping[str, tuple[float, float]]) -> bytes:
    """A float model that was never calibrated, with ranges: the file is laid out anew.

    Args:
        float_model: As `tflite.lower` makes it.
        ranges: Tensor name -> minimum and maximum.
    """
    from tensorflow.lite.python import schema_py_generated as schema
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(float_model))
    for tensor in model.subgraphs[0].tensors:
        found = ranges.get(tensor.name.decode("utf-8"))
        if found:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.min, tensor.quantization.max = [found[0]], [found[1]]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _tables(data: bytes) -> Any:
    from tensorflow.lite.python import schema_py_generated as schema

    graph = schema.Model.GetRootAs(data, 0).Subgraphs(0)
    for index in range(graph.TensorsLength()):
        table = graph.Tensors(index).Quantization()
        if table is not None:
            yield graph.Tensors(index), table
