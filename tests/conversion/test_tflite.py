"""Promises of the converter, on the real converter and the board's own inference code."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.conversion.noise import captured
from edgekit.conversion.quantisation import quantise
from edgekit.conversion.tflite import SCHEMES, calibrate, convert_keras, lower
from edgekit.errors import ConversionError, UsageError
from edgekit_device import vision
from edgekit_device.infer.flatbuffer import read_model
from edgekit_device.infer.interpreter import Engine
from edgekit_device.infer.operators import FLOAT_TYPES
from tests.conftest import require
from tests.conversion.conftest import PREPROCESS, Toy, build

# ImageNet statistics as timm gives them, in pixel levels: three means, three deviations.
TIMM = replace(PREPROCESS, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
# A trained toy with confident scores: int8 may move a score by a few of its 256 steps.
INT8_SCORE_TOLERANCE = 0.06
# float16 keeps 11 bits, dynamic quantises the weights of the dense layer, int16x8 the weights and 16-bit activations.
SCORE_TOLERANCES = {"float32": 1e-5, "float16": 2e-3, "dynamic": 0.06, "int16x8": 0.06, "int8": INT8_SCORE_TOLERANCE}
# How many of 80 crops of a toy may change their class by quantisation: those on an edge.
LEAST_AGREEMENT = 0.9


def engine_scores(data: bytes, toy: Toy) -> np.ndarray:
    engine = Engine(data)
    spec = PREPROCESS.quantised(engine.input.dtype, engine.input.scale, engine.input.zero_point)
    return np.stack([engine.scores(vision.quantise(pixels, spec)[None]) for pixels in toy.unseen])


def keras_scores(toy: Toy) -> np.ndarray:
    with captured():
        inputs = np.stack([vision.quantise(pixels, PREPROCESS) for pixels in toy.unseen])
        return np.asarray(toy.model(inputs, training=False))


@pytest.fixture(scope="module")
def float_model(toy: Toy) -> bytes:
    return lower(toy.model, PREPROCESS)


@pytest.fixture(scope="module")
def int8(toy: Toy, float_model: bytes) -> bytes:
    return convert_keras(toy.model, toy.samples, PREPROCESS, float_model=float_model)


def test_an_int8_model_holds_no_float_tensor_and_computes_no_shape(int8: bytes) -> None:
    info = read_model(int8)
    assert not [tensor.name for tensor in info.main.tensors if tensor.dtype in FLOAT_TYPES]
    assert set(info.operator_counts) <= {
        "ADD",
        "AVERAGE_POOL_2D",
        "CONV_2D",
        "DEPTHWISE_CONV_2D",
        "FULLY_CONNECTED",
        "RESHAPE",
        "SOFTMAX",
    }
    assert info.main.inputs[0].shape == info.main.inputs[0].shape_signature == (1, 32, 32, 3)


@pytest.mark.parametrize(("io", "zero_point"), [("int8", -1), ("uint8", 127)])
def test_the_input_is_pinned_so_that_a_pixel_costs_no_arithmetic(
    toy: Toy, float_model: bytes, io: str, zero_point: int
) -> None:
    data = convert_keras(toy.model, toy.samples, PREPROCESS, io=io, float_model=float_model)
    tensor = read_model(data).main.inputs[0]
    assert (tensor.dtype, tensor.scales, tensor.zero_points) == (io, (1 / 128,), (zero_point,))
    assert read_model(data).main.outputs[0].dtype == io
    every_level = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    spec = PREPROCESS.quantised(io, tensor.scales[0], tensor.zero_points[0])
    shift = 128 if io == "int8" else 0
    assert np.array_equal(vision.quantise(every_level, spec).astype(int) + shift, every_level)


def test_dull_samples_are_pinned_by_two_pixels_and_the_samples_stay_as_they_were(toy: Toy, float_model: bytes) -> None:
    dull = [np.clip(pixels, 90, 160) for pixels in toy.samples]
    before = [pixels.copy() for pixels in dull]
    quantise(calibrate(float_model, dull, PREPROCESS), PREPROCESS)
    assert all(np.array_equal(a, b) for a, b in zip(dull, before, strict=True))
    plain = [np.full((32, 32, 3), 127, np.uint8)]
    quantise(calibrate(float_model, plain, PREPROCESS), PREPROCESS)


def test_means_and_deviations_of_ones_own_are_pinned_to_what_pixels_can_be(toy: Toy, float_model: bytes) -> None:
    data = quantise(calibrate(float_model, [np.clip(p, 30, 200) for p in toy.samples], TIMM), TIMM)
    tensor = read_model(data).main.inputs[0]
    low, high = -123.675 / 58.395, (255 - 103.53) / 57.375
    assert tensor.scales[0] == pytest.approx((high - low) / 255, rel=1e-6)
    spec = TIMM.quantised("int8", tensor.scales[0], tensor.zero_points[0])
    table = vision.lookup_table(spec)
    assert table is not None
    assert (table.min(), table.max()) == (-128, 127)


def test_a_model_whose_input_grid_is_not_the_pixels_is_refused(toy: Toy, float_model: bytes) -> None:
    other = replace(PREPROCESS, mean=(0.0,) * 3, std=(255.0,) * 3)
    with pytest.raises(ConversionError, match=r"input has scale .* and pixels need"):
        quantise(calibrate(float_model, toy.samples, other), PREPROCESS)


def test_float_in_and_out_leaves_integers_within(toy: Toy, float_model: bytes) -> None:
    data = convert_keras(toy.model, toy.samples, PREPROCESS, io="float32", float_model=float_model)
    graph = read_model(data).main
    assert {tensor.dtype for tensor in graph.inputs + graph.outputs} == {"float32"}
    floats = {tensor.index for tensor in graph.tensors if tensor.dtype in FLOAT_TYPES}
    assert floats == {*graph.input_indices, *graph.output_indices}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_runs_on_the_boards_interpreter_and_says_what_keras_says(
    toy: Toy, float_model: bytes, scheme: str
) -> None:
    data = convert_keras(toy.model, toy.samples, PREPROCESS, scheme, float_model=float_model)
    assert read_model(data).main.inputs[0].dtype == SCHEMES[scheme][0]
    ours, theirs = engine_scores(data, toy), keras_scores(toy)
    assert np.abs(ours - theirs).mean() < SCORE_TOLERANCES[scheme]
    assert np.mean(ours.argmax(axis=1) == theirs.argmax(axis=1)) >= LEAST_AGREEMENT


def test_the_three_steps_give_what_tflite_converter_gives_in_one(toy: Toy, int8: bytes) -> None:
    import tensorflow as tf

    from edgekit.conversion.pinning import span_all_levels

    samples = list(span_all_levels(toy.samples, PREPROCESS))
    with captured():
        image = tf.TensorSpec((1, 32, 32, 3), tf.float32)
        graph = tf.function(lambda x: toy.model(x, training=False), input_signature=[image]).get_concrete_function()
        converter = tf.lite.TFLiteConverter.from_concrete_functions([graph])
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([vision.quantise(p, PREPROCESS)[None]] for p in samples)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
        whole = bytes(converter.convert())
    assert read_model(whole).operator_counts == read_model(int8).operator_counts
    assert np.array_equal(engine_scores(whole, toy), engine_scores(int8, toy))


def test_the_same_arguments_give_the_same_bytes(toy: Toy, int8: bytes) -> None:
    assert convert_keras(toy.model, toy.samples, PREPROCESS) == int8


def test_an_operator_that_tflite_lacks_is_named_and_the_log_is_shown(toy: Toy) -> None:
    import keras
    import tensorflow as tf

    class Unsupported(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return tf.math.erfinv(x / 10)

    with captured():
        model = build(Unsupported())
    with pytest.raises(ConversionError, match=r"TFLite has no operator for .*Erfinv") as caught:
        convert_keras(model, toy.samples, PREPROCESS)
    assert caught.value.stage == "lower"
    assert "Erfinv" in caught.value.log
    assert "\n  | " in str(caught.value)


def test_an_operator_without_an_integer_form_is_named_and_not_left_in_float(toy: Toy) -> None:
    import keras
    import tensorflow as tf

    class Sine(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return tf.math.sin(x)

    with captured():
        model = build(Sine())
    with pytest.raises(ConversionError, match="no integer form exists for SIN"):
        convert_keras(model, toy.samples, PREPROCESS)
    with pytest.raises(ConversionError, match="SIN"):
        convert_keras(model, toy.samples, PREPROCESS, "int16x8")


@pytest.mark.parametrize(
    ("scheme", "io", "message"),
    [
        ("int4", None, "no scheme is called 'int4'; choose one of int8, int16x8"),
        ("float16", "uint8", "scheme float16 has float32 in and out, not uint8"),
        ("int8", "int16", "scheme int8 has int8 or uint8 or float32 in and out, not int16"),
    ],
)
def test_a_scheme_that_does_not_exist_is_a_usage_error(toy: Toy, scheme: str, io: str | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        convert_keras(toy.model, toy.samples, PREPROCESS, scheme, io)


def test_a_model_of_another_size_than_its_preprocessing_is_a_usage_error(toy: Toy) -> None:
    with pytest.raises(UsageError, match=r"reads \[None, 32, 32, 3\], and its preprocessing makes \[1, 40, 32, 3\]"):
        lower(toy.model, replace(PREPROCESS, height=40))


def test_crops_of_another_size_and_no_crops_are_usage_errors(toy: Toy) -> None:
    with pytest.raises(UsageError, match="no crops"):
        convert_keras(toy.model, [], PREPROCESS)
    with pytest.raises(UsageError, match=r"is uint8 \(8, 8, 3\), and must be uint8 \(32, 32, 3\)"):
        convert_keras(toy.model, [*toy.samples, np.zeros((8, 8, 3), np.uint8)], PREPROCESS)
    with pytest.raises(UsageError, match="is float32"):
        convert_keras(toy.model, [toy.samples[0].astype(np.float32)], PREPROCESS)  # type: ignore[list-item]


def test_progress_reports_every_stage_to_its_end(toy: Toy) -> None:
    seen: list[tuple[str, int, int]] = []
    convert_keras(toy.model, toy.samples[:5], PREPROCESS, progress=lambda *step: seen.append(step))
    assert [seen[0], seen[1]] == [("lower", 0, 1), ("lower", 1, 1)]
    assert ("calibrate", 5, 5) in seen
    assert seen[-1] == ("quantise", 1, 1)


SCRIPT = """
import sys
from edgekit.conversion.noise import captured, load_tensorflow
load_tensorflow()
import tests.conversion.conftest as world
import numpy as np
from edgekit.conversion.tflite import convert_keras
with captured():
    model = world.build()
samples = [np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)]
print("begin")
convert_keras(model, samples, world.PREPROCESS, progress=lambda *s: print(*s, file=sys.stderr))
print("end")
"""


def test_a_conversion_writes_nothing_of_its_own_and_progress_still_reaches_the_terminal() -> None:
    require("tensorflow", "pip install 'edgekit[build]'")
    root = Path(__file__).parents[2]
    paths = os.pathsep.join([str(root), str(root / "device")])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=root,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["begin", "end"]
    stages = ["lower 0 1", "lower 1 1", "calibrate 0 1", "calibrate 1 1", "quantise 0 1", "quantise 1 1"]
    assert done.stderr.splitlines() == stages
