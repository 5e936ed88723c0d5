"""TFMOT's int8 of the same weights and crops, with tensorflow-model-optimization and tf_keras on the path.

    TF_USE_LEGACY_KERAS=1 PYTHONPATH=FOLDER python tfmot_ranges.py WORK

Reads WORK/tfmot-input.npz (pixels, uint8, (n, height, width, 3)); writes WORK/lite0-tfmot.tflite. Nothing is trained:
the quantisers' moving averages see each crop a few times while weights and BatchNorm statistics are frozen. Ranges
begin at -6 and 6 and move by a thousandth a step, for thousands of training steps; here they move by a tenth.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

_PASSES = 3
_BATCH = 8
_DECAY = 0.9


def main() -> None:
    """Annotate, let the ranges settle, convert."""
    import tensorflow as tf
    import tf_keras

    # Our builder asks for `keras`; TFMOT knows Keras 2 only, and both speak the same language here.
    sys.modules["keras"] = tf_keras
    import tensorflow_model_optimization as tfmot
    from tensorflow_model_optimization.python.core.quantization.keras import quant_ops

    slow = quant_ops.MovingAvgQuantize
    quant_ops.MovingAvgQuantize = lambda *words, **options: slow(*words, **{**options, "ema_decay": _DECAY})

    from edgekit.zoo import build, find_weights

    found = find_weights("efficientnet-lite0", "imagenet")
    model = build(found.variant, batch=None)
    for variable in model.weights:
        layer, name = variable.name.removesuffix(":0").split("/")[-2:]
        variable.assign(found.tensors[f"{layer}/{name.replace('depthwise_kernel', 'kernel')}"])
    quantised = tfmot.quantization.keras.quantize_model(model)
    for layer in quantised.submodules:
        if isinstance(layer, tf_keras.layers.BatchNormalization):
            layer.trainable = False
    work = Path(sys.argv[1])
    pixels = np.load(work / "tfmot-input.npz")["pixels"]
    images = ((pixels.astype(np.float32) - 127) / 128)[np.random.default_rng(0).permutation(len(pixels))]
    for _ in range(_PASSES):
        for start in range(0, len(images), _BATCH):
            quantised(images[start : start + _BATCH], training=True)
    converter = tf.lite.TFLiteConverter.from_keras_model(quantised)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    (work / "lite0-tfmot.tflite").write_bytes(converter.convert())


if __name__ == "__main__":
    main()
