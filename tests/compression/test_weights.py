"""Promises of the weight study."""

from __future__ import annotations

import csv
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from edgekit.cli import main
from edgekit.compression.grids import GRIDS, affine, clustered, piecewise, size_bytes, symmetric
from edgekit.weight_report import study


@pytest.fixture
def rows() -> np.ndarray:
    # Heavy tails, as weights have, and an offset that only an affine grid can use.
    return (np.random.default_rng(0).standard_t(4, (3, 2000)) + 1).astype(np.float32)


def error(rows: np.ndarray, left: np.ndarray) -> float:
    return float(np.mean((rows - left) ** 2))


@pytest.mark.parametrize("grid", GRIDS)
def test_every_bit_more_is_worth_about_six_decibels(rows: np.ndarray, grid: str) -> None:
    errors = [error(rows, GRIDS[grid](rows, bits)) for bits in range(4, 9)]
    steps = [10 * np.log10(a / b) for a, b in itertools.pairwise(errors)]
    assert all(2.5 < step < 10 for step in steps), steps


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_no_grid_uses_more_values_than_its_bits_allow(rows: np.ndarray, grid: str, bits: int) -> None:
    left = GRIDS[grid](rows, bits)
    assert left.shape == rows.shape
    assert all(len(np.unique(row)) <= 2**bits for row in left)


def test_tails_are_served_by_segments_and_best_by_clusters(rows: np.ndarray) -> None:
    ordered = [error(rows - 1, grid(rows - 1, 4)) for grid in (clustered, piecewise, symmetric)]
    assert ordered == sorted(ordered)
    lopsided = np.abs(rows)
    assert error(lopsided, affine(lopsided, 4)) < error(lopsided, symmetric(lopsided, 4))


def test_zero_stays_zero_and_a_plain_tensor_stays_plain() -> None:
    for method in GRIDS.values():
        assert np.array_equal(method(np.zeros((2, 5), np.float32), 4), np.zeros((2, 5)))
    for method in (symmetric, affine, piecewise):
        assert (method(np.array([[0.0, 0.5, 3.0]], np.float32), 3) == 0).any()


def test_the_size_counts_the_packed_bits_and_what_it_takes_to_read_them() -> None:
    assert size_bytes("symmetric", 1000, 10, 8) == 1000 + 10 * 4
    assert size_bytes("affine", 1001, 1, 4) == 501 + 5
    assert size_bytes("clustered", 1000, 1, 2) == 250 + 4 * 4


def test_the_study_of_a_model_is_a_table_and_a_picture(float_model: bytes, tmp_path: Path) -> None:
    model = tmp_path / "toy.tflite"
    model.write_bytes(float_model)
    done = study(model, out=tmp_path / "weights")
    table = list(csv.DictReader((tmp_path / "weights.csv").read_text().splitlines()))
    assert len(table) == len(json.loads((tmp_path / "weights.json").read_text())) == len(done.rows)
    layers = {row["layer"] for row in table}
    assert len(layers) == 5  # Four layers with weights, and all of them.
    picture = (tmp_path / "weights.svg").read_text()
    assert picture.startswith("<svg")
    assert picture.count("<polyline") == 10
    for grid in ("symmetric", "affine"):
        at8 = {r.granularity: r.sqnr_db for r in done.whole if r.grid == grid and r.bits == 8}
        assert at8["model"] < at8["layer"] < at8["channel"]


def test_a_model_without_float_weights_is_refused_with_what_to_type(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Path(__file__).parents[2] / "device" / "tests" / "fixtures" / "toy_int8.tflite"
    assert main(["inspect", str(model), "--weights", str(tmp_path / "w")]) == 2
    assert "--scheme float32" in capsys.readouterr().err
