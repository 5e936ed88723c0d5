"""Promises of the passes, on a real model, the real quantiser and the board's interpreter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekit.compression.bias import corrected_bias
from edgekit.compression.clipping import clip_ranges
from edgekit.compression.equalise import equalise, find_groups
from edgekit.compression.graph import FloatGraph, weight_matrix
from edgekit.compression.refinement import refine
from edgekit.compression.rounding import channel_scales, nearest, round_apart, round_together
from edgekit.compression.sensitivity import dequantised
from edgekit.compression.simulation import Grid, Values, activate, compute, grids_of, linear, run
from edgekit.conversion.noise import captured
from edgekit.conversion.quantisation import Quantisation, quantise
from edgekit.conversion.ranges import read_ranges, write_ranges
from edgekit.conversion.tflite import lower
from edgekit.errors import CompressionError, UsageError
from edgekit.refining import Refining, make_int8
from edgekit_device import vision
from edgekit_device.infer.flatbuffer import read_model
from edgekit_device.infer.interpreter import Engine
from tests.conversion.conftest import PREPROCESS, Toy, build

# float32 sums in another order.
FLOAT_TOLERANCE = 2e-5
# The integer kernels round once more, on the way from the sum to the output's grid.
QUANTA = 3 / 256


def scores(data: bytes, toy: Toy) -> np.ndarray:
    engine = Engine(data)
    spec = PREPROCESS.quantised(engine.input.dtype, engine.input.scale, engine.input.zero_point)
    return np.stack([engine.scores(vision.quantise(pixels, spec)[None]) for pixels in toy.unseen])


def unseen(toy: Toy) -> np.ndarray:
    return np.stack([vision.quantise(pixels, PREPROCESS) for pixels in toy.unseen])


def final(graph: FloatGraph, batch: np.ndarray) -> np.ndarray:
    found = []
    run(graph, batch, lambda index, values: found.append(values) if index == graph.nodes[-1].output else None)
    return np.concatenate(found)


def test_the_simulation_computes_what_the_interpreter_computes(toy: Toy, float_model: bytes) -> None:
    ours = final(FloatGraph(float_model), unseen(toy))
    assert np.abs(ours - scores(float_model, toy)).max() < FLOAT_TOLERANCE


def test_the_simulated_integers_are_those_of_the_kernels(toy: Toy, graph: FloatGraph, calibrated: bytes) -> None:
    grids, batch = grids_of(graph), unseen(toy)
    values = Values(graph, grids[0].round(batch))
    for node in graph.nodes:
        if node.has_weights:
            weights = graph.constant(node.weights)
            matrix = weight_matrix(node.kind, weights).astype(np.float64)
            assert weights.ndim in (2, 4)
            rounded = nearest(matrix, channel_scales(matrix))
            axis = 3 if node.kind == "DEPTHWISE_CONV_2D" else 0
            tensor = np.moveaxis(rounded.reshape(np.moveaxis(weights, axis, 0).shape), 0, axis).astype(np.float32)
            out = activate(node, linear(graph, node, values[node.inputs[0]], tensor, graph.constant(node.bias)))
        else:
            out = compute(graph, node, values.inputs(node))
        values.keep(node, grids[node.output].round(out))
    real = scores(quantise(calibrated, PREPROCESS), toy)
    assert np.abs(values[graph.nodes[-1].output] - real).mean() < QUANTA


@pytest.mark.parametrize("size", [24, 256])
def test_rounding_with_feedback_beats_rounding_one_by_one_and_keeps_every_scale(size: int) -> None:
    rng = np.random.default_rng(0)
    # What convolutions read: inputs that move together in a quarter as many ways; 256 of them are two blocks.
    inputs = rng.normal(size=(1000, size // 4)) @ rng.normal(size=(size // 4, size))
    inputs += np.abs(inputs).mean() * rng.normal(size=(1000, size)) / 20
    moment, weights = inputs.T @ inputs / len(inputs), rng.normal(size=(10, size))
    scales = channel_scales(weights)
    chosen, plain = round_together(weights, moment, scales), nearest(weights, scales)
    wrong = [np.mean((inputs @ (weights - found).T) ** 2) for found in (chosen, plain)]
    assert wrong[0] < wrong[1] / 4
    assert np.allclose(channel_scales(chosen), scales, rtol=1e-12)
    assert np.allclose(np.rint(chosen / scales), chosen / scales, atol=1e-9)


def test_depthwise_channels_are_rounded_each_by_its_own_inputs() -> None:
    rng = np.random.default_rng(1)
    weights = rng.normal(size=(6, 9))
    seen = rng.normal(size=(6, 100, 9)) + rng.normal(size=(6, 1, 1))
    moments = seen.transpose(0, 2, 1) @ seen / 100
    scales = channel_scales(weights)
    together = [round_together(weights[c : c + 1], moments[c], scales[c : c + 1])[0] for c in range(6)]
    assert np.allclose(round_apart(weights, moments, scales), together)


@pytest.mark.parametrize("granularity", ["channel", "tensor"])
def test_the_quantiser_finds_the_very_integers_that_the_passes_chose(
    graph: FloatGraph, batch: np.ndarray, granularity: str
) -> None:
    how = Quantisation(granularity=granularity)
    refined, _ = refine(graph, batch, per_tensor=how.per_tensor)
    chosen, data = FloatGraph(refined), quantise(refined, PREPROCESS, how)
    by_name = {tensor.name: tensor for tensor in read_model(data).main.tensors}
    moved = 0
    for node in chosen.nodes:
        if node.has_weights:
            tensor = chosen.tensors[node.weights]
            weights = chosen.constant(node.weights)
            assert np.abs(dequantised(data, by_name[tensor.name]) - weights).max() < np.abs(weights).max() * 1e-5
            moved += int(np.sum(weights != graph.constant(node.weights)))
    assert moved


def test_refined_integers_are_closer_to_float(toy: Toy, float_model: bytes) -> None:
    wanted = scores(float_model, toy)
    coarse = Quantisation(granularity="tensor")
    plain, better = (
        make_int8(float_model, toy.samples, PREPROCESS, coarse, Refining.parse(words)).data
        for words in ("none", "round,bias")
    )
    wrong = [float(np.mean((scores(data, toy) - wanted) ** 2)) for data in (plain, better)]
    # The steps of the scores themselves are part of both.
    assert wrong[1] < 0.9 * wrong[0]


def test_refining_the_same_model_twice_gives_the_same_bytes(graph: FloatGraph, batch: np.ndarray) -> None:
    assert refine(graph, batch)[0] == refine(graph, batch)[0]


def test_a_bias_is_corrected_by_what_gets_past_the_clip_only() -> None:
    wanted = np.array([[1.0], [2.0], [50.0], [-50.0]] * 100, np.float32)
    found = wanted + np.array([[0.5], [0.5], [9.0], [-30.0]] * 100, np.float32)
    bias = np.zeros(1, np.float32)
    assert corrected_bias(bias, wanted, found, "relu6") == pytest.approx([-0.5])
    assert corrected_bias(bias, wanted, found, None) == pytest.approx([5.0])
    assert corrected_bias(bias, wanted[:8], found[:8], "relu6") == 0


def squeeze_model(uneven: float) -> Any:
    """Two linear convolutions in a row, the channels between them of one range or of many."""
    import keras

    layers = keras.layers
    keras.utils.set_random_seed(3)
    image = keras.Input((32, 32, 3))
    x = layers.Conv2D(8, 3, 2, "same", activation="relu", name="first_conv")(image)
    x = layers.Conv2D(6, 1, name="squeeze_conv")(x)
    x = layers.Conv2D(16, 1, activation="relu", name="widen_conv")(x)
    model = keras.Model(image, layers.Dense(8, activation="softmax", name="logits")(layers.GlobalAveragePooling2D()(x)))
    factor = np.geomspace(1, uneven, 6).astype(np.float32)
    (kernel, bias), (after, rest) = (model.get_layer(name).get_weights() for name in ("squeeze_conv", "widen_conv"))
    model.get_layer("squeeze_conv").set_weights([kernel * factor, bias * factor])
    model.get_layer("widen_conv").set_weights([after / factor[None, None, :, None], rest])
    return model


def test_equalisation_changes_nothing_in_float_and_evens_out_the_channels(toy: Toy, batch: np.ndarray) -> None:
    with captured():
        model = squeeze_model(40.0)
    before = lower(model, PREPROCESS)
    graph = FloatGraph(before)
    (group,) = [group for group in find_groups(graph) if not group.capped]
    after, report = equalise(graph, batch)
    assert report["linear"] == 1
    assert np.abs(scores(after, toy) - scores(before, toy)).max() < FLOAT_TOLERANCE

    def spread(data: bytes) -> float:
        seen = {}
        run(FloatGraph(data), batch, lambda index, values: seen.update({index: values}))
        peaks = np.abs(seen[group.tensors[0]]).max(axis=(0, 1, 2))
        return float(peaks.max() / peaks.min())

    assert spread(before) > 20
    assert spread(after) < 2


def test_a_channel_that_an_activation_reads_is_never_scaled(graph: FloatGraph) -> None:
    # The toy's one addition takes in what a ReLU6 wrote: scaling that would move its clip.
    assert not [group for group in find_groups(graph) if not group.capped]


def test_one_outlier_is_given_up_for_finer_steps_and_the_scores_keep_theirs(
    graph: FloatGraph, calibrated: bytes, batch: np.ndarray
) -> None:
    node = next(n for n in graph.nodes if n.kind == "ADD")
    name, (low, high) = graph.tensors[node.output].name, graph.range_of(node.output) or (0, 0)
    wild = FloatGraph(write_ranges(calibrated, {name: (low, 40 * high)}))
    for method in ("mse", "percentile"):
        chosen = clip_ranges(wild, batch, method=method)
        assert chosen[name][1] < 25 * high
        assert graph.tensors[graph.nodes[-1].inputs[0]].name not in chosen
    assert clip_ranges(wild, batch, method="min-max") == {}
    with pytest.raises(UsageError, match="no way to choose ranges is called 'median'"):
        clip_ranges(wild, batch, method="median")


def test_ranges_that_are_written_are_the_ones_that_are_read(calibrated: bytes) -> None:
    ranges = read_ranges(calibrated)
    name = next(n for n, (low, _) in ranges.items() if low < -0.5)
    changed = read_ranges(write_ranges(calibrated, {name: (-0.25, 0.75)}))
    assert changed == {**ranges, name: (-0.25, 0.75)}


def test_an_operator_that_the_passes_do_not_know_leaves_the_model_unrefined_and_says_so(toy: Toy) -> None:
    import keras

    with captured():
        model = build(keras.layers.UpSampling2D(2), keras.layers.MaxPooling2D(2))
    data = lower(model, PREPROCESS)
    done = make_int8(data, toy.samples, PREPROCESS, Quantisation(), Refining())
    assert done.passes == ()
    assert "do not know the operator" in str(done.reason)
    assert done.recipe["refine"]["reason"] == done.reason
    with pytest.raises(CompressionError, match="--refine none"):
        make_int8(data, toy.samples, PREPROCESS, Quantisation(), Refining.parse("round"))


@pytest.mark.parametrize(("words", "ranges", "passes", "chosen"), [
    (None, None, ("round", "bias"), "mse"),
    ("none", None, (), "min-max"),
    ("bias,equalise", None, ("equalise", "bias"), "mse"),
    ("none", "percentile", (), "percentile"),
])  # fmt: skip
def test_passes_run_in_one_order_and_without_them_nothing_is_touched(
    words: str | None, ranges: str | None, passes: tuple[str, ...], chosen: str
) -> None:
    found = Refining.parse(words, ranges)
    assert (found.passes, found.ranges) == (passes, chosen)


def test_a_pass_that_does_not_exist_is_a_usage_error_with_the_near_miss() -> None:
    with pytest.raises(UsageError, match="no pass is called 'equalize'; did you mean 'equalise'"):
        Refining.parse("equalize")


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.0, 6.0), (2.0, 3.0), (-3.0, -1.0), (0.0, 0.0)])
def test_a_grid_holds_zero_and_both_ends_of_its_range(low: float, high: float) -> None:
    grid = Grid.of(low, high)
    values = np.array([0.0, low, high], np.float32)
    assert np.abs(grid.round(values) - values).max() <= grid.scale / 2 + 1e-6
    assert grid.round(np.zeros(1, np.float32)) == 0
