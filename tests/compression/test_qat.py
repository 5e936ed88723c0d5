from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.compression.keras_graph import fold
from edgekit.compression.passes import Subject, Workshop, parse_step, run_pass
from edgekit.compression.qat_network import QatNetwork, best_range
from edgekit.conversion.known_ranges import with_known_ranges
from edgekit.conversion.quantisation import Quantisation, quantise
from edgekit.conversion.tflite import lower
from edgekit.errors import ConversionError, PassError
from edgekit.learning import Lessons
from edgekit.training.loop import Loop
from edgekit_device import vision
from edgekit_device.infer.flatbuffer import read_model
from edgekit_device.infer.interpreter import Engine
from tests.training.test_folders import SPEC
from tests.worlds.photo_folders import crops_folder, digits_folder
from tests.worlds.small_nets import GREY, dense_net, lessons_of, small_cnn, teach

# The integer kernels round each product's sum once to a fixed-point scale, the simulation in float: a step of the last
# grid here and there, and what it makes downstream.
LOGIT_STEPS = 3


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Lessons:
    root = tmp_path_factory.mktemp("crops")
    return lessons_of(crops_folder(root / "data", 4, 24), SPEC, root / "cache")


@pytest.fixture(scope="module")
def cnn(crops: Lessons) -> Any:
    return teach(small_cnn(4), crops, 12)


def workshop(lessons: Lessons, folder: Path) -> Workshop:
    def cached(key: str, fill: Any) -> Path:
        fill(folder)
        return folder

    def nobody(name: str) -> Any:
        raise AssertionError("no teacher was asked for")

    return Workshop(lessons, Loop(), nobody, cached)


@pytest.fixture(scope="module")
def trained(crops: Lessons, cnn: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Subject, Workshop]:
    shop = workshop(crops, tmp_path_factory.mktemp("answers"))
    before = [value.copy() for value in cnn.get_weights()]
    done = run_pass(Subject(cnn, SPEC, crops.labels), parse_step("qat=epochs=3,rate=0.001"), shop)
    # What came in is left as it was: it is the teacher, and may be somebody's.
    assert all(np.array_equal(a, b) for a, b in zip(before, cnn.get_weights(), strict=True))
    return done, shop


def int8_scores(model: Any, spec: Any, ranges: Any, pixels: np.ndarray, engine: str = "tflite") -> np.ndarray:
    calibrated = with_known_ranges(lower(model, spec), ranges, spec)
    data = quantise(calibrated, spec, Quantisation(engine=engine))
    info = read_model(data, "it")
    assert {tensor.dtype for tensor in info.main.tensors} <= {"int8", "int32"}
    tensor = info.main.inputs[0]
    wanted = spec.quantised("int8", tensor.scales[0], tensor.zero_points[0])
    run = Engine(data, name="it")
    return np.stack([run.scores(vision.quantise(image, wanted)[None]).copy() for image in pixels])


def test_folding_changes_nothing(cnn: Any, crops: Lessons) -> None:
    images = np.random.default_rng(0).normal(0, 1, (16, 32, 32, 3)).astype(np.float32)
    folded = fold(cnn, "qat")
    assert not [layer for layer in folded.layers if "BatchNorm" in type(layer).__name__]
    assert np.allclose(folded(images), cnn(images, training=False), atol=1e-5)


def test_the_int8_graph_computes_what_was_trained(trained: tuple[Subject, Workshop], crops: Lessons) -> None:
    import tensorflow as tf

    subject, _ = trained
    pixels = crops.exact(crops.train[:40])
    assert subject.network and subject.ranges
    logits = subject.network.outputs(tf.constant(pixels), training=False)["logits"].numpy()
    said = int8_scores(subject.model, SPEC, subject.ranges, pixels)
    # Scores are a softmax of the logits, on a grid of 1/256: compared where the grid is fine enough.
    chances = np.exp(logits - logits.max(1, keepdims=True))
    chances /= chances.sum(1, keepdims=True)
    low, high = subject.ranges["scores"]
    step = (high - low) / 255
    assert np.abs(said - chances).max() <= LOGIT_STEPS * step + 2 / 256
    assert (said.argmax(1) == chances.argmax(1)).mean() >= 0.95


def test_either_engine_makes_the_same_graph(trained: tuple[Subject, Workshop], crops: Lessons) -> None:
    if importlib.util.find_spec("litert_quantizer") is None:
        pytest.importorskip("litert_quantizer", reason="pip install 'edgekit[litert-quantizer]'")
    subject, _ = trained
    pixels = crops.exact(crops.train[:12])
    one, two = (int8_scores(subject.model, SPEC, subject.ranges, pixels, engine) for engine in ("tflite", "litert"))
    assert np.array_equal(one, two)


def test_every_edge_has_a_range_that_training_moved(trained: tuple[Subject, Workshop], crops: Lessons) -> None:
    subject, shop = trained
    assert subject.ranges
    assert set(subject.ranges) == {"image", "stem_relu", "deep_relu", "point", "sum", "last", "pool", "scores"}
    untrained = run_pass(Subject(subject.model, SPEC, crops.labels), parse_step("qat=epochs=0"), shop)
    assert untrained.ranges and untrained.ranges["sum"] != subject.ranges["sum"]
    assert all(low <= 0 <= high for low, high in subject.ranges.values())
    assert shop.history["qat"][-1]["loss"] < shop.history["qat"][0]["loss"] * 1.05


def test_training_on_the_grid_wins_back_what_coarse_rounding_lost(crops: Lessons, cnn: Any, tmp_path: Path) -> None:
    """With ranges far too wide every edge is coarse; the weights learn to live with it."""
    import tensorflow as tf

    from edgekit.learning import Objective, Plan, cross_entropy

    network = QatNetwork(fold(cnn, "qat"), SPEC)
    wide = dict.fromkeys(network.ranges, (-40.0, 40.0))
    network.set_ranges(wide)
    pixels, targets = crops.exact(crops.train), crops.targets[crops.train]

    def loss() -> float:
        logits = network.outputs(tf.constant(pixels), training=False)["logits"]
        return float(tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)))

    before = loss()
    Loop()(network, crops, Plan(epochs=6, rate=0.02), Objective(cross_entropy(0.0)), stage="qat")
    assert loss() < 0.8 * before


def test_the_best_range_cuts_a_lonely_outlier_off() -> None:
    values = np.concatenate([np.random.default_rng(0).normal(0, 1, 100_000), [60.0]]).astype(np.float32)
    assert best_range(values)[1] < 58
    assert best_range(np.linspace(0, 6, 1000, dtype=np.float32)) == (0.0, 6.0)


def test_a_dense_net_on_digits_goes_the_whole_way(tmp_path: Path) -> None:
    lessons = lessons_of(digits_folder(tmp_path / "data", 20), GREY, tmp_path / "cache")
    model = teach(dense_net(), lessons, 12)
    shop = workshop(lessons, tmp_path / "answers")
    (tmp_path / "answers").mkdir()
    done = run_pass(Subject(model, GREY, lessons.labels), parse_step("qat=epochs=2"), shop)
    assert done.ranges and set(done.ranges) == {"image", "hidden", "digit"}
    pixels = lessons.exact(lessons.train)
    said = int8_scores(done.model, GREY, done.ranges, pixels).argmax(1)
    assert (said == lessons.targets[lessons.train]).mean() > 0.9


def broken(kind: str) -> Any:
    import keras

    layers = keras.layers
    image = keras.Input((8, 8, 3))
    if kind == "swish":
        x = layers.Conv2D(4, 3, activation="swish", name="bent")(image)
    elif kind == "separable":
        x = layers.SeparableConv2D(4, 3, name="bent")(image)
    elif kind == "norm first":
        x = layers.BatchNormalization(name="bent")(image)
    elif kind == "nested":
        x = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(4, 3)], name="bent")(image)
    elif kind == "twice":
        twice = layers.Conv2D(3, 3, padding="same", name="bent")
        x = twice(twice(image))
    else:
        x = layers.ReLU(3.0, name="bent")(layers.Conv2D(4, 3)(image))
    return keras.Model(image, layers.Dense(2)(layers.Flatten()(x)))


@pytest.mark.parametrize("kind", ["swish", "separable", "norm first", "nested", "twice", "relu3"])
def test_what_a_layer_does_not_allow_is_said_by_its_name(kind: str) -> None:
    with pytest.raises(PassError, match="'bent'"):
        QatNetwork(fold(broken(kind), "qat"), SPEC)


def test_a_subclassed_model_is_refused() -> None:
    import keras

    class Own(keras.Model):
        def call(self, images: Any) -> Any:
            return images

    with pytest.raises(PassError, match="subclassed"):
        fold(Own(name="own"), "qat")


def test_ranges_of_another_model_are_refused(cnn: Any) -> None:
    with pytest.raises(ConversionError, match="no range is known for CONV_2D"):
        with_known_ranges(lower(cnn, SPEC), {"image": (-1.0, 1.0)}, SPEC)


def test_nothing_may_follow_qat(trained: tuple[Subject, Workshop]) -> None:
    subject, shop = trained
    with pytest.raises(PassError, match="put qat last"):
        run_pass(subject, parse_step("distil=anybody"), shop)


def test_weights_in_the_file_are_those_that_training_saw(trained: tuple[Subject, Workshop]) -> None:
    from edgekit.compression.qat_network import _rounded_weights, _within
    from edgekit.conversion.quantisation import layer_names
    from edgekit_device.infer.flatbuffer import constant

    subject, _ = trained
    data = quantise(with_known_ranges(lower(subject.model, SPEC), subject.ranges or {}, SPEC), SPEC)
    info = read_model(data, "it")
    seen = set()
    for op in info.main.operators:
        if op.name not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            continue
        tensor = info.main.tensors[op.inputs[1]]
        found = layer_names(info.main.tensors[op.outputs[0]].name)
        layer = next(la for la in subject.model.layers if la.name in found and hasattr(la, "kernel"))
        seen.add(layer.name)
        # TFLite: (out, h, w, in), (1, h, w, out) and (out, in).
        axis = 3 if op.name == "DEPTHWISE_CONV_2D" else 0
        shape = [1] * len(tensor.shape)
        shape[axis] = -1
        file = np.frombuffer(constant(data, tensor), np.int8).reshape(tensor.shape) * np.array(
            tensor.scales, np.float32
        ).reshape(shape)
        ours = np.asarray(_rounded_weights(layer.kernel.value, _within(layer)))
        order = {"CONV_2D": (3, 0, 1, 2), "DEPTHWISE_CONV_2D": (3, 0, 1, 2), "FULLY_CONNECTED": (1, 0)}[op.name]
        ours = ours.transpose(order) if op.name != "DEPTHWISE_CONV_2D" else ours.reshape(1, *ours.shape[:2], -1)
        assert np.allclose(file, ours, atol=1e-6), layer.name
    assert seen == {"stem", "deep", "point", "last", "scores"}
