"""Promises of the agreement: measured on the board's code, honest about crops that share a photo."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edgekit.errors import GateError, UsageError
from edgekit.verification.agreement import compare, measure
from edgekit.verification.intervals import clustered, t_quantile, wilson
from edgekit.verification.verdict import AgreementLimits, judge_agreement
from edgekit_device.infer.interpreter import Engine
from edgekit_device.vision import Pixels
from tests.verification.test_structure import PREPROCESS

FIXTURES = Path(__file__).parents[2] / "device" / "tests" / "fixtures"
# The toy's int8 scores against its float ones: a few of 256 steps, more where two shapes are hard to tell apart.
SCORE_TOLERANCE = 0.15
# A nominal 95 % interval of clustered shares near 1 from few clusters; 89 % was the least seen over all settings.
LEAST_COVERAGE = 0.90


def shapes(count: int) -> list[Pixels]:
    """Circles and squares in random colours, RGB, 32 x 32 pixels."""
    rng = np.random.default_rng(3)
    drawn = []
    for number in range(count):
        image = np.full((32, 32, 3), rng.integers(0, 100, 3), np.uint8)
        color = rng.integers(150, 256, 3).tolist()
        if number % 2:
            cv2.circle(image, (16, 16), int(rng.integers(7, 12)), color, -1)
        else:
            cv2.rectangle(image, (7, 7), (24, int(rng.integers(20, 26))), color, -1)
        drawn.append(image)
    return drawn


@pytest.fixture(scope="module")
def engines() -> tuple[Engine, Engine]:
    float_model, int8 = ((FIXTURES / f"toy_{name}.tflite").read_bytes() for name in ("float", "int8"))
    return Engine(float_model), Engine(int8)


def test_float_and_int8_agree_on_the_same_pixels(engines: tuple[Engine, Engine]) -> None:
    crops = shapes(40)
    seen: list[tuple[str, int, int]] = []
    photos = [str(number // 4) for number in range(40)]
    found = measure(*engines, crops, photos, PREPROCESS, progress=lambda *step: seen.append(step))
    assert (found.n, found.photos) == (40, 10)
    assert found.top1 >= 0.95
    assert 0 < found.mean_abs_diff < found.max_abs_diff < SCORE_TOLERANCE
    assert found.sqnr_db is not None
    assert found.sqnr_db > 20
    assert seen[-1] == ("agree", 40, 40)


def test_each_engine_gets_the_pixels_in_its_own_type(engines: tuple[Engine, Engine]) -> None:
    alone = measure(engines[1], engines[1], shapes(6), ["a"] * 6, PREPROCESS)
    assert (alone.top1, alone.top5_overlap, alone.max_abs_diff, alone.sqnr_db) == (1.0, 1.0, 0.0, None)


def test_models_of_different_classes_are_not_compared(engines: tuple[Engine, Engine]) -> None:
    class Other:
        classes = 7

    with pytest.raises(UsageError, match="4 and 7 classes"):
        measure(engines[0], Other(), shapes(1), ["a"], PREPROCESS)  # type: ignore[arg-type]


def test_every_number_is_the_one_its_name_says() -> None:
    reference = np.array([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.1, 0.2, 0.7]], np.float32)
    candidate = np.array([[0.5, 0.4, 0.1], [0.2, 0.3, 0.5], [0.4, 0.3, 0.3]], np.float32)
    found = compare(reference, candidate, ["a", "a", "b"])
    assert found.top1 == pytest.approx(1 / 3)
    assert found.mean_abs_diff == pytest.approx((0.1 + 0.1 + 0.2 + 0.2 + 0.3 + 0.1 + 0.4) / 9)
    assert found.max_abs_diff == pytest.approx(0.4)
    assert found.sqnr_db == pytest.approx(10 * np.log10(float((reference**2).sum()) / 0.36), abs=1e-4)
    # The reference lost most where it was surest: 0.7 against 0.1, then 0.5 against 0.3.
    assert found.disagreements == ((2, 2, 0), (1, 1, 2))
    assert found.to_json()["top1_interval"] == list(found.top1_interval)


def test_the_overlap_of_the_five_highest_counts_classes_and_not_their_order() -> None:
    reference = np.array([[9, 8, 7, 6, 5, 4, 3, 2, 1, 0]], np.float32)
    candidate = np.array([[5, 6, 7, 8, 0, 9, 3, 2, 1, 0]], np.float32)
    assert compare(reference, candidate, ["a"]).top5_overlap == pytest.approx(4 / 5)


def test_nothing_to_compare_is_an_error() -> None:
    with pytest.raises(UsageError, match="nothing to compare"):
        compare(np.empty((0, 3), np.float32), np.empty((0, 3), np.float32), [])
    with pytest.raises(UsageError, match="nothing to compare"):
        compare(np.ones((2, 3), np.float32), np.ones((2, 3), np.float32), ["a"])


def test_wilson_gives_the_textbook_interval() -> None:
    # R: prop.test(81, 263, correct = FALSE); Newcombe, Statistics in Medicine 17 (1998), table I.
    assert wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(15 / 148, 148) == pytest.approx((0.0624, 0.1605), abs=1e-4)
    assert wilson(1.0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("freedom", "t"), [(4, 2.776), (9, 2.262), (27, 2.052), (199, 1.972)])
def test_students_t_is_good_to_a_hundredth(freedom: int, t: float) -> None:
    assert t_quantile(1.959964, freedom) == pytest.approx(t, rel=0.01)


def test_crops_of_one_photo_count_for_less_than_crops_of_many() -> None:
    same = np.ones(120, bool)
    same[:6] = False
    alone = clustered(same, [str(number) for number in range(120)])
    spread = clustered(same, [str(number % 20) for number in range(120)])
    together = clustered(same, [str(number // 6) for number in range(120)])
    assert alone == wilson(114 / 120, 120)
    width = [high - low for low, high in (alone, spread, together)]
    assert width[0] < width[1] < width[2]
    assert clustered(np.ones(60, bool), ["one"] * 60) == wilson(1.0, 1)


def test_full_agreement_of_few_photos_is_not_certainty() -> None:
    low, high = clustered(np.ones(60, bool), [str(number // 6) for number in range(60)])
    assert high == 1.0
    assert low < wilson(1.0, 10)[0]


@pytest.mark.parametrize("photos", [20, 60])
@pytest.mark.parametrize("correlation", [0.0, 0.2, 0.5])
def test_the_interval_covers_the_true_share_as_often_as_it_says(photos: int, correlation: float) -> None:
    rng = np.random.default_rng(1)
    share, crops, rounds = 0.96, 6, 400
    covered = 0
    for _ in range(rounds):
        if correlation:
            spread = (1 - correlation) / correlation
            chances = rng.beta(share * spread, (1 - share) * spread, photos)
        else:
            chances = np.full(photos, share)
        same = rng.random((photos, crops)) < chances[:, None]
        low, high = clustered(same.ravel(), np.repeat(np.arange(photos), crops).astype(str).tolist())
        covered += low <= share <= high
    assert covered / rounds >= LEAST_COVERAGE


def test_limits_decide_and_the_reason_has_the_numbers_in_it() -> None:
    reference = np.eye(4, dtype=np.float32)[np.arange(40) % 4]
    candidate = reference.copy()
    candidate[:4] = np.roll(candidate[:4], 1, axis=1)
    found = compare(reference, candidate, [str(number) for number in range(40)])
    assert judge_agreement(found, AgreementLimits(top1=0.9)).passed
    strict = judge_agreement(found, AgreementLimits(top1=0.95, top1_lower=0.9, max_abs_diff=0.1))
    assert len(strict.broken) == 3
    assert strict.broken[0].startswith("same top class: 90.0% of 40 crops (76.9% to 96.0%, 40 photos), at least 95.0%")
    with pytest.raises(GateError, match=r"lite\.tflite: same top class: 90\.0%") as caught:
        strict.require("lite.tflite")
    assert caught.value.exit_code == 3
    assert judge_agreement(found, AgreementLimits(top1=None)).findings == ()
