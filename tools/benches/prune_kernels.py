"""How long int8 kernels of XNNPACK take for how many channels: one layer a model, the shortest of many runs.

The shortest run is what a shared machine disturbs least; a layer of this size takes a part of a time slice.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np

# (name, kind, kernel, side of the picture, channels read, channels made). Depthwise layers make what they read.
POINTS: list[tuple[str, str, int, int, int, int]] = [
    *(("made", "Conv2D", 1, 28, 64, n) for n in (32, 36, 40, 44, 48, 64)),
    *(("read", "Conv2D", 1, 28, n, 64) for n in (32, 36, 40, 48, 64)),
    *(("deep", "DepthwiseConv2D", 3, 28, n, n) for n in (32, 36, 40, 48, 64)),
    ("large", "Conv2D", 1, 14, 480, 80),
    ("large", "DepthwiseConv2D", 5, 14, 480, 480),
    ("large", "Conv2D", 3, 28, 64, 64),
    ("stem", "Conv2D", 3, 112, 3, 32),
]
_SECONDS = 1.0


def measure(work: Path) -> dict[str, float]:
    """Point -> milliseconds, kept in WORK/kernels.json and gone on with."""
    kept = work / "kernels.json"
    found: dict[str, float] = json.loads(kept.read_text("utf-8")) if kept.is_file() else {}
    for point in POINTS:
        key = " ".join(str(word) for word in point)
        if key not in found:
            found[key] = _shortest_ms(_model(*point[1:]))
            kept.write_text(json.dumps(found, indent=1), "utf-8")
            print(f"{key}: {found[key]:.4f} ms", flush=True)
    return found


def _model(kind: str, kernel: int, side: int, read: int, made: int) -> bytes:
    from edgekit.conversion.noise import captured, load_tensorflow

    tf = load_tensorflow()
    with captured():
        import keras

        layers = keras.layers
        image = keras.Input(batch_shape=(1, side, side, read))
        if kind == "Conv2D":
            x = layers.Conv2D(made, kernel, padding="same", activation="relu6")(image)
        else:
            x = layers.DepthwiseConv2D(kernel, padding="same", activation="relu6")(image)
        converter = tf.lite.TFLiteConverter.from_keras_model(keras.Model(image, x))
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        draw = np.random.default_rng(0).normal(0, 1, (4, 1, side, side, read)).astype(np.float32)
        converter.representative_dataset = lambda: ([sample] for sample in draw)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
        data: bytes = converter.convert()
    return data


def _shortest_ms(data: bytes) -> float:
    # The device package's own way to run a model takes classifiers only.
    from ai_edge_litert.interpreter import Interpreter

    engine = Interpreter(model_content=data, num_threads=1)
    engine.allocate_tensors()
    shortest, ends = float("inf"), time.perf_counter() + _SECONDS
    runs = 0
    while runs < 50 or time.perf_counter() < ends:
        began = time.perf_counter()
        engine.invoke()
        shortest = min(shortest, time.perf_counter() - began)
        runs += 1
    return shortest * 1000


def tables(found: dict[str, dict[str, float]]) -> list[str]:
    """The page's section, a table for each kind of processor: vector instructions -> point -> milliseconds."""
    lines = [
        "## Channels and milliseconds",
        "",
        "int8, XNNPACK, one thread, 28 x 28 pixels, a model of one layer; the shortest of many runs, microseconds.",
        "`ms=` and `per=ms` count with the ratios of avx2. No board was measured.",
    ]
    for processor, points in sorted(found.items()):
        lines += ["", f"### {processor}", "", *_table(points)]
    return lines


def _table(found: dict[str, float]) -> list[str]:
    """A row a count of channels, and a line for each layer besides."""
    columns = {"made": "64 read, N made", "read": "N read, 64 made", "deep": "depthwise 3x3, N"}
    rows: dict[int, dict[str, float]] = {}
    for key, ms in found.items():
        name, *_, read, made = key.split(" ")
        if name in columns:
            rows.setdefault(int(made if name == "made" else read), {})[name] = ms
    lines = [f"| N | {' | '.join(columns.values())} |", "|---|---|---|---|"]
    for count, cells in sorted(rows.items()):
        numbers: list[Any] = [f"{1000 * cells[name]:.0f}" if name in cells else "" for name in columns]
        lines.append(f"| {count} | {' | '.join(numbers)} |")
    others = [(key.split(" "), ms) for key, ms in found.items() if key.split(" ")[0] not in columns]
    for (_, kind, kernel, side, read, made), ms in others:
        what = f"{kind} {kernel}x{kernel}, {side} x {side} pixels, {read} read, {made} made"
        lines += ["", f"{what}: {1000 * ms:.0f} microseconds."]
    return lines


def sparse(work: Path) -> dict[str, list[float]]:
    """Share of zeros -> (bytes dense, ms dense, bytes with sparse weights, ms), float32 on XNNPACK; kept."""
    kept = work / "sparse.json"
    found: dict[str, list[float]] = json.loads(kept.read_text("utf-8")) if kept.is_file() else {}
    for share in (0.0, 0.5, 0.75, 0.9):
        if f"{share:g}" not in found:
            files = [_sparse_model(share, encoded=encoded) for encoded in (False, True)]
            found[f"{share:g}"] = [number for data in files for number in (len(data), _shortest_ms(data))]
            kept.write_text(json.dumps(found, indent=1), "utf-8")
    return found


def _sparse_model(share: float, *, encoded: bool) -> bytes:
    """Depthwise and pointwise layers in turn, as XNNPACK's sparse inference wants them."""
    from edgekit.conversion.noise import captured, load_tensorflow

    tf = load_tensorflow()
    with captured():
        import keras

        layers = keras.layers
        keras.utils.set_random_seed(0)
        image = keras.Input(batch_shape=(1, 28, 28, 3))
        x = layers.Conv2D(64, 3, 2, activation="relu6")(layers.ZeroPadding2D(1)(image))
        for turn in range(4):
            x = layers.DepthwiseConv2D(3, activation="relu6")(layers.ZeroPadding2D(1)(x))
            x = layers.Conv2D(64 if turn % 2 else 256, 1, activation="relu6")(x)
        x = layers.Dense(10)(layers.Flatten()(layers.GlobalAveragePooling2D(keepdims=True)(x)))
        model = keras.Model(image, x)
        for layer in model.layers:
            if type(layer).__name__ == "Conv2D" and layer.kernel_size == (1, 1):
                kernel = layer.kernel.numpy()
                layer.kernel.assign(np.where(np.abs(kernel) < np.quantile(np.abs(kernel), share), 0, kernel))
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
        if encoded:
            converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
        data: bytes = converter.convert()
    return data


def sparse_table(found: dict[str, list[float]]) -> list[str]:
    """The page's section on sparse float kernels."""
    lines = [
        "## Zeros and milliseconds",
        "",
        "float32, XNNPACK, one thread: four depthwise and four pointwise layers, 64 and 256 channels, 14 x 14 pixels;",
        "as it is, and with TFLite's sparse weights (`EXPERIMENTAL_SPARSITY`). The file shrinks; no time is saved.",
        "With a tenth of the weights left, sparse kernels would take a fraction of the time: equal times say that",
        "XNNPACK multiplies dense ones here, whatever the net ends in: a global mean, average pooling, a convolution.",
        "",
        "| zeros | bytes | ms | bytes, sparse | ms, sparse |",
        "|---|---|---|---|---|",
    ]
    for share, (size, ms, small, quick) in found.items():
        lines.append(f"| {100 * float(share):.0f} % | {size:,.0f} | {ms:.3f} | {small:,.0f} | {quick:.3f} |")
    return lines
