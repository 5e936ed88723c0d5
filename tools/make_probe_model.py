"""Make the one-layer model with which `edgekit-device doctor` constructs an interpreter.

    python tools/make_probe_model.py [-o device/edgekit_device/diagnosis/probe.tflite]

A dense layer of 4 x 4 in float32, because XNNPACK takes it: the probe constructs the delegate too. x = (1, 2, 3, 4)
gives (2, 4, 6, 8).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from edgekit.conversion.noise import captured, load_tensorflow


def main() -> None:
    """Write the model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", type=Path, default=Path("device/edgekit_device/diagnosis/probe.tflite"))
    out = parser.parse_args().o
    tf = load_tensorflow()
    weights = tf.constant(2 * np.eye(4, dtype=np.float32))

    class Probe(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([1, 4], tf.float32)])
        def __call__(self, x):
            return tf.linalg.matmul(x, weights)

    module = Probe()
    with captured():
        function = module.__call__.get_concrete_function()
        data = tf.lite.TFLiteConverter.from_concrete_functions([function], module).convert()
    out.write_bytes(data)
    print(f"{out}: {len(data)} bytes")


if __name__ == "__main__":
    main()
