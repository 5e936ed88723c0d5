"""Classifiers that are not of the zoo: a small CNN for 32-pixel colour pictures, and 784-128-10 for grey digits."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.keras_network import KerasNetwork
from edgekit.learning import Lessons, Objective, Plan, cross_entropy
from edgekit.training.cache import Cache
from edgekit.training.folders import read_gallery
from edgekit.training.lessons import Wishes, prepare
from edgekit.training.loop import Loop
from edgekit.training.splitting import Shares
from edgekit_device.contract.preprocess import Preprocess
from tests.training.test_folders import SPEC

GREY = replace(SPEC, color="GRAY", height=28, width=28, mean=(0.0,), std=(255.0,))


def small_cnn(classes: int, *, width: int = 8, seed: int = 0, end: str = "softmax") -> Any:
    """Convolution, depthwise, an addition, pooling, dense; BatchNorm behind each with other statistics than 0 and 1."""
    import keras

    keras.utils.set_random_seed(seed)
    layers = keras.layers
    image = keras.Input((32, 32, 3))
    x = layers.Conv2D(width, 3, 2, "same", use_bias=False, name="stem")(image)
    x = layers.ReLU(6.0, name="stem_relu")(layers.BatchNormalization(name="stem_bn")(x))
    y = layers.ZeroPadding2D(1, name="pad")(x)
    y = layers.DepthwiseConv2D(3, use_bias=False, name="deep")(y)
    y = layers.ReLU(6.0, name="deep_relu")(layers.BatchNormalization(name="deep_bn")(y))
    y = layers.BatchNormalization(name="point_bn")(layers.Conv2D(width, 1, name="point")(y))
    x = layers.Add(name="sum")([x, y])
    x = layers.MaxPooling2D(2, name="shrink")(x)
    x = layers.Conv2D(2 * width, 3, 2, "same", activation="relu", name="last")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dropout(0.1, name="drop")(x)
    if end == "softmax":
        x = layers.Dense(classes, activation="softmax", name="scores")(x)
    else:
        x = layers.Dense(classes, name="scores")(x)
    model = keras.Model(image, x, name="small")
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            gamma, beta, mean, variance = layer.get_weights()
            drawn = (rng.uniform(0.5, 2, gamma.shape), rng.normal(0, 0.3, beta.shape))
            layer.set_weights([*drawn, rng.normal(0, 0.2, mean.shape), rng.uniform(0.3, 2, variance.shape)])
    return model


def dense_net(classes: int = 10, *, seed: int = 0) -> Any:
    """784-128-10 as a Sequential."""
    import keras

    keras.utils.set_random_seed(seed)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Flatten(name="flat"),
            layers.Dense(128, activation="relu", name="hidden"),
            layers.Dense(classes, name="digit"),
            layers.Softmax(name="chances"),
        ],
        name="dense",
    )


def lessons_of(data: Path, spec: Preprocess, cache: Path, *, augment: str = "none") -> Lessons:
    wishes = Wishes(Shares(0.25, 0.0), augment)
    return prepare(read_gallery(data), spec, wishes, Cache(cache)).lessons


def teach(model: Any, lessons: Lessons, epochs: int, rate: float = 3e-3) -> Any:
    plan = Plan(epochs=epochs, rate=rate, smoothing=0.05)
    network = KerasNetwork(model, lessons.preprocess)
    Loop()(network, lessons, plan, Objective(cross_entropy(0.05)), stage="fine-tune")
    return model


def save(model: Any, folder: Path, spec: Preprocess, labels: tuple[str, ...]) -> Path:
    """A .keras file with preprocess.json and labels.txt beside it, as users of other tools might bring it."""
    folder.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras's own, of NumPy 2.
        model.save(folder / "net.keras")
    (folder / "preprocess.json").write_text(json.dumps(spec.to_json()))
    (folder / "labels.txt").write_text("".join(f"{label}\n" for label in labels))
    return folder / "net.keras"
