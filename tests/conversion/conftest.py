"""One small real classifier, trained on the repository's own photos in a few seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from edgekit.conversion.calibration import draw_crops, load_images
from edgekit.conversion.noise import captured, load_tensorflow
from edgekit_device.contract.preprocess import Preprocess
from edgekit_device.vision import Pixels, quantise
from tests.conftest import require

PHOTOS = Path(__file__).parents[2] / "calibration_data"
CLASSES = 8
PREPROCESS = Preprocess(
    color="RGB",
    height=32,
    width=32,
    crop="center",
    crop_fraction=0.875,
    interpolation="bicubic",
    antialias=True,
    mean=(127.0, 127.0, 127.0),
    std=(128.0, 128.0, 128.0),
)


class Toy(NamedTuple):
    """A model that tells eight photos apart by crops of them, and crops that it did not see."""

    model: Any
    samples: list[Pixels]
    unseen: list[Pixels]
    photos: list[str]


def build(*inserted: Any) -> Any:
    """Convolution, depthwise block with an add, flatten (which needs the batch size), dense."""
    import keras

    layers = keras.layers
    image = keras.Input((PREPROCESS.height, PREPROCESS.width, 3))
    x = layers.ReLU(6)(layers.BatchNormalization()(layers.Conv2D(12, 3, 2, "same", use_bias=False)(image)))
    skip = x
    x = layers.ReLU(6)(layers.BatchNormalization()(layers.DepthwiseConv2D(3, 1, "same", use_bias=False)(x)))
    x = layers.Add()([layers.BatchNormalization()(layers.Conv2D(12, 1, use_bias=False)(x)), skip])
    for layer in inserted:
        x = layer(x)
    x = layers.Flatten()(layers.AveragePooling2D(4)(x))
    return keras.Model(image, layers.Dense(CLASSES, activation="softmax")(x))


@pytest.fixture(scope="session")
def toy() -> Toy:
    require("tensorflow", "pip install 'edgekit[build]'")
    load_tensorflow()
    photos = load_images(PHOTOS).images[:CLASSES]
    drawn = draw_crops(photos, PREPROCESS, seed=1, per_image=60, limit=60 * CLASSES)
    unseen = draw_crops(photos, PREPROCESS, seed=2, per_image=10, limit=10 * CLASSES)
    names = [photo.sha256 for photo in photos]
    with captured():
        import keras

        keras.utils.set_random_seed(5)
        model = build()
        model.compile(keras.optimizers.Adam(5e-3), "sparse_categorical_crossentropy")
        inputs = np.stack([quantise(crop.pixels, PREPROCESS) for crop in drawn])
        model.fit(inputs, np.array([names.index(crop.photo) for crop in drawn]), epochs=12, verbose=0)
    samples = [crop.pixels for crop in drawn[::10]]
    return Toy(model, samples, [crop.pixels for crop in unseen], [crop.photo for crop in unseen])
