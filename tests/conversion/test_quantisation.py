"""Promises of the seam between a float model with ranges and its integers."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.cli.convert import cost_lines
from edgekit.conversion.metadata import Facts, with_metadata
from edgekit.conversion.noise import captured
from edgekit.conversion.quantisation import Quantisation, find_layers, layer_names, quantise
from edgekit.conversion.saved_model import load_saved_model, tree_digest
from edgekit.conversion.tflite import calibrate, lower
from edgekit.errors import MissingPackageError, PreprocessUnknownError, UnsafeModelError, UsageError
from edgekit.mixed_cost import cost_of
from edgekit.origins import find_origin
from edgekit.refining import read_choices
from edgekit_device import vision
from edgekit_device.infer.flatbuffer import ModelInfo, read_model
from edgekit_device.infer.interpreter import Engine
from tests.conversion.conftest import PREPROCESS, Toy

FLOAT_TOLERANCE = 2e-5
SCORE_TOLERANCE = 0.06


@pytest.fixture(scope="module")
def calibrated(toy: Toy) -> bytes:
    return calibrate(lower(toy.model, PREPROCESS), toy.samples, PREPROCESS)


def scales_of(info: ModelInfo, kind: str) -> list[int]:
    tensors = info.main.tensors
    return [len(tensors[op.inputs[1]].scales) for op in info.main.operators if op.name == kind]


def scores(data: bytes, toy: Toy) -> np.ndarray:
    engine = Engine(data)
    spec = PREPROCESS.quantised(engine.input.dtype, engine.input.scale, engine.input.zero_point)
    return np.stack([engine.scores(vision.quantise(pixels, spec)[None]) for pixels in toy.unseen])


def test_weights_have_a_scale_a_channel_or_a_tensor_as_asked(calibrated: bytes) -> None:
    fine, coarse, tpu = (
        read_model(quantise(calibrated, PREPROCESS, how))
        for how in (Quantisation(), Quantisation(granularity="tensor"), Quantisation(edgetpu=True))
    )
    assert scales_of(fine, "CONV_2D") == [12, 12]
    assert scales_of(fine, "FULLY_CONNECTED") == [8]
    assert scales_of(coarse, "CONV_2D") == scales_of(coarse, "DEPTHWISE_CONV_2D")[:1] * 2 == [1, 1]
    assert scales_of(coarse, "FULLY_CONNECTED") == [1]
    # What the Edge TPU compiler of 2021 wants: one scale for a dense layer, and for nothing else.
    assert scales_of(tpu, "FULLY_CONNECTED") == [1]
    assert scales_of(tpu, "CONV_2D") == [12, 12]


def test_a_layer_that_is_named_stays_in_float_and_no_other(calibrated: bytes, toy: Toy) -> None:
    layer = next(layer.name for layer in toy.model.layers if "depthwise" in layer.name)
    data = quantise(calibrated, PREPROCESS, Quantisation(keep_float=(layer,)))
    graph = read_model(data).main
    weighted = [op for op in graph.operators if len(op.inputs) == 3]
    floats = [op.name for op in weighted if graph.tensors[op.inputs[1]].dtype == "float32"]
    assert floats == ["DEPTHWISE_CONV_2D"]
    assert read_model(data).operator_counts["QUANTIZE"] == read_model(data).operator_counts["DEQUANTIZE"] == 1
    assert {tensor.dtype for tensor in graph.inputs + graph.outputs} == {"int8"}
    plain = scores(quantise(calibrated, PREPROCESS), toy)
    assert np.abs(scores(data, toy) - plain).max() < SCORE_TOLERANCE


def test_what_layers_in_float_cost_is_told_for_each_rung(calibrated: bytes, toy: Toy) -> None:
    layer = next(layer.name for layer in toy.model.layers if "depthwise" in layer.name)
    mixed, whole = (quantise(calibrated, PREPROCESS, Quantisation(keep_float=kept)) for kept in ((layer,), ()))
    cost = cost_of(mixed, whole)
    assert cost["bytes"] == {"mixed": len(mixed), "int8": len(whole)}
    for rung in ("xnnpack_ms", "builtin_ms"):
        assert min(cost[rung].values()) > 0
    operators = [op.name for op in read_model(mixed).main.operators]
    # The first operator that touches a float is the one that leads there.
    assert cost["edgetpu_operators"] == {"before_float": operators.index("DEQUANTIZE"), "all": len(operators)}
    first, second = cost_lines(cost)
    assert first.count(" ms (") == 2
    assert f"{operators.index('DEQUANTIZE')} of {len(operators)} operators" in second


def test_a_layer_that_is_not_there_is_a_usage_error_with_the_near_miss(calibrated: bytes) -> None:
    with pytest.raises(
        UsageError, match="no layer is called 'deptwise_conv2d'; did you mean 'depthwise_conv2d"
    ) as error:
        find_layers(read_model(calibrated), ["deptwise_conv2d"])
    assert error.value.exit_code == 2


def test_the_names_of_fused_layers_are_told_apart() -> None:
    name = "lite0_1/stem_relu6_1/Relu6;lite0_1/stem_bn_1/batchnorm/add_1;lite0_1/stem_conv_1/convolution"
    assert layer_names(name) == ("stem_relu6", "stem_bn", "stem_conv")
    assert layer_names("Identity") == ("Identity",)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (Quantisation(engine="onnx"), "no engine is called 'onnx'; choose one of tflite, litert"),
        (Quantisation(granularity="row"), "one scale a channel or a tensor, not a row"),
        (Quantisation(edgetpu=True, keep_float=("a",)), "exclude each other"),
        (Quantisation(engine="litert", io="uint8"), "int8 in and out, not uint8"),
        (Quantisation(engine="litert", granularity="tensor"), "use --engine tflite"),
    ],
)
def test_choices_that_do_not_go_together_are_refused_in_words(how: Quantisation, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        how.check()


def test_only_int8_has_these_choices() -> None:
    assert read_choices("float16", "float32") is None
    assert read_choices("int8", "uint8", refine="none") is not None
    with pytest.raises(UsageError, match="scheme float16 has no choice"):
        read_choices("float16", "float32", granularity="tensor")
    with pytest.raises(UsageError, match="an Edge TPU runs int8 only"):
        read_choices("dynamic", "float32", target="edgetpu")
    with pytest.raises(UsageError, match="--for pi"):
        read_choices("int8", "int8", target="pi")


def test_the_second_engine_gets_the_same_ranges_and_gives_the_same_scores(calibrated: bytes, toy: Toy) -> None:
    how = Quantisation(engine="litert")
    if importlib.util.find_spec("litert_quantizer") is None:
        with pytest.raises(MissingPackageError, match=r"edgekit\[litert-quantizer\]"):
            quantise(calibrated, PREPROCESS, how)
        return
    theirs, ours = quantise(calibrated, PREPROCESS, how), quantise(calibrated, PREPROCESS)
    assert read_model(theirs).operator_counts == read_model(ours).operator_counts
    assert np.abs(scores(theirs, toy) - scores(ours, toy)).max() < SCORE_TOLERANCE


def with_buffers_behind(data: bytes) -> bytes:
    """The same model as litert-quantizer writes it: its constants behind the flatbuffer, by offsets into the file."""
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(data))
    held = {i: bytes(buffer.data) for i, buffer in enumerate(model.buffers) if buffer.data is not None}

    def packed(start: int) -> bytes:
        for index, content in held.items():
            model.buffers[index].data = None
            model.buffers[index].offset, model.buffers[index].size = start, len(content)
            start += -(-len(content) // 16) * 16
        return bytes(flatbuffer_utils.convert_object_to_bytearray(model))

    start = -(-len(packed(1 << 20)) // 16) * 16
    return packed(start).ljust(start, b"\0") + b"".join(c.ljust(-(-len(c) // 16) * 16, b"\0") for c in held.values())


def test_metadata_does_not_lose_buffers_that_lie_behind_the_flatbuffer(calibrated: bytes, toy: Toy) -> None:
    data = quantise(calibrated, PREPROCESS)
    behind = with_buffers_behind(data)
    assert np.array_equal(scores(behind, toy), scores(data, toy))
    facts = Facts(name="toy", description="", preprocess=PREPROCESS, labels=tuple("abcdefgh"), licence="")
    assert np.array_equal(scores(with_metadata(behind, facts), toy), scores(data, toy))


@pytest.fixture(scope="module")
def saved(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "toy"
    with captured():
        toy.model.export(str(path), verbose=False)
    return path


def test_a_saved_model_converts_to_what_its_keras_model_converts_to(toy: Toy, saved: Path, calibrated: bytes) -> None:
    with pytest.raises(PreprocessUnknownError):
        find_origin(saved, "imagenet", None, None, 0)
    origin = find_origin(saved, "imagenet", "tf-lite", None, 0)
    assert (origin.preprocess.height, origin.variant) == (32, None)
    assert origin.parent == tree_digest(saved)
    data = lower(load_saved_model(saved), PREPROCESS)
    assert read_model(data).operator_counts == read_model(calibrated).operator_counts
    assert np.abs(scores(data, toy) - scores(calibrated, toy)).max() < FLOAT_TOLERANCE


def test_a_saved_model_that_reads_files_is_refused_before_it_is_loaded(tmp_path: Path) -> None:
    import tensorflow as tf

    module = tf.Module()
    with captured():
        call = tf.function(
            lambda x: x + tf.cast(tf.strings.length(tf.io.read_file("/etc/hostname")), tf.float32),
            input_signature=[tf.TensorSpec((1, 32, 32, 3))],
        )
        tf.saved_model.save(module, str(tmp_path), signatures=call.get_concrete_function())
    with pytest.raises(UnsafeModelError, match="ReadFile"):
        load_saved_model(tmp_path)


def test_a_damaged_saved_model_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"\xff not a protocol buffer")
    with pytest.raises(UsageError, match="damaged"):
        load_saved_model(tmp_path)


def test_a_run_brings_its_preprocessing_and_its_labels(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "flowers"
    run.mkdir(parents=True)
    with captured():
        toy.model.save(run / "model.keras")
    import json

    (run / "preprocess.json").write_text(json.dumps(PREPROCESS.to_json()))
    (run / "labels.txt").write_text("".join(f"flower {n}\n" for n in range(8)))
    found: Any = find_origin("flowers", "imagenet", None, None, 0)
    assert found.preprocess.crop_fraction == PREPROCESS.crop_fraction
    assert found.labels[:2] == ("flower 0", "flower 1")
    (tmp_path / "runs" / "empty").mkdir()
    with pytest.raises(UsageError, match=r"holds neither model\.keras \(a run\) nor saved_model\.pb"):
        find_origin("empty", "imagenet", None, None, 0)
