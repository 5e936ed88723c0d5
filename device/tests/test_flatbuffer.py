"""Promises of the flatbuffer reader: it tells what the interpreter would, and no file can hurt it."""

from __future__ import annotations

import random
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit_device.contract.errors import ModelFormatError
from edgekit_device.infer.flatbuffer import constant, read_model
from edgekit_device.infer.interpreter import find_interpreter
from edgekit_device.infer.operators import BUILTIN_OPERATORS, TENSOR_TYPES

FIXTURES = Path(__file__).parent / "fixtures"
INT8 = (FIXTURES / "toy_int8.tflite").read_bytes()
FLOAT = (FIXTURES / "toy_float.tflite").read_bytes()
# A reader that does work in proportion to a 21 KB file needs about a millisecond; a hang needs forever.
SLOWEST_READ_S = 2.0


def test_it_reads_of_every_tensor_what_the_interpreter_reads() -> None:
    _, module = find_interpreter()
    for data in (INT8, FLOAT):
        plain = module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        runner = module.Interpreter(model_content=data, experimental_op_resolver_type=plain)
        # The interpreter adds scratch tensors of its own only when it allocates, so it is asked before.
        details = {detail["index"]: detail for detail in runner.get_tensor_details()}
        graph = read_model(data).main
        assert len(graph.tensors) == len(details)
        for tensor in graph.tensors:
            detail = details[tensor.index]
            assert (tensor.name, tensor.shape) == (detail["name"], tuple(detail["shape"]))
            assert tensor.dtype == np.dtype(detail["dtype"]).name
            quantisation = detail["quantization_parameters"]
            assert tensor.scales == tuple(quantisation["scales"].tolist())
            assert tensor.zero_points == tuple(quantisation["zero_points"].tolist())
            assert tensor.quantized_dimension == quantisation["quantized_dimension"]
        assert graph.input_indices == tuple(detail["index"] for detail in runner.get_input_details())
        assert graph.output_indices == tuple(detail["index"] for detail in runner.get_output_details())


def test_the_bytes_of_a_constant_are_the_weights_the_interpreter_uses() -> None:
    _, module = find_interpreter()
    runner = module.Interpreter(model_content=FLOAT)
    runner.allocate_tensors()
    graph = read_model(FLOAT).main
    weights = graph.tensors[next(op for op in graph.operators if op.name == "FULLY_CONNECTED").inputs[1]]
    assert weights.is_constant
    assert not graph.inputs[0].is_constant
    assert np.array_equal(np.frombuffer(constant(FLOAT, weights), "<f4"), runner.get_tensor(weights.index).ravel())


def test_it_counts_operators_and_names_what_the_file_says_of_itself() -> None:
    info = read_model(INT8, "toy_int8.tflite")
    assert info.version == 3
    assert "MLIR" in info.description
    assert "min_runtime_version" in info.metadata
    assert info.operator_counts["DEPTHWISE_CONV_2D"] == 2
    assert sum(info.operator_counts.values()) == len(info.main.operators)
    assert info.main.inputs[0].scales == (1 / 128,)
    assert not info.is_edgetpu_compiled


def test_operator_and_type_names_stand_in_the_order_of_the_schema() -> None:
    # tflite-runtime's wheel, with which these tests run as well, does not carry the schema.
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated", exc_type=ImportError)
    for ours, theirs in ((BUILTIN_OPERATORS, schema.BuiltinOperator), (TENSOR_TYPES, schema.TensorType)):
        codes = {name: value for name, value in vars(theirs).items() if not name.startswith("_")}
        assert {name.upper(): code for code, name in enumerate(ours)} == codes


def test_a_model_compiled_for_the_edge_tpu_is_known_by_its_custom_operator() -> None:
    assert read_model(flatbuffer(model([{0: ("<b", 32), 1: b"edgetpu-custom-op"}]))).is_edgetpu_compiled


def test_an_operator_newer_than_this_reader_is_named_by_its_code() -> None:
    # Codes past 127 stand in the newer field, with 127 in the old one.
    assert read_model(flatbuffer(model([{0: ("<b", 127), 3: ("<i", 999)}]))).operator_counts == {"OPERATOR_999": 1}


@pytest.mark.parametrize(
    "data", [b"", b"TFL3", b"\x00" * 64, b"\x1c\x00\x00\x00TFL3", INT8[:1000], b"PK\x03\x04" + b"x" * 99]
)
def test_what_is_no_model_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(ModelFormatError, match=r"^photo\.tflite: not a readable TFLite model"):
        read_model(data, "photo.tflite")


def test_a_file_cut_anywhere_is_read_or_refused_and_nothing_else() -> None:
    cuts = [*range(600), *range(600, len(INT8), 29), *range(len(INT8) - 300, len(INT8))]
    refused = sum(not readable(INT8[:cut]) for cut in cuts)
    assert refused > 0.9 * len(cuts)


def test_three_thousand_mutated_files_are_read_or_refused_and_nothing_else() -> None:
    source = random.Random(11)
    # Most bytes of a model are weights, which may be anything: the tables are where a mutation can do harm.
    weights = {
        at for t in read_model(INT8).main.tensors for at in range(t.buffer_offset, t.buffer_offset + t.buffer_bytes)
    }
    tables = [at for at in range(len(INT8)) if at not in weights]
    refused = 0
    for _ in range(3000):
        data = bytearray(INT8)
        for _ in range(source.randint(1, 6)):
            at = source.choice(tables)
            data[at] = source.choice([0, 1, 0x7F, 0x80, 0xFF, source.randrange(256)])
        refused += not readable(bytes(data))
    assert 300 < refused < 3000


def test_tables_that_all_share_one_large_vector_cannot_buy_endless_work() -> None:
    # 2,000 graphs that are one graph with 2,000 tensors that are one tensor: 16 KB that unfold to four million.
    many = 2000
    data = flatbuffer({1: [], 2: Shared({0: Shared({}, many)}, many), 4: [{}]})
    assert len(data) < 20_000
    before = time.perf_counter()
    with pytest.raises(ModelFormatError, match="overlap"):
        read_model(data)
    assert time.perf_counter() - before < SLOWEST_READ_S


@pytest.mark.parametrize(
    ("tensor", "problem"),
    [
        ({2: ("<I", 9)}, "buffer 9 of 1"),
        ({0: ("vector", "i", [1, -4])}, "shape"),
        ({4: {2: ("vector", "f", [0.5, 0.5]), 3: ("vector", "q", [0])}}, "2 scales and 1 zero points"),
        (
            {0: ("vector", "i", [3]), 4: {2: ("vector", "f", [1.0, 1.0]), 3: ("vector", "q", [0, 0])}},
            "2 scales for axis 0",
        ),
    ],
)
def test_a_tensor_that_contradicts_itself_is_refused(tensor: dict[int, Any], problem: str) -> None:
    with pytest.raises(ModelFormatError, match=problem):
        read_model(flatbuffer({2: [{0: [tensor]}], 4: [{}]}))


@pytest.mark.parametrize("field", [1, 2])
def test_an_index_past_the_tensors_is_refused(field: int) -> None:
    with pytest.raises(ModelFormatError, match="past the tensors"):
        read_model(flatbuffer({2: [{0: [{}], field: ("vector", "i", [1])}], 4: [{}]}))


def readable(data: bytes) -> bool:
    before = time.perf_counter()
    try:
        info = read_model(data)
    except ModelFormatError:
        return False
    finally:
        assert time.perf_counter() - before < SLOWEST_READ_S
    # What was accepted can also be used without surprises.
    assert info.operator_counts is not None
    assert info.main.inputs is not None
    assert [len(constant(data, t)) for t in info.main.tensors] == [t.buffer_bytes for t in info.main.tensors]
    return True


def model(codes: list[dict[int, Any]]) -> dict[int, Any]:
    """A model whose graph uses the first operator code once."""
    return {0: ("<I", 3), 1: codes, 2: [{0: [{}], 3: [{0: ("<I", 0)}]}], 4: [{}]}


class Shared:
    """A vector of `count` offsets to one and the same table."""

    def __init__(self, table: dict[int, Any], count: int) -> None:
        self.table, self.count = table, count


def flatbuffer(root: dict[int, Any]) -> bytes:
    """Write a flatbuffer by hand: a dict is a table by field, a list a vector of tables, bytes a string."""
    out = bytearray(b"\x00\x00\x00\x00TFL3")

    def point(at: int, target: int) -> None:
        struct.pack_into("<I", out, at, target - at)

    def write(node: Any) -> int:
        if isinstance(node, dict):
            slots = max(node, default=-1) + 1
            vtable = len(out)
            offsets = [4 + 8 * sorted(node).index(field) if field in node else 0 for field in range(slots)]
            out.extend(struct.pack(f"<{slots + 2}H", 4 + 2 * slots, 4 + 8 * len(node), *offsets))
            start = len(out)
            out.extend(struct.pack("<i", start - vtable) + bytes(8 * len(node)))
            for field, value in node.items():
                at = start + offsets[field]
                if isinstance(value, tuple) and value[0] != "vector":
                    struct.pack_into(value[0], out, at, value[1])
                else:
                    point(at, write(value))
            return start
        start = len(out)
        if isinstance(node, bytes):
            out.extend(struct.pack("<I", len(node)) + node + b"\x00")
        elif isinstance(node, tuple):
            out.extend(struct.pack(f"<I{len(node[2])}{node[1]}", len(node[2]), *node[2]))
        else:
            tables = [node.table] if isinstance(node, Shared) else node
            count = node.count if isinstance(node, Shared) else len(node)
            out.extend(struct.pack("<I", count) + bytes(4 * count))
            targets = [write(table) for table in tables]
            for place in range(count):
                point(start + 4 + 4 * place, targets[place % len(targets)])
        return start

    point(0, write(root))
    return bytes(out)
