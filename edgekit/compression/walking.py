"""A Keras classifier run an operation at a time, so that what lies between can be seen or changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from edgekit.compression.keras_graph import Operation

# (operation, value it reads or list of them) -> what it makes.
Call = Callable[[Operation, Any], Any]


def plainly(op: Operation, value: Any) -> Any:
    """Run one operation as in use: BatchNorm by its statistics, no dropout."""
    return op.layer(value, training=False) if _minds_training(op) else op.layer(value)


def as_taught(op: Operation, value: Any) -> Any:
    """Run one operation as in a step of training that leaves BatchNorm's statistics as they are."""
    if not _minds_training(op):
        return op.layer(value)
    return op.layer(value, training=op.kind != "BatchNormalization")


def _minds_training(op: Operation) -> bool:
    return op.kind == "BatchNormalization" or "Dropout" in op.kind


def walk(found: Sequence[Operation], image: Any, call: Call = plainly) -> dict[int, Any]:
    """Run a model.

    Args:
        found: Its operations in order.
        image: What it reads.
        call: Runs one operation.

    Returns:
        Value -> tensor.
    """
    values: dict[int, Any] = {}
    for op in found:
        if op.kind == "InputLayer":
            values[op.output] = image
            continue
        read = [values[value] for value in op.inputs]
        values[op.output] = call(op, read[0] if len(read) == 1 else read)
    return values
