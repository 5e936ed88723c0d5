"""The golden self-test catches another model, other preprocessing, and scores that are not numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgekit_device.bundle import Bundle, open_bundle
from edgekit_device.contract.archive import write_archive
from edgekit_device.contract.errors import BundleFormatError, FieldError, GoldenMismatchError
from edgekit_device.contract.manifest import GOLDEN_SCORES
from edgekit_device.infer.flatbuffer import read_model
from edgekit_device.infer.golden import Golden, compare, margin, prove
from edgekit_device.infer.interpreter import Engine


@pytest.fixture
def bundle(workshop, tmp_path) -> Bundle:
    return open_bundle(workshop.write(tmp_path / "toy-1.0.0.edgekit"), [workshop.public])[0]


def other_weights(model: bytes, seed: int) -> bytes:
    """The same graph with the int8 weights of its widest layer in another order: another training's result."""
    tensors = [t for t in read_model(model).main.tensors if t.dtype == "int8" and t.is_constant]
    widest = max(tensors, key=lambda t: t.buffer_bytes)
    start, stop = widest.buffer_offset, widest.buffer_offset + widest.buffer_bytes
    values = np.frombuffer(model[start:stop], np.int8)
    return model[:start] + np.random.default_rng(seed).permutation(values).tobytes() + model[stop:]


@pytest.mark.parametrize("rung", ["xnnpack", "builtin"])
def test_the_bundled_model_reproduces_itself(bundle: Bundle, rung: str) -> None:
    proof = prove(Engine(bundle.model(), delegate=rung), bundle)
    assert proof["images"] == 4
    assert proof["largest_difference"] <= proof["tolerance"]


@pytest.mark.parametrize("seed", range(4))
def test_another_model_under_the_same_golden_vectors_is_caught(workshop, tmp_path, toy_model, seed: int) -> None:
    """Signed, well formed, the same graph: only the golden vectors can tell."""
    files = {**workshop.files, "model.tflite": other_weights(toy_model, seed)}
    path = workshop.write(tmp_path / "x.edgekit", write_archive(workshop.entries(files)))
    opened, _ = open_bundle(path, [workshop.public])
    with pytest.raises(GoldenMismatchError):
        prove(Engine(opened.model()), opened)


@pytest.mark.parametrize(
    "changes",
    [{"mean": (0.0, 0.0, 0.0)}, {"std": (64.0, 64.0, 64.0)}, {"crop_fraction": 1.0}, {"zero_point": 127}],
    ids=lambda changes: next(iter(changes)),
)
def test_other_preprocessing_is_caught(workshop, tmp_path, changes) -> None:
    preprocess = replace(workshop.manifest.preprocess, **changes)
    path = workshop.write(tmp_path / "x.edgekit", write_archive(workshop.entries(preprocess=preprocess)))
    opened, _ = open_bundle(path, [workshop.public])
    with pytest.raises(GoldenMismatchError):
        prove(Engine(opened.model()), opened)


def test_a_bundle_without_golden_vectors_is_not_served(workshop, tmp_path) -> None:
    for left_out in (GOLDEN_SCORES, ".png"):
        files = {name: data for name, data in workshop.files.items() if not name.endswith(left_out)}
        path = workshop.write(tmp_path / "x.edgekit", write_archive(workshop.entries(files)))
        opened, _ = open_bundle(path, [workshop.public])
        with pytest.raises(BundleFormatError, match="golden"):
            prove(Engine(opened.model()), opened)


def test_a_rung_without_a_tolerance_is_named(workshop, tmp_path) -> None:
    golden = Golden.from_bytes(workshop.files[GOLDEN_SCORES])
    files = {**workshop.files, GOLDEN_SCORES: replace(golden, tolerances={"edgetpu": 0.1}).to_bytes()}
    path = workshop.write(tmp_path / "x.edgekit", write_archive(workshop.entries(files)))
    opened, _ = open_bundle(path, [workshop.public])
    with pytest.raises(FieldError, match="xnnpack"):
        prove(Engine(opened.model()), opened)


def test_comparing_is_strict_about_length_numbers_top1_and_tolerance() -> None:
    expected = np.array([0.1, 0.7, 0.2], np.float32)
    assert compare("x", expected, expected + np.float32(0.05), "xnnpack", 0.06) == pytest.approx(0.05)
    for found in ([0.1, 0.7], [0.1, np.nan, 0.2], [0.7, 0.1, 0.2], [0.1, 0.6, 0.2]):
        with pytest.raises(GoldenMismatchError):
            compare("x", expected, np.array(found, np.float32), "xnnpack", 0.06)
    with pytest.raises(GoldenMismatchError, match="top-1 is class 2"):
        compare("x", expected, np.array([0.1, 0.44, 0.46], np.float32), "xnnpack", 0.5)


def test_the_document_survives_a_round_trip_and_keeps_what_it_does_not_know() -> None:
    golden = Golden({"00.png": np.array([0.25, 1 / 3], np.float32)}, {"xnnpack": 0.01}, {"unmeasured": ["edgetpu"]})
    again = Golden.from_bytes(golden.to_bytes())
    assert again.to_bytes() == golden.to_bytes()
    assert again.extra == {"unmeasured": ["edgetpu"]}
    np.testing.assert_allclose(again.scores["00.png"], [0.25, 1 / 3], rtol=1e-6)  # Seven digits are written.


def test_the_margin_is_the_lead_of_the_best_score() -> None:
    assert margin(np.array([0.1, 0.6, 0.3], np.float32)) == pytest.approx(0.3)
    assert margin(np.array([0.5], np.float32)) == 1.0
