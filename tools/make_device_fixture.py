"""Make the tiny classifier that the device's tests run without TensorFlow.

    python tools/make_device_fixture.py [-o device/tests/fixtures]

Four shapes in random colours on random backgrounds, 32 x 32 pixels; trained for about half a minute, converted with
EdgeKit's own converter to toy_float.tflite and toy_int8.tflite, and labels.txt beside them. Prints accuracy and
agreement on shapes it has not seen. The same seed gives the same shapes; training on another machine may end in
slightly other weights, so the files are committed rather than made again.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.conversion.noise import captured, load_tensorflow
from edgekit.conversion.tflite import convert_keras, lower
from edgekit.verification.agreement import measure, scores
from edgekit.verification.structure import check_structure
from edgekit_device.contract.preprocess import Preprocess
from edgekit_device.infer.flatbuffer import read_model
from edgekit_device.infer.interpreter import Engine
from edgekit_device.vision import Pixels, quantise

LABELS = ("circle", "square", "triangle", "cross")
SIDE = 32
PREPROCESS = Preprocess(
    color="RGB",
    height=SIDE,
    width=SIDE,
    crop="center",
    crop_fraction=1.0,
    interpolation="bilinear",
    antialias=True,
    mean=(127.0, 127.0, 127.0),
    std=(128.0, 128.0, 128.0),
)


def draw(label: str, rng: np.random.Generator) -> Pixels:
    """One shape: RGB, uint8, shape (32, 32, 3)."""
    import cv2

    while True:
        front, back = (rng.integers(0, 256, 3).tolist() for _ in range(2))
        if np.abs(np.subtract(front, back)).max() > 80:
            break
    image = np.full((SIDE, SIDE, 3), back, np.uint8)
    radius = int(rng.integers(7, 13))
    x, y = (int(at) for at in rng.integers(radius + 1, SIDE - radius - 1, 2))
    if label == "circle":
        cv2.circle(image, (x, y), radius, front, -1)
    elif label == "square":
        cv2.rectangle(image, (x - radius, y - radius), (x + radius, y + radius), front, -1)
    elif label == "triangle":
        corners = np.array([[x, y - radius], [x - radius, y + radius], [x + radius, y + radius]])
        cv2.fillPoly(image, [corners], front)
    else:
        thick = max(2, radius // 2)
        cv2.line(image, (x - radius, y - radius), (x + radius, y + radius), front, thick)
        cv2.line(image, (x - radius, y + radius), (x + radius, y - radius), front, thick)
    noise = rng.normal(0, 8, image.shape)
    drawn: Pixels = np.clip(image + noise, 0, 255).astype(np.uint8)
    return drawn


def draw_many(count: int, seed: int) -> tuple[list[Pixels], np.ndarray]:
    """Shapes in turn and their class indices."""
    rng = np.random.default_rng(seed)
    classes = np.arange(count) % len(LABELS)
    return [draw(LABELS[index], rng) for index in classes], classes


def train(seed: int) -> Any:
    """A convolution, two depthwise-separable blocks with a residual add, a dense layer."""
    load_tensorflow()
    with captured():
        import keras

        keras.utils.set_random_seed(seed)
        layers = keras.layers
        image = keras.Input((SIDE, SIDE, 3))
        x = layers.ReLU(6)(layers.BatchNormalization()(layers.Conv2D(16, 3, 2, "same", use_bias=False)(image)))
        for stride in (1, 2):
            skip = x
            x = layers.DepthwiseConv2D(3, stride, "same", use_bias=False)(x)
            x = layers.ReLU(6)(layers.BatchNormalization()(x))
            x = layers.BatchNormalization()(layers.Conv2D(16 * stride, 1, use_bias=False)(x))
            x = layers.Add()([x, skip]) if stride == 1 else x
        x = layers.ReLU(6)(layers.BatchNormalization()(layers.Conv2D(32, 3, 2, "same", use_bias=False)(x)))
        x = layers.GlobalAveragePooling2D()(x)
        model = keras.Model(image, layers.Dense(len(LABELS), activation="softmax")(x))
        images, classes = draw_many(4000, seed)
        inputs = np.stack([quantise(pixels, PREPROCESS) for pixels in images])
        model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy")
        model.fit(inputs, classes, batch_size=32, epochs=8, verbose=0)
    return model


def main() -> int:
    """Train, convert, check, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, default=Path("device/tests/fixtures"))
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    model = train(options.seed)
    samples, _ = draw_many(64, options.seed + 1)
    reference = lower(model, PREPROCESS)
    candidate = convert_keras(model, samples, PREPROCESS, float_model=reference)
    check_structure(read_model(candidate), "int8", "int8", PREPROCESS).require("toy_int8.tflite")
    unseen, classes = draw_many(400, options.seed + 2)
    engines = Engine(reference), Engine(candidate)
    right = [int(scores(engines[1], pixels, PREPROCESS).argmax()) for pixels in unseen] == classes
    agreement = measure(*engines, unseen, [str(index) for index in range(len(unseen))], PREPROCESS)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "toy_float.tflite").write_bytes(reference)
    (options.out / "toy_int8.tflite").write_bytes(candidate)
    (options.out / "labels.txt").write_text("\n".join(LABELS) + "\n")
    print(f"int8 top-1 {np.mean(right):.1%} of {len(unseen)}, agreement with float {agreement.top1:.1%}")
    print(f"{options.out}: toy_float.tflite {len(reference)} bytes, toy_int8.tflite {len(candidate)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
