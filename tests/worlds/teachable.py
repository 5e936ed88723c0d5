"""Small networks and lessons that need no folder."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from edgekit.keras_network import KerasNetwork
from edgekit.learning import Lessons, balanced_weights
from edgekit_device.contract.preprocess import Preprocess, efficientnet_lite

SPEC = replace(efficientnet_lite(4), crop_fraction=1.0)


def dense_network(classes: int = 3) -> KerasNetwork:
    import keras

    image = keras.Input((4, 4, 3))
    hidden = keras.layers.Dense(32, activation="relu")(keras.layers.Flatten()(image))
    model = keras.Model(image, keras.layers.Dense(classes)(hidden))
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(0, 0.2, value.shape).astype(np.float32) for value in model.get_weights()])
    return KerasNetwork(model, SPEC)


def dense_lessons(*, noise: bool = False, count: int = 120, classes: int = 3) -> Lessons:
    return array_lessons(*_pictures(count, classes, noise), SPEC, classes)


def _pictures(count: int, classes: int, noise: bool) -> tuple[Any, Any]:
    rng = np.random.default_rng(1)
    targets = rng.integers(0, classes, count)
    pixels = rng.integers(0, 256, (count, 4, 4, 3)).astype(np.uint8)
    if not noise:
        pixels[..., 0] = (targets * 100)[:, None, None]
    return pixels, targets


def array_lessons(pixels: Any, targets: Any, spec: Preprocess, classes: int, *, monitor: float = 0.3) -> Lessons:
    """Lessons from arrays: pixels uint8, shape (n, height, width, channels)."""
    count = len(targets)
    train = np.arange(round(count * (1 - monitor)))
    lessons = Lessons(
        exact=lambda places: pixels[places],
        changed=lambda places, view: pixels[places],
        train=train,
        monitor=np.arange(len(train), count),
        targets=np.asarray(targets, np.int64),
        weights=np.ones(count, np.float32),
        labels=tuple(f"c{at}" for at in range(classes)),
        preprocess=spec,
        key=f"array-{hash(pixels.tobytes()) & 0xFFFFFFFF:x}",
    )
    return replace(lessons, weights=balanced_weights(lessons.targets, train, classes))
