"""The builder against independent PyTorch builders on the same weights and real photos.

PyTorch runs in a process of its own (both frameworks bring their own thread pools): the interpreter in
EDGEKIT_ORACLE_PYTHON, else this one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgekit import zoo
from edgekit.data import data_path
from edgekit.zoo.tensors import slots
from edgekit.zoo.weights import imagenet_file

pytestmark = pytest.mark.oracle

INSTALL = "pip install torch==2.13.0 efficientnet-lite-pytorch timm (or name an interpreter in EDGEKIT_ORACLE_PYTHON)"
# Issue 2 asks for 1e-5 between probabilities; 9e-7 was seen. float32 sums in another order explain that much.
TOLERANCE = 1e-5
PHOTOS = 6


def photos(side: int) -> np.ndarray[Any, Any]:
    """Shape (PHOTOS, side, side, 3), float32, normalised as the official models read them."""
    files = sorted(data_path("calibration_data").glob("*.jpg"))[:PHOTOS]
    assert len(files) == PHOTOS
    shown = [np.asarray(Image.open(f).convert("RGB").resize((side, side), Image.Resampling.BICUBIC)) for f in files]
    return (np.stack(shown).astype(np.float32) - 127.0) / 128.0


def oracle(need: Any, module: str, job: str, folder: Path, **arrays: Any) -> np.ndarray[Any, Any]:
    python = os.environ.get("EDGEKIT_ORACLE_PYTHON")
    if python is None:
        need("torch", INSTALL)
        need(module, INSTALL)
    np.savez(folder / "given.npz", **arrays)
    script = Path(__file__).with_name("oracle_torch.py")
    command = [python or sys.executable, str(script), job, str(folder / "given.npz"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    with np.load(folder / "probabilities.npz") as made:
        return made["probabilities"]


@pytest.mark.parametrize("name", ["efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2"])
def test_imagenet_weights_give_the_probabilities_of_the_official_port(
    name: str, need: Any, tmp_path: Path, record_property: Any
) -> None:
    weights = zoo.find_weights(name)
    images = photos(weights.variant.resolution)
    expected = oracle(
        need, "efficientnet_lite_pytorch", name, tmp_path, images=images, weights=str(imagenet_file(weights.variant))
    )
    ours = zoo.build(name, weights=weights, batch=None)(images).numpy()
    difference = float(np.abs(ours - expected).max())
    record_property("largest_difference", difference)
    print(f"{name}: largest probability difference {difference:.2e}")
    assert difference < TOLERANCE
    assert (ours.argmax(-1) == expected.argmax(-1)).all()


def timm_tensors(weights: zoo.Weights) -> dict[str, Any]:
    """The same weights under timm's names, in torch's axis order."""
    made = {}
    for slot in slots(weights.variant, weights.classes, "timm"):
        array = weights.tensors[slot.name]
        if array.ndim == 4:
            array = array.transpose((2, 3, 0, 1) if slot.foreign_shape[1] == 1 else (3, 2, 0, 1))
        made[slot.foreign] = array.T if array.ndim == 2 else array
    return made


@pytest.mark.parametrize("architecture", ["tf_efficientnet_lite0", "efficientnet_lite0", "efficientnet_lite1"])
def test_timm_files_of_every_kind_give_the_probabilities_of_timm(architecture: str, need: Any, tmp_path: Path) -> None:
    name = f"efficientnet-lite{architecture[-1]}"
    imagenet = zoo.find_weights(name)
    side = imagenet.variant.resolution
    images = photos(side)
    expected = oracle(need, "timm", architecture, tmp_path, images=images, **timm_tensors(imagenet))
    for file in ("zip/model.pth", "legacy/model.pth", "safetensors/model.safetensors"):
        weights = zoo.find_weights(name, tmp_path / file)
        ours = zoo.build(weights.variant, weights=weights, batch=None, resolution=side)(images).numpy()
        difference = float(np.abs(ours - expected).max())
        print(f"{architecture} {file}: largest probability difference {difference:.2e}")
        assert difference < TOLERANCE
    # The namesake has the same tensors and is another network: told apart wrongly, it must show.
    twin = zoo.find_weights(name, tmp_path / "zip/model.pth").variant
    same = twin.padding == "same"
    twin = replace(twin, padding="symmetric" if same else "same", bn_epsilon=1e-5 if same else 1e-3)
    wrong = zoo.build(twin, weights=replace(imagenet, variant=twin), batch=None, resolution=side)(images).numpy()
    assert np.abs(wrong - expected).max() > 100 * TOLERANCE
    values = np.linspace(-3, 3, 12, dtype=np.float32).reshape(3, 4).T
    for kind, step in (("half", 2e-3), ("bfloat16", 2e-2), ("double", 1e-6)):
        np.testing.assert_allclose(zoo.read_weights(tmp_path / f"{kind}.pth")["w"], values, atol=step)
