"""Promises about the photos that a model is calibrated on."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgekit.conversion.calibration import MAX_CROPS, MIN_IMAGES, center_crop, draw_crops, load_images, random_crop
from edgekit.errors import CalibrationError
from edgekit_device import vision
from edgekit_device.contract.preprocess import efficientnet_lite

PHOTOS = Path(__file__).parents[2] / "calibration_data"
SPEC = replace(efficientnet_lite(224), height=48, width=48)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten real photos."""
    for path in sorted(PHOTOS.glob("*.jpg"))[:10]:
        shutil.copy(path, tmp_path)
    return tmp_path


def test_unreadable_images_are_named_and_skipped_and_other_files_are_passed_over(folder: Path) -> None:
    (folder / "notes.txt").write_text("not an image")
    (folder / ".hidden.jpg").write_bytes(b"not looked at")
    (folder / "deeper").mkdir()
    (folder / "deeper" / "broken.jpg").write_bytes(b"\xff\xd8 but no more")
    (folder / "empty.png").touch()
    photos = load_images(folder)
    assert len(photos.images) == 10
    assert dict(photos.skipped) == {
        "deeper/broken.jpg": "not a readable image",
        "empty.png": "not a readable image",
    }


def test_fewer_than_eight_usable_images_are_an_error_that_says_what_was_skipped(folder: Path) -> None:
    for path in sorted(folder.glob("*.jpg"))[: 10 - MIN_IMAGES + 1]:
        path.write_bytes(b"gone")
    with pytest.raises(
        CalibrationError, match=r"7 usable images, and 8 are needed; 3 skipped: .*\.jpg \(not a"
    ) as caught:
        load_images(folder)
    assert caught.value.path == str(folder)
    assert caught.value.exit_code == 1


def test_copies_of_one_photo_do_not_count_twice(folder: Path) -> None:
    one, *others = sorted(folder.glob("*.jpg"))
    for path in others:
        shutil.copy(one, path)
    with pytest.raises(CalibrationError, match=r"1 usable image, and 8 are needed; 9 skipped: .*the same bytes as"):
        load_images(folder)


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="is not a folder"):
        load_images(tmp_path / "nowhere")


@pytest.mark.parametrize("suffix", [".png", ".webp", ".bmp", ".JPEG", ".tiff"])
def test_images_of_other_formats_are_read(folder: Path, suffix: str) -> None:
    source = next(folder.glob("*.jpg"))
    pixels = vision.decode_image(source.read_bytes())
    encoded = cv2.imencode(suffix.lower(), pixels[..., ::-1])[1]
    (folder / f"other{suffix}").write_bytes(encoded.tobytes())
    photos = load_images(folder)
    assert photos.skipped == ()
    assert any(photo.path.name == f"other{suffix}" for photo in photos.images)


def test_the_same_photos_under_other_names_give_the_same_crops(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other")
    for number, path in enumerate(sorted(folder.glob("*.jpg"), reverse=True)):
        (other / str(number % 3)).mkdir(exist_ok=True)
        shutil.copy(path, other / str(number % 3) / f"{number}.jpg")
    first, second = (draw_crops(load_images(where).images, SPEC, per_image=3) for where in (folder, other))
    assert [crop.photo for crop in first] == [crop.photo for crop in second]
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(first, second, strict=True))


def test_a_photo_gives_the_same_crops_whatever_photos_lie_beside_it(folder: Path) -> None:
    images = load_images(folder).images
    alone = draw_crops(images[3:4], SPEC, per_image=4)
    among = [crop for crop in draw_crops(images, SPEC, per_image=4) if crop.photo == images[3].sha256]
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(alone, among, strict=True))


def test_another_seed_gives_other_crops_and_the_first_is_always_the_one_a_board_sees(folder: Path) -> None:
    images = load_images(folder).images[:2]
    drawn = [draw_crops(images, SPEC, seed=seed, per_image=3) for seed in (0, 1)]
    pinned = SPEC.quantised("uint8", 1 / 128, 127)
    for start in (0, 3):
        seen = vision.to_model_input(images[start // 3].pixels(), pinned)[0]
        assert np.array_equal(drawn[0][start].pixels, seen)
        assert np.array_equal(drawn[1][start].pixels, seen)
        assert not np.array_equal(drawn[0][start + 1].pixels, drawn[1][start + 1].pixels)


def test_crops_are_capped_and_shared_out_evenly(folder: Path) -> None:
    images = load_images(folder).images
    assert set(Counter(crop.photo for crop in draw_crops(images, SPEC)).values()) == {6}
    shared = Counter(crop.photo for crop in draw_crops(images, SPEC, per_image=6, limit=25))
    assert sorted(shared.values()) == [2] * 5 + [3] * 5
    few = draw_crops(images, SPEC, limit=4)
    assert len({crop.photo for crop in few}) == len(few) == 4
    assert {crop.photo for crop in few} != {crop.photo for crop in draw_crops(images, SPEC, limit=4, seed=1)}
    assert len(draw_crops(images, SPEC, per_image=100)) == MAX_CROPS


@pytest.mark.parametrize("shape", [(1, 1), (3, 900), (900, 3), (48, 48), (700, 500)])
@pytest.mark.parametrize("crop", ["center", "squash"])
def test_every_shape_of_photo_can_be_cropped(shape: tuple[int, int], crop: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    spec = replace(SPEC, crop=crop, width=64)
    for cut in (center_crop(pixels, spec), random_crop(pixels, spec, np.random.default_rng(1))):
        assert cut.shape == (48, 64, 3)
        assert cut.dtype == np.uint8


def test_grey_models_get_grey_crops_and_bgr_models_get_bgr_ones(folder: Path) -> None:
    photo = load_images(folder).images[:1]
    (rgb,) = draw_crops(photo, SPEC, per_image=1)
    (bgr,) = draw_crops(photo, replace(SPEC, color="BGR"), per_image=1)
    (grey,) = draw_crops(photo, replace(SPEC, color="GRAY", mean=(127.0,), std=(128.0,)), per_image=1)
    assert np.array_equal(rgb.pixels[..., ::-1], bgr.pixels)
    assert grey.pixels.shape == (48, 48, 1)


def test_a_photo_replaced_meanwhile_is_an_error_and_not_another_crop(folder: Path) -> None:
    images = load_images(folder).images
    shutil.copy(images[1].path, images[0].path)
    with pytest.raises(CalibrationError, match="changed while it was in use"):
        draw_crops(images, SPEC)


def test_progress_reaches_its_end(folder: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    photos = load_images(folder, progress=lambda *step: seen.append(step))
    draw_crops(photos.images, SPEC, per_image=2, progress=lambda *step: seen.append(step))
    assert seen[9] == ("read", 10, 10)
    assert seen[-1] == ("crop", 20, 20)
