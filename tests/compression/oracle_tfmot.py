"""TFMOT's quantisation-aware model of the same small net: its ranges, and what it computes with them.

TF_USE_LEGACY_KERAS=1 PYTHONPATH=FOLDER python -m tests.compression.oracle_tfmot WORK

Reads WORK/net.npz (images, float32, normalised; weights by layer and place); writes WORK/tfmot.npz.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

_PASSES = 40  # Its moving averages have not settled then; any ranges serve, as long as both sides have the same.


def main() -> None:
    import tf_keras

    # The small net is built for Keras 3; TFMOT knows Keras 2 only, and both speak the same language here.
    sys.modules["keras"] = tf_keras
    import tensorflow_model_optimization as tfmot

    from tests.worlds.small_nets import small_cnn

    work = Path(sys.argv[1])
    given = np.load(work / "net.npz")
    model = small_cnn(4, end="logits")
    for layer in model.layers:
        count = len(layer.get_weights())
        if count:
            layer.set_weights([given[f"{layer.name}/{at}"] for at in range(count)])
    quantised = tfmot.quantization.keras.quantize_model(model)
    for layer in quantised.submodules:
        if isinstance(layer, (tf_keras.layers.BatchNormalization, tf_keras.layers.Dropout)):
            layer.trainable = False
    images = given["images"]
    for _ in range(_PASSES):
        quantised(images, training=True)
    variables = {variable.name.removesuffix(":0"): variable.numpy() for variable in quantised.variables}
    ranges = {f"range/{name.replace('/', '|')}": value for name, value in variables.items() if value.shape == ()}
    np.savez(work / "tfmot.npz", logits=quantised(images, training=False).numpy(), **ranges)


if __name__ == "__main__":
    main()
