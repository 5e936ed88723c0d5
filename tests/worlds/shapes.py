"""Labelled images for the toy classifiers of device/tests/fixtures: shapes in random colours."""

from __future__ import annotations

import json
from pathlib import Path

import cv2

from tools.make_device_fixture import LABELS, PREPROCESS, draw_many

FIXTURES = Path(__file__).parents[2] / "device" / "tests" / "fixtures"
INT8, FLOAT, LABELS_FILE = FIXTURES / "toy_int8.tflite", FIXTURES / "toy_float.tflite", FIXTURES / "labels.txt"


def write_shapes(folder: Path, count: int, seed: int = 3, names: tuple[str, ...] = LABELS) -> Path:
    """``folder/<class>/NNNNN.png``, the classes in turn."""
    images, classes = draw_many(count, seed)
    for at, (image, index) in enumerate(zip(images, classes, strict=True)):
        home = folder / names[index]
        home.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(home / f"{at:05}.png"), image[..., ::-1])
    return folder


def write_preprocess(path: Path) -> Path:
    """The toy's preprocessing as a file for --preprocess."""
    path.write_text(json.dumps(PREPROCESS.to_json()), "utf-8")
    return path
