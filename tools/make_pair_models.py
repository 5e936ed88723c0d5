"""Make the pair of models with which a board finds out whether int8 is slower than float32 on it.

    python tools/make_pair_models.py

The same small graph twice, of the operators that EfficientNet-Lite is made of; weights are random, only time counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edgekit.conversion.noise import captured, load_tensorflow

OUT = Path("device/edgekit_device/infer")
SIDE, WIDTH, CLASSES = 56, 64, 8


def main() -> None:
    """Write both."""
    tf = load_tensorflow()
    rng = np.random.default_rng(0)

    def weights(*shape: int) -> object:
        return tf.constant(rng.normal(0, (2 / np.prod(shape[:-1])) ** 0.5, shape).astype(np.float32))

    stem, first, second = weights(3, 3, 3, WIDTH), weights(1, 1, WIDTH, WIDTH), weights(1, 1, WIDTH, WIDTH)
    deep, head = weights(3, 3, WIDTH, 1), weights(WIDTH, CLASSES)

    class Pair(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([1, SIDE, SIDE, 3], tf.float32)])
        def __call__(self, x):
            x = tf.nn.relu6(tf.nn.conv2d(x, stem, 2, "SAME"))
            x = tf.nn.relu6(tf.nn.conv2d(x, first, 1, "SAME"))
            x = tf.nn.relu6(tf.nn.depthwise_conv2d(x, deep, [1, 1, 1, 1], "SAME"))
            x = tf.nn.relu6(tf.nn.conv2d(x, second, 1, "SAME"))
            return tf.nn.softmax(tf.linalg.matmul(tf.reduce_mean(x, [1, 2]), head))

    def samples() -> Iterator[list[np.ndarray]]:
        for _ in range(8):
            yield [rng.normal(0, 1, (1, SIDE, SIDE, 3)).astype(np.float32)]

    module = Pair()
    for name in ("float32", "int8"):
        with captured():
            converter = tf.lite.TFLiteConverter.from_concrete_functions(
                [module.__call__.get_concrete_function()], module
            )
            if name == "int8":
                converter.optimizations = [tf.lite.Optimize.DEFAULT]
                converter.representative_dataset = samples
                converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
                converter.inference_input_type = converter.inference_output_type = tf.int8
            data = converter.convert()
        (OUT / f"pair_{name}.tflite").write_bytes(data)
        print(f"{OUT}/pair_{name}.tflite: {len(data)} bytes")


if __name__ == "__main__":
    main()
