"""Preprocessing: the only code that performs it, held against plain arithmetic."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from edgekit_device import vision
from edgekit_device.contract.errors import FieldError, ShapeError
from edgekit_device.contract.preprocess import Preprocess, efficientnet_lite

LITE = efficientnet_lite(32)
# As timm's normalisation would be on an int8 grid: no identity anywhere.
TIMM = replace(LITE, mean=(123.7, 116.3, 103.5), std=(58.4, 57.1, 57.4), dtype="int8", scale=0.0187, zero_point=-14)


def pixels(height: int = 60, width: int = 80, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)


def test_the_uint8_input_is_the_pixel_itself_without_a_copy() -> None:
    spec = LITE.quantised("uint8", 1 / 128, 127)
    image = pixels(32, 32)
    assert vision.lookup_table(spec) is None
    assert np.shares_memory(vision.quantise(image, spec), image)


def test_the_int8_input_is_the_pixel_minus_128() -> None:
    spec = LITE.quantised("int8", 1 / 128, -1)
    image = pixels(32, 32)
    assert np.array_equal(vision.quantise(image, spec), (image.astype(np.int16) - 128).astype(np.int8))


@pytest.mark.parametrize("spec", [TIMM, replace(TIMM, dtype="uint8", zero_point=120), replace(TIMM, dtype="int16")])
def test_quantisation_is_the_formula_with_ties_to_even_and_saturation(spec: Preprocess) -> None:
    image = pixels(32, 32)
    real = (image.astype(np.float64) - spec.mean) / spec.std
    limits = np.iinfo(spec.dtype)
    expected = np.clip(np.round(real / spec.scale) + spec.zero_point, limits.min, limits.max)
    found = vision.quantise(image, spec)
    assert found.dtype == spec.dtype
    assert np.array_equal(found, expected.astype(spec.dtype))


def test_float_input_is_normalised_exactly() -> None:
    image = pixels(32, 32)
    assert np.array_equal(vision.quantise(image, LITE), ((image.astype(np.float64) - 127) / 128).astype(np.float32))


@pytest.mark.parametrize(("order", "channel"), [("RGB", 0), ("BGR", 2)])
def test_a_red_card_is_red_to_the_model_whatever_order_the_source_has(order: str, channel: int) -> None:
    card = np.zeros((50, 50, 3), np.uint8)
    card[..., channel] = 255
    tensor = vision.to_model_input(card, LITE.quantised("uint8", 1 / 128, 127), order)
    assert tensor[0, 16, 16].tolist() == [255, 0, 0]


def test_a_grey_frame_feeds_a_colour_model_and_a_colour_frame_a_grey_one() -> None:
    grey = np.full((40, 40), 77, np.uint8)
    assert vision.to_model_input(grey, LITE.quantised("uint8", 1 / 128, 127), "GRAY")[0, 5, 5].tolist() == [77] * 3
    one = replace(LITE, color="GRAY", mean=(0.0,), std=(1.0,), dtype="uint8", scale=1.0, zero_point=0)
    assert vision.to_model_input(pixels(), one).shape == (1, 32, 32, 1)


def test_the_centre_crop_keeps_its_share_of_the_shorter_side() -> None:
    assert vision.crop_box(480, 640, efficientnet_lite(224)) == (30, 110, 420, 420)
    assert vision.crop_box(480, 640, replace(LITE, crop="squash")) == (0, 0, 480, 640)
    assert vision.crop_box(1, 1, LITE) == (0, 0, 1, 1)


def test_shrinking_averages_and_so_keeps_a_fine_pattern_grey() -> None:
    stripes = np.zeros((320, 320, 3), np.uint8)
    stripes[:, ::2] = 255
    small = vision.resize(stripes, 32, 32, "bicubic", antialias=True)
    assert abs(int(small.mean()) - 127) <= 1
    assert small.std() < 2, "aliasing left stripes in the picture"


def test_a_frame_of_the_right_size_is_not_copied() -> None:
    image = pixels(32, 32)
    assert vision.resize(image, 32, 32, "bicubic", antialias=True) is image


@pytest.mark.parametrize(
    "bad", [np.zeros((0, 5, 3), np.uint8), np.zeros((5, 5, 4), np.uint8), np.zeros((5, 5, 3), np.float32)]
)
def test_what_is_no_image_is_refused_by_name(bad: np.ndarray) -> None:
    with pytest.raises(ShapeError, match="frame must be uint8"):
        vision.to_model_input(bad, LITE)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_the_declared_size_is_read_from_the_header_alone(suffix: str) -> None:
    data = cv2.imencode(suffix, pixels(60, 80))[1].tobytes()
    assert vision.declared_size(data) == (60, 80)
    assert vision.declared_size(data[:8]) is None


def test_an_image_that_declares_too_many_pixels_is_refused_before_it_is_decoded() -> None:
    bomb = bytearray(cv2.imencode(".png", pixels(4, 4))[1].tobytes())
    bomb[16:24] = (50_000).to_bytes(4, "big") * 2
    with pytest.raises(ShapeError, match="over the limit"):
        vision.decode_image(bytes(bomb))


def test_preprocessing_reads_back_as_it_was_written() -> None:
    assert Preprocess.from_json(TIMM.to_json()) == TIMM


@pytest.mark.parametrize(
    ("key", "value"),
    [("color", "CMYK"), ("std", [1, 0, 1]), ("mean", [1, 2]), ("scale", 0), ("height", 0), ("antialias", "yes")],
)
def test_a_wrong_preprocessing_field_is_refused_by_name(key: str, value: object) -> None:
    with pytest.raises(FieldError):
        Preprocess.from_json({**TIMM.to_json(), key: value})
