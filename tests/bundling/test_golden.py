"""Golden images are photos that the model is sure of and that still tell faults; tolerances are measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgekit.bundling import rungs
from edgekit.bundling.golden import RungFigures, choose_golden, measure_rungs, quantum, select
from edgekit.bundling.roles import read_classifier
from edgekit.bundling.rungs import run_rung
from edgekit.errors import GoldenImagesError, RungError
from edgekit_device import vision
from edgekit_device.contract.preprocess import Preprocess, efficientnet_lite
from edgekit_device.infer.golden import MIN_MARGIN, margin
from edgekit_device.infer.interpreter import Engine, TensorSpec

QUANTUM = 1 / 256


@pytest.fixture(scope="module")
def fitted(toy: Path) -> Preprocess:
    return read_classifier(toy.read_bytes(), "toy").fitted(efficientnet_lite(32), "toy")


@pytest.fixture(scope="module")
def chosen(toy: Path, fitted: Preprocess, photos: list[Path]):
    return choose_golden(toy.read_bytes(), fitted, photos)


def test_the_chosen_ones_are_sure_distinct_and_measured_as_the_board_measures(chosen, toy, fitted) -> None:
    assert len(chosen.images) == 4
    assert {int(scores.argmax()) for scores in chosen.golden.scores.values()} == {0, 1, 2, 3}
    engine = Engine(toy.read_bytes())
    for name, expected in chosen.golden.scores.items():
        assert margin(expected) >= MIN_MARGIN
        pixels = vision.decode_image(chosen.images[name])
        # 1.25 times what the model reads, never enlarged: crop and resize are both at work.
        assert min(pixels.shape[:2]) == 40
        np.testing.assert_array_equal(engine.scores(vision.to_model_input(pixels, fitted)), expected)


def test_not_only_photos_that_saturate_the_scores_are_chosen(chosen) -> None:
    assert min(float(scores.max()) for scores in chosen.golden.scores.values()) < 0.9


def test_tolerances_are_the_largest_difference_and_two_quanta(chosen) -> None:
    for figures in chosen.rungs.values():
        assert figures.tolerance == pytest.approx(figures.largest_difference + 2 * QUANTUM, abs=2e-6)
        assert figures.tolerance >= figures.largest_difference + 2 * QUANTUM
    assert chosen.rungs["xnnpack"].largest_difference == 0
    # The builtin kernels are another computation; a measurement of 0 would mean they were not run.
    assert chosen.rungs["builtin"].largest_difference > 0
    assert chosen.views == 16 * 5


def test_the_edge_tpus_tolerance_is_loose_and_says_that_nobody_measured_it(toy, fitted, photos) -> None:
    golden = choose_golden(toy.read_bytes(), fitted, photos[:8], edgetpu=True).golden
    assert golden.extra == {"unmeasured": ["edgetpu"]}
    assert golden.tolerances["edgetpu"] >= 2 * golden.tolerances["builtin"]


def test_too_few_sure_photos_are_an_error_with_the_way_out(toy, fitted, tmp_path: Path) -> None:
    (tmp_path / "not.jpg").write_text("hello")
    for files in ([], [tmp_path / "not.jpg"], [tmp_path / "missing.jpg"]):
        with pytest.raises(GoldenImagesError, match="--golden DIR"):
            choose_golden(toy.read_bytes(), fitted, files)


def test_one_photo_is_not_enough_and_a_damaged_one_is_skipped_by_name(toy, fitted, photos, tmp_path: Path) -> None:
    with pytest.raises(GoldenImagesError, match=r"1 of 1 photos are fit.*2 are needed"):
        choose_golden(toy.read_bytes(), fitted, photos[:1])
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(photos[0].read_bytes()[:100])
    assert choose_golden(toy.read_bytes(), fitted, [*photos[:6], broken]).skipped == ("broken.jpg",)


def test_a_long_panorama_and_a_tiny_photo_are_taken(toy, fitted, tmp_path: Path, photos) -> None:
    image = cv2.imread(str(photos[0]))
    cv2.imwrite(str(tmp_path / "wide.png"), cv2.resize(image, (900, 60)))
    cv2.imwrite(str(tmp_path / "tiny.png"), cv2.resize(image, (9, 7)))
    found = choose_golden(toy.read_bytes(), fitted, [tmp_path / "wide.png", tmp_path / "tiny.png", *photos[:6]])
    for data in found.images.values():
        height, width = vision.decode_image(data).shape[:2]
        assert max(height, width) <= 2 * min(height, width) + 1


def test_selecting_takes_distinct_classes_first_and_never_an_unsure_view() -> None:
    def vector(best: int, lead: float) -> list[float]:
        rest = (1 - lead) / 4
        return [rest + (lead if index == best else 0) for index in range(4)]

    leads = [(0, 0.9), (0, 0.8), (0, 0.7), (1, 0.3), (2, 0.1), (3, MIN_MARGIN)]
    scores = np.array([vector(*lead) for lead in leads], np.float32)
    found = select(scores, range(6), 0.0, QUANTUM)
    assert sorted(found) == [0, 1, 3, 5] or sorted(found) == [0, 2, 3, 5]
    # Views of one photo count once.
    assert len(select(scores, [0, 0, 0, 0, 0, 0], 0.0, QUANTUM)) == 1
    # What stays clear of the tolerances goes first.
    assert select(scores, range(6), 0.75, QUANTUM)[0] == 0


def test_very_sure_and_barely_sure_views_alternate() -> None:
    scores = np.array([[0.5 + lead / 2, 0.5 - lead / 2] for lead in (0.9, 0.8, 0.7, 0.4, 0.3)], np.float32)
    assert select(scores, range(5), 0.0, QUANTUM) == [0, 4, 1, 3]


def test_a_quantum_is_the_tensors_or_a_255th_of_the_range() -> None:
    probabilities, logits = np.array([[0.1, 0.9]], np.float32), np.array([[-5.0, 20.5]], np.float32)
    assert quantum(TensorSpec((1, 2), "int8", 0.1, 0), logits) == 0.1
    assert quantum(TensorSpec((1, 2), "float32", 0.0, 0), probabilities) == pytest.approx(1 / 255)
    assert quantum(TensorSpec((1, 2), "float32", 0.0, 0), logits) == pytest.approx(0.1)


def test_a_float_model_is_measured_too(photos) -> None:
    model = (Path(__file__).parents[2] / "device/tests/fixtures/toy_float.tflite").read_bytes()
    fitted = read_classifier(model, "toy").fitted(efficientnet_lite(32), "toy")
    found = choose_golden(model, fitted, photos[:8])
    assert fitted.dtype == "float32"
    assert found.rungs["builtin"].tolerance == pytest.approx(2 / 255, abs=1e-4)  # Float kernels differ by rounding.


def test_a_rung_that_kills_its_process_is_a_reason_not_a_crash(toy, fitted, monkeypatch) -> None:
    """The child dies in three ways; the parent gets three sentences."""
    inputs = np.zeros((1, 32, 32, 3), np.int8)
    for script, reason in (("kill -ABRT $$", "SIGABRT"), ("kill -SEGV $$", "SIGSEGV"), ("echo no >&2; exit 7", "7")):
        monkeypatch.setattr(rungs, "_command", lambda *_, script=script: ["/bin/sh", "-c", script])
        with pytest.raises(RungError, match=reason):
            run_rung(toy.read_bytes(), inputs, "builtin")
    monkeypatch.setattr(rungs, "_command", lambda *_: ["/bin/sleep", "60"])
    monkeypatch.setattr(rungs, "STARTUP_S", 0.2)
    monkeypatch.setattr(rungs, "PER_IMAGE_S", 0.0)
    with pytest.raises(RungError, match="no answer"):
        run_rung(toy.read_bytes(), inputs, "builtin")


def test_scores_that_are_not_numbers_are_a_reason(toy, monkeypatch) -> None:
    def child(folder: Path, *_: str, limit_s: float) -> None:
        np.save(folder / "scores.npy", np.array([[0.5, np.nan]], np.float32))
        (folder / "output.json").write_text('{"shape":[1,2],"dtype":"float32","scale":0,"zero_point":0}')

    monkeypatch.setattr(rungs, "_in_child", child)
    with pytest.raises(RungError, match="not finite"):
        run_rung(toy.read_bytes(), np.zeros((1, 32, 32, 3), np.int8), "builtin")


def test_a_builtin_rung_that_fails_leaves_no_tolerance_and_a_reason(toy, fitted, photos, monkeypatch) -> None:
    real = rungs.run_rung

    def only_xnnpack(model, tensors, rung, **named):
        if rung == "builtin":
            raise RungError("builtin", "ended by SIGABRT")
        return real(model, tensors, rung, **named)

    monkeypatch.setattr("edgekit.bundling.golden.run_rung", only_xnnpack)
    found = choose_golden(toy.read_bytes(), fitted, photos[:6])
    assert found.rungs["builtin"] == RungFigures(None, None, "ended by SIGABRT")
    assert set(found.golden.tolerances) == {"xnnpack"}


def test_input_of_another_shape_is_the_childs_named_error(toy) -> None:
    with pytest.raises(RungError, match=r"the model reads int8 \[1, 32, 32, 3\]"):
        measure_rungs(toy.read_bytes(), np.zeros((1, 16, 16, 3), np.int8))


def test_the_grid_of_the_input_tensor_replaces_whatever_was_stated(fitted: Preprocess) -> None:
    assert (fitted.dtype, fitted.scale, fitted.zero_point) == ("int8", 1 / 128, -1)
    assert replace(fitted, dtype="float32", scale=0.0, zero_point=0) == efficientnet_lite(32)
