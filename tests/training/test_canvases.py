from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgekit.errors import UsageError
from edgekit.training.augmentation import AUGMENTATIONS, Augmentation, augment, find_augmentation
from edgekit.training.canvases import canvas_size, draw_canvas
from edgekit_device import vision
from tests.training.test_folders import SPEC

PHOTO = sorted((Path(__file__).parents[2] / "calibration_data").glob("*.jpg"))[0]


@pytest.mark.parametrize("crop_fraction", [1.0, 0.875, 0.5])
@pytest.mark.parametrize("color", ["RGB", "GRAY"])
def test_the_middle_of_a_canvas_is_what_a_board_sees(color: str, crop_fraction: float) -> None:
    channels = 1 if color == "GRAY" else 3
    spec = replace(SPEC, color=color, crop_fraction=crop_fraction, mean=(127.0,) * channels, std=(128.0,) * channels)
    photo = vision.decode_image(PHOTO.read_bytes())
    canvas = draw_canvas(photo, spec)
    assert canvas.shape == (*canvas_size(spec), channels)
    top = (canvas.shape[0] - 32) // 2
    board = vision.to_model_input(photo, spec.quantised("int8", 1 / 128, -1))[0]
    assert np.array_equal(canvas[top : top + 32, top : top + 32].astype(int) - 128, board.astype(int))


def test_augmentation_without_change_is_the_picture_itself() -> None:
    still = Augmentation(zoom=1.0, turn_deg=0.0, mirror=False, light=0.0, sharp=0.0)
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)

    class Middle(np.random.Generator):
        def uniform(self, low: float = 0.0, high: float = 1.0, size: object = None) -> float:  # type: ignore[override]
            return (low + high) / 2

    rng = Middle(np.random.PCG64(0))
    assert np.array_equal(augment(picture, (32, 32), still, rng), picture)


@pytest.mark.parametrize("name", [name for name, how in AUGMENTATIONS.items() if how])
@pytest.mark.parametrize("channels", [1, 3])
def test_augmentation_is_drawn_by_seed_alone(name: str, channels: int) -> None:
    how = AUGMENTATIONS[name]
    assert how
    photo = cv2.resize(cv2.imread(str(PHOTO)), (48, 48))[..., :channels]
    pictures = [augment(photo, (32, 32), how, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert pictures[0].shape == (32, 32, channels)
    assert np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], pictures[2])


@pytest.mark.parametrize("shape", [(40, 40), (40, 52)])
def test_a_share_of_the_pictures_is_as_sharp_as_a_board_sees_them(shape: tuple[int, int]) -> None:
    canvas = np.random.default_rng(0).integers(0, 256, (*shape, 1), np.uint8)
    size = (shape[0] - 8, shape[1] - 8)
    seen = canvas[4:-4, 4:-4]
    how = Augmentation(any_way_up=True, light=0.0, sharp=0.5)
    looks = [augment(canvas, size, how, np.random.default_rng(seed)) for seed in range(100)]
    kept = [look for look in looks if np.array_equal(np.sort(look, None), np.sort(seen, None))]
    assert 35 <= len(kept) <= 65
    ways = {look.tobytes() for look in kept}
    assert len(ways) == (8 if shape[0] == shape[1] else 4), "every way up that keeps the pixels, and no other"
    assert seen.tobytes() in ways


def test_letters_are_mirrored_only_where_that_is_asked_for() -> None:
    half = np.zeros((32, 32, 1), np.uint8)
    half[:, :10] = 200
    sides = {}
    for name in ("no-mirror", "photo"):
        how = AUGMENTATIONS[name]
        assert how
        looks = [augment(half, (32, 32), how, np.random.default_rng(seed)) for seed in range(20)]
        sides[name] = {bool(look[:, :10].mean() > look[:, 22:].mean()) for look in looks}
    assert sides == {"no-mirror": {True}, "photo": {True, False}}


def test_a_wrong_word_names_the_near_miss() -> None:
    with pytest.raises(UsageError, match="did you mean 'no-mirror'"):
        find_augmentation("no-miror")
