"""Promises of layer blame: a layer that was ruined on purpose is named first, and the remedy fits."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekit.cli import main
from edgekit.compression.graph import FloatGraph
from edgekit.compression.refinement import refine
from edgekit.compression.sensitivity import match, rebuilt
from edgekit.conversion.calibration import load_images
from edgekit.conversion.quantisation import Quantisation, quantise
from edgekit.conversion.ranges import annotate, read_ranges, write_ranges
from edgekit.conversion.tflite import calibrate, lower
from edgekit.diagnosis import Blame, blame
from edgekit.errors import UsageError
from edgekit.verification.blame import KEEP_FLOAT, TRAIN, LayerFacts, choose_remedy, rank
from edgekit_device import vision
from edgekit_device.infer.flatbuffer import read_model
from tests.compression.test_passes import scores, squeeze_model
from tests.conversion.conftest import CLASSES, PHOTOS, PREPROCESS, Toy, toy

__all__ = ["toy"]


@pytest.fixture(scope="module")
def calibrated(toy: Toy) -> bytes:
    return calibrate(lower(toy.model, PREPROCESS), toy.samples, PREPROCESS)


@pytest.fixture
def judge(toy: Toy, tmp_path: Path) -> Callable[[bytes, bytes], Blame]:
    spec = tmp_path / "preprocess.json"
    spec.write_text(json.dumps(PREPROCESS.to_json()))
    # The toy's own photos: on others its scores leave the ranges, which is a fault of its own.
    (tmp_path / "photos").mkdir()
    for photo in load_images(PHOTOS).images[:CLASSES]:
        shutil.copy(photo.path, tmp_path / "photos")

    def find(reference: bytes, data: bytes) -> Blame:
        (tmp_path / "float.tflite").write_bytes(reference)
        (tmp_path / "int8.tflite").write_bytes(data)
        return blame(
            tmp_path / "int8.tflite",
            reference=tmp_path / "float.tflite",
            images=tmp_path / "photos",
            preprocess=str(spec),
        )

    return find


def tensor_of(calibrated: bytes, kind: str) -> tuple[FloatGraph, int]:
    graph = FloatGraph(calibrated)
    return graph, next(node.index for node in graph.nodes if node.kind == kind)


def test_a_layer_whose_range_is_wrong_is_named_first_and_more_calibration_mends_it(
    calibrated: bytes, judge: Callable[[bytes, bytes], Blame]
) -> None:
    graph, place = tensor_of(calibrated, "DEPTHWISE_CONV_2D")
    name = graph.tensors[graph.nodes[place].output].name
    low, high = read_ranges(calibrated)[name]
    found = judge(calibrated, quantise(write_ranges(calibrated, {name: (low, high / 20)}), PREPROCESS))
    worst = found.layers[0]
    assert worst.facts.layer.startswith("depthwise_conv2d")
    assert worst.remedy == "calibrate on more photos"
    assert worst.facts.saturated > 0.1
    assert worst.share > 0.8
    assert worst.gain_db > 5
    # The picture of its values shows what the grid cuts off.
    spread = found.spreads[0]
    assert spread.layer == worst.facts.layer
    assert spread.grid_high < spread.high / 2
    wide = (spread.high - spread.low) / len(spread.counts)
    beyond = sum(n for at, n in enumerate(spread.counts) if spread.low + at * wide > spread.grid_high)
    assert beyond / sum(spread.counts) == pytest.approx(worst.facts.saturated, abs=0.05)
    # Back in float the wrong range is gone, so the real model is that much closer.
    assert found.baseline is not None
    ((layer, swapped),) = found.swapped
    assert layer == worst.facts.layer
    assert swapped.top1 >= found.baseline.top1
    assert swapped.sqnr_db is not None
    assert found.baseline.sqnr_db is not None
    assert swapped.sqnr_db > found.baseline.sqnr_db + 3


def test_one_channel_of_a_thousand_times_its_size_is_named_first_where_weights_share_a_scale(
    toy: Toy, judge: Callable[[bytes, bytes], Blame]
) -> None:
    model = squeeze_model(1.0)
    kernel, bias = model.get_layer("squeeze_conv").get_weights()
    after, rest = model.get_layer("widen_conv").get_weights()
    kernel[..., 0], bias[0], after[:, :, 0] = kernel[..., 0] * 1e3, bias[0] * 1e3, after[:, :, 0] / 1e3
    model.get_layer("squeeze_conv").set_weights([kernel, bias])
    model.get_layer("widen_conv").set_weights([after, rest])
    reference = lower(model, PREPROCESS)
    data = quantise(calibrate(reference, toy.samples, PREPROCESS), PREPROCESS, Quantisation(granularity="tensor"))
    found = judge(reference, data)
    assert found.layers[0].facts.layer == "squeeze_conv"
    # Its output has one grid whatever its weights have: the channels must be evened out.
    assert found.layers[0].remedy == "equalisation"


def test_weights_of_three_bits_are_named_first_and_to_be_quantised_again(
    calibrated: bytes, judge: Callable[[bytes, bytes], Blame]
) -> None:
    graph, place = tensor_of(calibrated, "FULLY_CONNECTED")
    node = graph.nodes[place]
    weights = graph.constant(node.weights)
    step = np.abs(weights).max(axis=1, keepdims=True) / 3
    found = judge(calibrated, quantise(graph.patched({node.weights: np.rint(weights / step) * step}), PREPROCESS))
    assert found.layers[0].facts.kind == "FULLY_CONNECTED"
    assert found.layers[0].remedy == "quantise its weights again"


def test_a_model_taken_apart_and_put_together_again_is_the_same_model(toy: Toy, calibrated: bytes) -> None:
    # Refined weights are not the nearest ones, so none of them could be found again from the float model.
    batch = np.stack([vision.quantise(pixels, PREPROCESS) for pixels in toy.samples])
    data = quantise(refine(FloatGraph(calibrated), batch)[0], PREPROCESS)
    graph, info = FloatGraph(lower(toy.model, PREPROCESS)), read_model(data)
    pairs = match(graph, data, info)
    assert len(pairs) == len(graph.nodes)
    constants, ranges = rebuilt(graph, pairs, info, without=None)
    again = quantise(annotate(graph.patched(constants), ranges), PREPROCESS)
    assert np.abs(scores(again, toy) - scores(data, toy)).max() <= 1 / 256


def test_another_network_is_refused_as_a_reference(
    toy: Toy, calibrated: bytes, judge: Callable[[bytes, bytes], Blame]
) -> None:
    with pytest.raises(UsageError, match="name its float twin"):
        judge(lower(squeeze_model(1.0), PREPROCESS), quantise(calibrated, PREPROCESS))


def facts(name: str, noise: float, **more: object) -> LayerFacts:
    return LayerFacts(name, "CONV_2D", noise, 30.0, 0.001, 0.0, 1.0, **more)  # type: ignore[arg-type]


def test_the_remedy_is_the_one_that_leaves_least_and_nothing_is_promised_of_what_was_not_tried() -> None:
    assert choose_remedy(facts("a", 1.0, mended={"x": 0.4, "y": 0.1})) == ("y", 0.1)
    assert choose_remedy(facts("a", 1.0, mended={"x": 0.6})) == (KEEP_FLOAT, 0.0)
    assert choose_remedy(facts("a", 1.0, unevenness=20.0, mended={"x": 0.9})) == ("equalisation", 1.0)
    assert choose_remedy(facts("a", 1.0, mended={"x": 0.9}), share=0.01) == (TRAIN, 1.0)
    assert choose_remedy(facts("a", 1.0)) == ("", 1.0)


def test_the_predicted_gain_is_what_is_left_of_the_sum() -> None:
    first, second = rank(100.0, [facts("small", 1.0), facts("large", 9.0, mended={"x": 0.0})])
    assert (first.facts.layer, first.share) == ("large", 0.9)
    assert first.gain_db == pytest.approx(10.0)
    assert second.gain_db == 0
    assert first.sqnr_db == pytest.approx(10.46, abs=0.01)


def test_blame_needs_the_float_model_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(tmp_path / "x.tflite"), "--blame"]) == 2
    assert "--reference FLOAT" in capsys.readouterr().err
