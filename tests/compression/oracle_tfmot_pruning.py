"""TFMOT's pruning of one dense layer: when its masks change, and to what, while the weights drift.

TF_USE_LEGACY_KERAS=1 PYTHONPATH=FOLDER python -m tests.compression.oracle_tfmot_pruning WORK

Reads WORK/given.npz (weights, (steps, n, m) float32, what is added before each step; numbers: initial, final, begin,
end, frequency, power); writes WORK/tfmot.npz (masks, (steps, n, m)).
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np


def main() -> None:
    import tensorflow_model_optimization as tfmot
    import tf_keras

    work = Path(sys.argv[1])
    given = np.load(work / "given.npz")
    initial, final, begin, end, frequency, power = given["numbers"].tolist()
    schedule = tfmot.sparsity.keras.PolynomialDecay(
        initial_sparsity=initial,
        final_sparsity=final,
        begin_step=int(begin) + 1,
        end_step=int(end) + 1,
        frequency=int(frequency),
        power=power,
    )
    drift = given["drift"]
    dense = tf_keras.layers.Dense(drift.shape[2], use_bias=False)
    model = tf_keras.Sequential(
        [
            tf_keras.Input((drift.shape[1],)),
            tfmot.sparsity.keras.prune_low_magnitude(dense, pruning_schedule=schedule),
        ]
    )
    layer = model.layers[0]
    layer.layer.kernel.assign(np.zeros(drift.shape[1:], np.float32))
    masks = []
    for step, change in enumerate(drift):
        layer.layer.kernel.assign_add(change)
        # The layer counts up before it looks at its schedule: it calls the first step 1.
        layer.pruning_step.assign(step)
        # In training mode the layer updates its mask and zeroes its kernel.
        model(np.zeros((1, drift.shape[1]), np.float32), training=True)
        masks.append(layer.pruning_vars[0][1].numpy())
    np.savez(work / "tfmot.npz", masks=np.stack(masks))


if __name__ == "__main__":
    main()
