"""Quantisation-aware arithmetic held against TFMOT's on the same small net, with the same weights and ranges."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgekit.compression.keras_graph import fold
from edgekit.compression.qat_network import QatNetwork
from edgekit_device import vision
from tests.conftest import absent
from tests.training.test_folders import SPEC
from tests.worlds.small_nets import small_cnn

pytestmark = pytest.mark.oracle
ROOT = Path(__file__).parents[2]


def test_rounding_is_tfmots(tmp_path: Path) -> None:
    import tensorflow as tf

    packages = os.environ.get("EDGEKIT_TFMOT")
    if not packages or not Path(packages, "tensorflow_model_optimization").is_dir():
        absent("TFMOT in a folder of its own, named by EDGEKIT_TFMOT", "make oracle")
        return
    model = small_cnn(4, end="logits")
    # TFMOT has one scale for the weights of a dense layer: with equal largest weights a scale a channel is the same.
    kernel, bias = model.get_layer("scores").get_weights()
    kernel = np.clip(kernel, -0.4, 0.4)
    kernel[0] = 0.4
    model.get_layer("scores").set_weights([kernel, bias])
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3)).astype(np.uint8)
    images = np.stack([vision.quantise(image, SPEC) for image in pixels])
    weights = {f"{layer.name}/{at}": w for layer in model.layers for at, w in enumerate(layer.get_weights())}
    np.savez(tmp_path / "net.npz", images=images, **weights)
    environment = {**os.environ, "TF_USE_LEGACY_KERAS": "1", "PYTHONPATH": f"{packages}{os.pathsep}{ROOT}"}
    words = [sys.executable, "-m", "tests.compression.oracle_tfmot", str(tmp_path)]
    subprocess.run(words, cwd=ROOT, env=environment, check=True, capture_output=True, timeout=600)
    theirs = np.load(tmp_path / "tfmot.npz")
    network = QatNetwork(fold(model, "qat"), SPEC)
    network.set_ranges({key: _range(theirs, key) for key in network.ranges})
    ours = network.outputs(tf.constant(pixels), training=False)["logits"].numpy()
    low, high = _range(theirs, "scores")
    steps = np.abs(ours - theirs["logits"]) / ((high - low) / 255)
    # BatchNorm is folded before or after a sum: the last bit of a float tips a rounding here and there.
    assert (steps < 0.1).mean() >= 0.9
    assert steps.max() < 2.1


def _range(theirs: np.lib.npyio.NpzFile, key: str) -> tuple[float, float]:
    names = [f"range/quant_{key}{end}|{kind}" for end in ("", "_bn") for kind in ("output", "post_activation")]
    name = next(name for name in names if f"{name}_min" in theirs.files)
    return float(theirs[f"{name}_min"]), float(theirs[f"{name}_max"])
