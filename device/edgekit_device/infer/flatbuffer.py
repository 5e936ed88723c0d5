"""What a TFLite file says about itself, read without an interpreter.

A crafted model may abort or hang an interpreter; this reader only follows offsets that it has checked, and
spends work in proportion to the file's size however its tables point at each other. Format: flatbuffers'
"Internals" page and tensorflow/compiler/mlir/lite/schema/schema.fbs (version 3, identifier TFL3).
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from edgekit_device.contract.errors import ModelFormatError
from edgekit_device.infer.operators import EDGETPU_OPERATOR, operator_name, tensor_type

IDENTIFIER = b"TFL3"
MAX_RANK = 8

_T = TypeVar("_T")


@dataclass(frozen=True)
class TensorInfo:
    """One tensor of a subgraph; real value = scale * (q - zero_point).

    Attributes:
        index: Place in its subgraph.
        name: As the converter wrote it.
        shape: Static shape; () for a scalar.
        shape_signature: As `shape`, with -1 where the file declares a dimension dynamic.
        dtype: ``int8``, ``float32``, ...
        scales: One for the tensor, or one per channel; empty if it is not quantised.
        zero_points: As many as scales.
        quantized_dimension: The channel axis of `scales`, when there are several.
        buffer_offset: Where the constant's bytes begin in the file; 0 for none.
        buffer_bytes: Length of the constant; 0 for an activation.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    shape_signature: tuple[int, ...]
    dtype: str
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    quantized_dimension: int
    buffer_offset: int
    buffer_bytes: int

    @property
    def is_constant(self) -> bool:
        """Whether the values stand in the file: weights, biases, shapes."""
        return self.buffer_bytes > 0


@dataclass(frozen=True)
class OperatorInfo:
    """One operator: its built-in name or custom code, and tensor indices (-1: an input left out)."""

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class SubgraphInfo:
    """One graph of a model; the first is the one that runs."""

    name: str
    tensors: tuple[TensorInfo, ...]
    operators: tuple[OperatorInfo, ...]
    input_indices: tuple[int, ...]
    output_indices: tuple[int, ...]

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """The tensors that the caller fills."""
        return tuple(self.tensors[index] for index in self.input_indices)

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        """The tensors that the caller reads."""
        return tuple(self.tensors[index] for index in self.output_indices)


@dataclass(frozen=True)
class ModelInfo:
    """What the file declares.

    Attributes:
        name: What the file is called in errors.
        version: Schema version, 3.
        description: As the converter wrote it.
        subgraphs: At least one.
        metadata: Entry name -> (offset, length in bytes) in the file.
    """

    name: str
    version: int
    description: str
    subgraphs: tuple[SubgraphInfo, ...]
    metadata: dict[str, tuple[int, int]]

    @property
    def main(self) -> SubgraphInfo:
        """The graph that runs."""
        return self.subgraphs[0]

    @property
    def operator_counts(self) -> dict[str, int]:
        """Operator name -> how many, over all subgraphs, sorted by name."""
        counts = Counter(operator.name for graph in self.subgraphs for operator in graph.operators)
        return dict(sorted(counts.items()))

    @property
    def is_edgetpu_compiled(self) -> bool:
        """Whether the Edge TPU compiler made this file, so that it needs the accelerator."""
        return EDGETPU_OPERATOR in self.operator_counts


def read_model(data: bytes, name: str = "model") -> ModelInfo:
    """Read a TFLite flatbuffer.

    Args:
        data: The whole file.
        name: What the file is called in errors.

    Raises:
        ModelFormatError: Truncated, not TFLite, or an offset, length or index points outside.
    """
    reader = _Reader(data, name)
    if data[4:8] != IDENTIFIER:
        raise reader.error("it does not carry the identifier TFL3")
    model = _Table(reader, reader.unsigned(0))
    buffers = [_buffer(table) for table in model.tables(4)]
    codes = [_operator_code(table) for table in model.tables(1)]
    graphs = tuple(_subgraph(table, buffers, codes) for table in model.tables(2))
    if not graphs:
        raise reader.error("it holds no graph")
    entries = {table.text(0): reader.pick(buffers, table.number(1, "<I"), "buffer") for table in model.tables(6)}
    return ModelInfo(name, model.number(0, "<I"), model.text(3), graphs, entries)


def constant(data: bytes, tensor: TensorInfo) -> memoryview:
    """The bytes of a constant tensor, without a copy.

    Args:
        data: The file that `tensor` was read from.
        tensor: One of its tensors.
    """
    return memoryview(data)[tensor.buffer_offset : tensor.buffer_offset + tensor.buffer_bytes]


def _operator_code(table: _Table) -> str:
    # Files older than schema 3a carry the code in one byte, newer ones in both places: the larger one counts.
    code = max(table.number(0, "<b"), table.number(3, "<i"))
    if code < 0:
        raise table.reader.error(f"operator code {code}")
    return operator_name(code, table.text(1))


def _buffer(table: _Table) -> tuple[int, int]:
    start, length = table.vector(0, 1)
    if length:
        return start, length
    # Files past 2 GB keep their buffers behind the flatbuffer; the offset counts from the start of the file.
    offset, size = table.number(1, "<Q"), table.number(2, "<Q")
    if offset <= 1 or not size:
        return 0, 0
    table.reader.check(offset, size)
    return offset, size


def _subgraph(table: _Table, buffers: list[tuple[int, int]], codes: list[str]) -> SubgraphInfo:
    tensors = tuple(_tensor(entry, index, buffers) for index, entry in enumerate(table.tables(0)))
    read = table.reader

    def indices(owner: _Table, field: int, lowest: int) -> tuple[int, ...]:
        values = owner.values(field, "i")
        if any(not lowest <= value < len(tensors) for value in values):
            raise read.error("a tensor index points past the tensors")
        return values

    operators = tuple(
        OperatorInfo(
            read.pick(codes, entry.number(0, "<I"), "operator code"), indices(entry, 1, -1), indices(entry, 2, 0)
        )
        for entry in table.tables(3)
    )
    return SubgraphInfo(table.text(4), tensors, operators, indices(table, 1, 0), indices(table, 2, 0))


def _tensor(table: _Table, index: int, buffers: list[tuple[int, int]]) -> TensorInfo:
    shape = table.values(0, "i")
    signature = table.values(7, "i") or shape
    if len(shape) > MAX_RANK or any(size < 0 for size in shape):
        raise table.reader.error(f"tensor {index} has shape {list(shape[:MAX_RANK])}")
    offset, length = table.reader.pick(buffers, table.number(2, "<I"), "buffer")
    quantization = table.table(4)
    scales = quantization.values(2, "f") if quantization else ()
    zero_points = quantization.values(3, "q") if quantization else ()
    axis = quantization.number(6, "<i") if quantization else 0
    # The same two conditions as the interpreter's own loader.
    if len(scales) != len(zero_points):
        raise table.reader.error(f"tensor {index} has {len(scales)} scales and {len(zero_points)} zero points")
    if len(scales) > 1 and not (0 <= axis < len(shape) and shape[axis] == len(scales)):
        raise table.reader.error(f"tensor {index} has {len(scales)} scales for axis {axis} of {list(shape)}")
    dtype = tensor_type(table.number(1, "<b"))
    return TensorInfo(index, table.text(3), shape, signature, dtype, scales, zero_points, axis, offset, length)


class _Reader:
    """Bounds-checked access to the bytes, with a budget against tables that share one large vector."""

    def __init__(self, data: bytes, name: str) -> None:
        self.data, self.name = data, name
        # A converter shares strings and small vectors; four times the file leaves room for that and no more.
        self.budget_bytes = 4 * len(data) + 4096

    def error(self, problem: str) -> ModelFormatError:
        return ModelFormatError(self.name, problem)

    def check(self, start: int, length: int) -> None:
        if start < 0 or start + length > len(self.data):
            raise self.error(f"truncated: bytes {start} to {start + length} of {len(self.data)}")

    def spend(self, length: int) -> None:
        self.budget_bytes -= length
        if self.budget_bytes < 0:
            raise self.error("its tables overlap")

    def unpack(self, form: str, start: int) -> Any:
        self.check(start, struct.calcsize(form))
        return struct.unpack_from(form, self.data, start)[0]

    def unsigned(self, start: int) -> int:
        value: int = self.unpack("<I", start)
        return value

    def pick(self, items: list[_T], index: int, what: str) -> _T:
        if not 0 <= index < len(items):
            raise self.error(f"{what} {index} of {len(items)}")
        return items[index]


class _Table:
    """One flatbuffer table; `field` is its place in the schema."""

    def __init__(self, reader: _Reader, start: int) -> None:
        self.reader, self.start = reader, start
        reader.spend(4)
        self.vtable = start - reader.unpack("<i", start)
        self.vtable_bytes: int = reader.unpack("<H", self.vtable)

    def _at(self, field: int) -> int:
        """Where a field's value stands; 0 if it is left at its default."""
        slot = 4 + 2 * field
        offset: int = self.reader.unpack("<H", self.vtable + slot) if slot + 2 <= self.vtable_bytes else 0
        return self.start + offset if offset else 0

    def number(self, field: int, form: str) -> int:
        at = self._at(field)
        return int(self.reader.unpack(form, at)) if at else 0

    def _follow(self, field: int) -> int:
        at = self._at(field)
        return at + self.reader.unsigned(at) if at else 0

    def vector(self, field: int, item_bytes: int) -> tuple[int, int]:
        """Where a vector's items begin, and how many there are."""
        at = self._follow(field)
        if not at:
            return 0, 0
        count = self.reader.unsigned(at)
        self.reader.check(at + 4, count * item_bytes)
        return at + 4, count

    def values(self, field: int, form: str) -> tuple[Any, ...]:
        size = struct.calcsize("<" + form)
        start, count = self.vector(field, size)
        self.reader.spend(count * size)
        return struct.unpack_from(f"<{count}{form}", self.reader.data, start)

    def text(self, field: int) -> str:
        start, count = self.vector(field, 1)
        self.reader.spend(count)
        return self.reader.data[start : start + count].decode("utf-8", errors="replace")

    def table(self, field: int) -> _Table | None:
        at = self._follow(field)
        return _Table(self.reader, at) if at else None

    def tables(self, field: int) -> Iterator[_Table]:
        start, count = self.vector(field, 4)
        for at in range(start, start + 4 * count, 4):
            self.reader.spend(4)
            yield _Table(self.reader, at + self.reader.unsigned(at))
