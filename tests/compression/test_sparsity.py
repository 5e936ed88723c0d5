"""Schedules and masks as numbers, and against TFMOT's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgekit.compression.cluster import share_values
from edgekit.compression.rounding import channel_scales, round_apart, round_together, shares_values
from edgekit.compression.sparsity import Polynomial, Table, masks_below, masks_of, read_table
from tests.conftest import absent

ROOT = Path(__file__).parents[2]


def test_the_share_of_zeros_grows_fast_at_first_and_reaches_what_was_asked() -> None:
    plan = Polynomial(0.2, 0.8, begin=10, end=110, frequency=20)
    found = {step: share for step in range(200) if (share := plan.share(step, 200)) is not None}
    assert list(found) == [10, 30, 50, 70, 90, 110]
    shares = list(found.values())
    assert shares[0] == pytest.approx(0.2) and shares[-1] == pytest.approx(0.8)
    assert all(np.diff(np.diff(shares)) < 0)
    # An end that no interval meets, and one beyond the last step, are met all the same.
    for odd in (Polynomial(0, 0.5, 0, 50, 7), Polynomial(0, 0.5, 0, 500, 7), Polynomial(0, 0.5)):
        shares = [odd.share(step, 100) for step in range(100)]
        assert [share for share in shares if share is not None][-1] == 0.5


def test_the_last_share_is_reached_however_few_steps_there_are_and_not_before_begin() -> None:
    for total in (1, 2, 3):
        shares = [Polynomial(0, 0.75).share(step, total) for step in range(total)]
        assert [share for share in shares if share is not None][-1] == 0.75
    late = [step for step in range(100) if Polynomial(0, 0.5, begin=80).share(step, 100) is not None]
    assert late[0] == 80 and late[-1] == 93


def test_a_table_of_epochs_says_when() -> None:
    plan = Table(read_table("2:0.5/4:0.75"), epochs=5)
    found = {step: share for step in range(50) if (share := plan.share(step, 50)) is not None}
    assert found == {10: 0.5, 30: 0.75}
    for text in ("2", "4:0.5/2:0.75", "2:0.7/4:0.5", "0:0.5", "2:1.5", "two:0.5", "2:x", "2:0.5/2:0.7", "2:nan"):
        with pytest.raises(ValueError, match="table="):
            read_table(text)


def test_masks_keep_the_largest_in_each_layer_or_in_all_together() -> None:
    scores = {"a": np.arange(10.0).reshape(2, 5), "b": np.arange(100.0, 110.0)}
    apart = masks_of(scores, 0.4, everywhere=False)
    assert [int(apart[name].sum()) for name in "ab"] == [6, 6]
    assert not apart["a"].ravel()[:4].any()
    together = masks_of(scores, 0.5, everywhere=True)
    assert not together["a"].any() and together["b"].all()
    below = masks_below({"a": np.array([-3.0, 0.1, 2.0])}, 1.0, everywhere=True)
    assert below["a"].tolist() == [True, False, True]


@pytest.mark.oracle
def test_masks_over_time_are_tfmots(tmp_path: Path) -> None:
    packages = os.environ.get("EDGEKIT_TFMOT")
    if not packages or not Path(packages, "tensorflow_model_optimization").is_dir():
        absent("TFMOT in a folder of its own, named by EDGEKIT_TFMOT", "make oracle")
        return
    numbers, steps = (0.1, 0.8, 3, 33, 5, 3.0), 40
    drift = np.random.default_rng(0).normal(0, 0.1, (steps, 20, 30)).astype(np.float32)
    drift[0] *= 10
    np.savez(tmp_path / "given.npz", numbers=numbers, drift=drift)
    environment = {**os.environ, "TF_USE_LEGACY_KERAS": "1", "PYTHONPATH": f"{packages}{os.pathsep}{ROOT}"}
    words = [sys.executable, "-m", "tests.compression.oracle_tfmot_pruning", str(tmp_path)]
    subprocess.run(words, cwd=ROOT, env=environment, check=True, capture_output=True, timeout=600)
    theirs = np.load(tmp_path / "tfmot.npz")["masks"]
    plan = Polynomial(numbers[0], numbers[1], *(int(n) for n in numbers[2:5]), numbers[5])
    weights, mask = np.zeros((20, 30), np.float32), np.ones((20, 30), bool)
    for step in range(steps):
        weights += drift[step]
        share = plan.share(step, 1000)
        if share is not None:
            mask = masks_of({"a": np.abs(weights).astype(np.float64)}, share, everywhere=False)["a"]
        weights *= mask
        assert np.array_equal(mask, theirs[step] > 0), step


def test_rounding_with_feedback_leaves_zeros_zero() -> None:
    rng = np.random.default_rng(0)
    weights, seen = rng.normal(size=(6, 9)), rng.normal(size=(200, 9)) + 1
    weights[rng.random((6, 9)) < 0.5] = 0
    scales, moment = channel_scales(weights), seen.T @ seen / 200
    together = round_together(weights, moment, scales)
    apart = round_apart(weights, np.stack([moment] * 6), scales)
    for found in (together, apart):
        assert not found[weights == 0].any()
        assert np.abs(found - weights).max() < 3 * scales.max()


def test_few_values_in_a_channel_are_told_from_many_and_zeros_do_not_count() -> None:
    rng = np.random.default_rng(0)
    many = rng.normal(size=(8, 96))
    few = np.round(many * 4) / 4 * rng.uniform(0.5, 2, (8, 1))  # As BatchNorm scales each channel when it is folded in.
    assert shares_values(few) and not shares_values(many) and not shares_values(np.zeros((8, 96)))
    assert not shares_values(np.where(rng.random(many.shape) < 0.9, 0, many))


def test_weights_share_values_and_zeros_keep_theirs() -> None:
    rng = np.random.default_rng(0)
    plain = np.concatenate([rng.normal(at, 0.01, 200) for at in (-1, 0.5, 2)]).astype(np.float32)
    values, index = share_values(plain, 3)
    assert np.allclose(values, [-1, 0.5, 2], atol=0.01)
    assert np.abs(values[index] - plain).max() < 0.05
    plain[::2] = 0
    values, index = share_values(plain, 4)
    assert len(values) == 4 and not values[index][::2].any() and values[index][1::2].all()
    few, _ = share_values(np.array([1.0, 1.0, 2.0], np.float32), 16)
    assert set(few.tolist()) == {1.0, 2.0}
