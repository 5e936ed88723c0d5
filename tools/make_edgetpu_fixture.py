"""Make a toy classifier and its Edge TPU twin for the device's tests: `device/tests/fixtures/colours_*.tflite`.

The twin is what edgetpu_compiler would leave of a wholly mapped model: one custom operator, `edgetpu-custom-op`,
between the same input and output tensors. Its options carry the weights that device/tests/fixtures/fake_edgetpu.c
computes with; a real compiled file carries machine code there. No plain interpreter can run it, as with a real one.
"""

from __future__ import annotations

import argparse
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "device")]

SIDE, CLASSES = 32, ("red", "green", "blue")
CUSTOM_OPERATOR = "edgetpu-custom-op"
_MAGIC = 0x45444745


def picture(hue: int, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """A noisy picture in which one of three colours prevails: RGB, uint8, (48, 64, 3)."""
    image = rng.integers(0, 90, (48, 64, 3)).astype(np.int16)
    image[..., hue] += int(rng.integers(60, 150))
    return np.clip(image, 0, 255).astype(np.uint8)


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "device" / "tests" / "fixtures")
    args = parser.parse_args()
    from edgekit.conversion.noise import captured, load_tensorflow
    from edgekit.conversion.tflite import convert_keras
    from edgekit_device import vision
    from edgekit_device.contract.preprocess import efficientnet_lite

    load_tensorflow()
    spec = efficientnet_lite(SIDE)
    crops_spec = spec.quantised("uint8", 1 / 128, 127)
    rng = np.random.default_rng(0)
    hues = rng.integers(0, 3, 600)
    crops = [vision.to_model_input(picture(hue, rng), crops_spec)[0] for hue in hues]
    with captured():
        import keras

        keras.utils.set_random_seed(0)
        layers = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3), keras.layers.Softmax()]
        model = keras.Sequential([keras.layers.Input((SIDE, SIDE, 3)), *layers])
        model.compile(keras.optimizers.Adam(0.05), "sparse_categorical_crossentropy", metrics=["accuracy"])
        inputs = (np.stack(crops).astype(np.float32) - 127) / 128
        model.fit(inputs, hues, epochs=25, verbose=0)
        accuracy = model.evaluate(inputs, hues, verbose=0)[1]
        kernel, bias = (np.asarray(v, np.float32) for v in model.layers[1].get_weights())
    data = convert_keras(model, crops[:60], spec)
    (args.output / "colours_int8.tflite").write_bytes(data)
    (args.output / "colours_edgetpu.tflite").write_bytes(twin(data, kernel, bias))
    (args.output / "colours_labels.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    print(f"accuracy {accuracy:.3f}, {len(data)} bytes")


def twin(data: bytes, kernel: np.ndarray[Any, Any], bias: np.ndarray[Any, Any]) -> bytes:
    """Replace the whole graph by one custom operator that carries the weights.

    Args:
        data: The int8 model.
        kernel: float32, shape (channels, classes).
        bias: float32, shape (classes,).
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data))
    graph = model.subgraphs[0]
    ends = [graph.tensors[graph.inputs[0]], graph.tensors[graph.outputs[0]]]
    step, zero = ends[0].quantization.scale[0], ends[0].quantization.zeroPoint[0]
    options = struct.pack("<iiifi", _MAGIC, *kernel.shape, step, zero) + kernel.tobytes() + bias.tobytes()
    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode, code.version = schema.BuiltinOperator.CUSTOM, 32, 1
    code.customCode = CUSTOM_OPERATOR
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0], [1]
    operator.customOptions = list(options)
    for index, tensor in enumerate(ends):
        tensor.buffer = index + 1
    graph.tensors, graph.inputs, graph.outputs, graph.operators = ends, [0], [1], [operator]
    model.operatorCodes, model.signatureDefs, model.metadata, model.metadataBuffer = [code], [], [], []
    model.buffers = [schema.BufferT() for _ in range(3)]
    builder = flatbuffers.Builder(4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


if __name__ == "__main__":
    main()
