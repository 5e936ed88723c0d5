"""Promises about `edgekit doctor calibration`, on real photos and on what people use instead of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgekit.calibration_check import check_calibration
from edgekit.cli import main
from edgekit.conversion.calibration import draw_crops, load_images
from edgekit.conversion.stability import two_halves
from tests.conversion.conftest import PREPROCESS

PHOTOS = sorted((Path(__file__).parents[2] / "calibration_data").glob("*.jpg"))


def write(path: Path, pixels: np.ndarray) -> None:
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    for path in PHOTOS[:18]:
        shutil.copy(path, tmp_path / "photos")
    return tmp_path / "photos"


def found(folder: Path, against: Path | None = None) -> dict[str, tuple[str, ...]]:
    return {s.what: s.photos for s in check_calibration(folder, against=against).symptoms}


def test_nothing_is_wrong_with_photos(folder: Path) -> None:
    assert found(folder) == {}
    assert found(PHOTOS[0].parent) == {}


def test_noise_blank_images_and_copies_are_named_and_what_costs_most_comes_first(folder: Path) -> None:
    rng = np.random.default_rng(0)
    write(folder / "noise.png", rng.integers(0, 256, (300, 300, 3), dtype=np.uint8))
    write(folder / "black.png", np.zeros((300, 300, 3), np.uint8))
    one = cv2.imread(str(folder / PHOTOS[0].name))
    write(folder / "again.png", cv2.resize(one, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    symptoms = check_calibration(folder).symptoms
    assert [s.what for s in symptoms] == ["blank images", "noise", "near duplicates"]
    assert symptoms[0].photos == ("black.png",)
    assert symptoms[1].photos == ("noise.png",)
    assert set(symptoms[2].photos) <= {"again.png", PHOTOS[0].name}
    assert [s.severity for s in symptoms] == ["error", "error", "note"]


def test_a_photo_that_the_model_is_judged_on_is_found_in_any_size(folder: Path, tmp_path: Path) -> None:
    judges = tmp_path / "judges"
    judges.mkdir()
    shutil.copy(PHOTOS[20], judges)
    assert found(folder, judges) == {}
    other = cv2.imread(str(PHOTOS[3]))
    write(judges / "smaller.png", cv2.resize(other, None, fx=0.4, fy=0.4, interpolation=cv2.INTER_AREA))
    assert found(folder, judges) == {"leakage": (PHOTOS[3].name,)}


def test_photos_without_light_or_shade_cover_the_range_poorly(folder: Path) -> None:
    for path in folder.glob("*.jpg"):
        pixels = cv2.imread(str(path))
        path.unlink()
        write(path.with_suffix(".png"), (60 + pixels * 0.4).astype(np.uint8))
    assert set(found(folder)) == {"poor coverage"}


def test_one_class_and_few_photos_are_told(tmp_path: Path) -> None:
    for name, photos in (("cat", PHOTOS[:9]), ("dog", PHOTOS[9:10])):
        (tmp_path / name).mkdir()
        for path in photos:
            shutil.copy(path, tmp_path / name)
    check = check_calibration(tmp_path)
    assert check.classes == {"cat": 9, "dog": 1}
    assert [s.what for s in check.symptoms] == ["one class", "few photos"]
    assert check.passed


def test_the_command_says_no_with_exit_3_and_the_name_of_the_photo(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "calibration", str(folder)]) == 0
    write(folder / "black.png", np.zeros((300, 300, 3), np.uint8))
    assert main(["doctor", "calibration", str(folder)]) == 3
    assert "black.png" in capsys.readouterr().out
    assert main(["doctor", "calibration", str(folder), "--json"]) == 3
    report = json.loads(capsys.readouterr().out.splitlines()[0])
    assert report["passed"] is False
    assert report["symptoms"][0]["what"] == "blank images"


def test_every_class_gives_photos_before_any_gives_more(tmp_path: Path) -> None:
    for place, path in enumerate(PHOTOS[:16]):
        home = tmp_path / ("rare" if place < 3 else "common")
        home.mkdir(exist_ok=True)
        shutil.copy(path, home)
    images = load_images(tmp_path).images
    rare = {photo.sha256 for photo in images if photo.path.parent.name == "rare"}
    for seed in range(5):
        drawn = {crop.photo for crop in draw_crops(images, PREPROCESS, seed=seed, per_image=1, limit=6)}
        assert len(drawn & rare) == 3
    seen = {frozenset(c.photo for c in draw_crops(images, PREPROCESS, seed=s, limit=6)) for s in range(5)}
    assert len(seen) > 1


def test_ranges_settle_as_the_halves_grow_and_never_do_where_each_crop_is_larger() -> None:
    rng = np.random.default_rng(0)
    highs = rng.uniform(0.5, 1, (64, 30)).astype(np.float32)
    steady = two_halves(-highs, highs)
    assert [count for count, _, _ in steady.steps] == [1, 2, 4, 8, 16, 32]
    assert steady.steps[0][1] > steady.steps[-1][1]
    assert steady.settled is not None
    assert steady.settled <= 4
    # Two activations of thirty that never settle are within the tenth that may; a third of them is not.
    wild = highs.copy()
    wild[:, :2] = 2.0 ** np.arange(64, dtype=np.float32)[:, None]
    assert two_halves(np.zeros_like(wild), wild).settled is not None
    wild[:, :10] = wild[:, :1]
    assert two_halves(np.zeros_like(wild), wild).settled is None
    growing = np.repeat(2.0 ** np.arange(64, dtype=np.float32)[:, None], 3, axis=1)
    assert two_halves(np.zeros_like(growing), growing).settled is None
