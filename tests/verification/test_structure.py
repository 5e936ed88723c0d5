"""Promises of the structure check, on real files and on files changed in one respect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgekit.errors import EdgeKitError, GateError
from edgekit.verification.structure import check_structure
from edgekit.verification.verdict import Verdict
from edgekit_device.contract.preprocess import Preprocess
from edgekit_device.infer.flatbuffer import ModelInfo, OperatorInfo, TensorInfo, read_model

FIXTURES = Path(__file__).parents[2] / "device" / "tests" / "fixtures"
INT8 = read_model((FIXTURES / "toy_int8.tflite").read_bytes(), "toy_int8.tflite")
FLOAT = read_model((FIXTURES / "toy_float.tflite").read_bytes(), "toy_float.tflite")
PREPROCESS = Preprocess(
    color="RGB",
    height=32,
    width=32,
    crop="center",
    crop_fraction=1.0,
    interpolation="bilinear",
    antialias=True,
    mean=(127.0,) * 3,
    std=(128.0,) * 3,
)


def check(info: ModelInfo, scheme: str = "int8", io: str = "int8", **options: bool) -> Verdict:
    return check_structure(info, scheme, io, PREPROCESS, **options)


def with_tensor(index: int, **changes: Any) -> ModelInfo:
    """The int8 model with one tensor changed."""
    tensors = list(INT8.main.tensors)
    tensors[index] = replace(tensors[index], **changes)
    return replace(INT8, subgraphs=(replace(INT8.main, tensors=tuple(tensors)),))


def with_operator(name: str) -> ModelInfo:
    """The int8 model with one operator more."""
    operators = (*INT8.main.operators, OperatorInfo(name, (0,), (0,)))
    return replace(INT8, subgraphs=(replace(INT8.main, operators=operators),))


def find(wanted: Callable[[TensorInfo], bool]) -> int:
    return next(tensor.index for tensor in INT8.main.tensors if wanted(tensor))


INPUT, OUTPUT = INT8.main.input_indices[0], INT8.main.output_indices[0]
ACTIVATION = find(lambda t: not t.is_constant and t.index not in (INPUT, OUTPUT))
CONVOLUTION = next(op for op in INT8.main.operators if op.name == "CONV_2D").inputs[1]


def test_a_model_from_our_converter_passes() -> None:
    verdict = check(INT8)
    assert verdict.passed, verdict.broken
    assert check(FLOAT, "float32", "float32").passed
    assert check(FLOAT, "dynamic", "float32").passed


@pytest.mark.parametrize(
    ("info", "said"),
    [
        (with_tensor(ACTIVATION, dtype="float32"), "no float tensor: 1 tensors are float, first "),
        (with_tensor(CONVOLUTION, dtype="float16"), "no float tensor: 1 tensors are float, first "),
        (with_operator("SHAPE"), "fixed shapes: operators SHAPE"),
        (with_operator("PACK"), "fixed shapes: operators PACK"),
        (with_operator("FlexErfinv"), "operators: FlexErfinv need more than a plain interpreter"),
        (with_tensor(INPUT, shape_signature=(-1, 32, 32, 3)), "fixed shapes: 1 tensors of open shape"),
        (with_tensor(INPUT, shape=(4, 32, 32, 3)), "ends: reads [4, 32, 32, 3], [1, 32, 32, 3] wanted"),
        (with_tensor(INPUT, shape=(1, 3, 32, 32)), "ends: reads [1, 3, 32, 32]"),
        (with_tensor(OUTPUT, shape=(1, 7, 7, 4)), "ends: writes [1, 7, 7, 4], one score vector wanted"),
        (with_tensor(OUTPUT, dtype="uint8"), "input and output type: int8, uint8; int8 wanted"),
        (with_tensor(INPUT, scales=(0.0078,)), "input on the pixel grid: scale 0.0078"),
        (with_tensor(INPUT, zero_points=(0,)), "input on the pixel grid: scale 0.0078125, zero point 0"),
        (with_tensor(INPUT, scales=(), zero_points=()), "input on the pixel grid: the input carries no scale"),
        (with_tensor(CONVOLUTION, scales=(0.1,), zero_points=(0,)), "scale per channel: 1 of"),
    ],
)
def test_each_departure_is_found_and_named(info: ModelInfo, said: str) -> None:
    verdict = check(info)
    assert not verdict.passed
    assert len(verdict.broken) == 1
    assert verdict.broken[0].startswith(said)


def test_a_float_model_is_not_an_int8_model() -> None:
    broken = " ".join(check(FLOAT).broken)
    assert "no float tensor" in broken
    assert "float32; int8 wanted" in broken


def test_two_inputs_are_not_a_classifier() -> None:
    twice = replace(INT8, subgraphs=(replace(INT8.main, input_indices=(INPUT, ACTIVATION)),))
    assert "ends: 2 inputs and 1 outputs, one of each wanted" in check(twice).broken


def test_a_model_from_elsewhere_may_have_another_grid_and_scales_per_tensor() -> None:
    info = with_tensor(INPUT, scales=(1 / 127,), zero_points=(0,))
    assert not check(info).passed
    assert check(info, pinned=False).passed
    coarse = with_tensor(CONVOLUTION, scales=(0.1,), zero_points=(0,))
    assert check(coarse, per_channel=False).passed


def test_a_verdict_becomes_a_gate_that_names_the_model_and_exits_with_3() -> None:
    check(INT8).require("fine.tflite")
    with pytest.raises(GateError, match=r"^bad\.tflite: fixed shapes: operators SHAPE") as caught:
        check(with_operator("SHAPE")).require("bad.tflite")
    assert isinstance(caught.value, EdgeKitError)
    assert caught.value.exit_code == 3
