"""A small trained classifier, the photos that ship, a key, and bundles made of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.artefacts import Sidecar, sha256_of, write_sidecar
from edgekit.bundling.writing import BundlePlan
from edgekit.data import data_path
from edgekit.trust.keys import SigningKey, load_or_create
from edgekit_device.contract.preprocess import efficientnet_lite
from edgekit_device.infer.flatbuffer import read_model

FIXTURES = Path(__file__).parents[2] / "device" / "tests" / "fixtures"
LABELS = ("circle", "square", "triangle", "cross")


@pytest.fixture(scope="session")
def toy() -> Path:
    """Int8, (1, 32, 32, 3) to (1, 4), trained on drawn shapes."""
    return FIXTURES / "toy_int8.tflite"


@pytest.fixture(scope="session")
def photos() -> list[Path]:
    return sorted(data_path("calibration_data").glob("*.jpg"))[:16]


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> SigningKey:
    return load_or_create(tmp_path_factory.mktemp("config") / "keys")


@pytest.fixture
def plan(toy: Path, photos: list[Path]) -> Callable[..., BundlePlan]:
    def make(**changes: Any) -> BundlePlan:
        given = {
            "name": "toy",
            "version": "1.0.0",
            "model": toy,
            "labels": LABELS,
            "preprocess": efficientnet_lite(32),
            "photos": photos,
        }
        return BundlePlan(**{**given, **changes})

    return make


@pytest.fixture
def described(toy: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the model with OUT.json beside it."""

    def make(folder: str = "a", **changes: Any) -> Path:
        model = tmp_path / folder / "toy.tflite"
        model.parent.mkdir()
        model.write_bytes(toy.read_bytes())
        given = {
            "path": str(model),
            "sha256": sha256_of(model),
            "parent": "ab" * 32,
            "variant": "efficientnet-lite0",
            "scheme": "int8",
            "io": "int8",
            "bytes": model.stat().st_size,
            "operators": {},
            "input": {},
            "output": {},
            "preprocess": {},
            "calibration": {"images": 27, "folder": str(model.parent), "seconds": 3.25},
            "agreement": {},
            "seconds": 17.5,
            "weights": {"source": str(model.parent / "mine.pth"), "sha256": "cd" * 32, "licence": "Apache-2.0"},
        }
        write_sidecar(model, Sidecar(**{**given, **changes}))
        return model

    return make


@dataclass(frozen=True)
class Surgery:
    """Real models, changed where a test needs it."""

    data: bytes

    def other_weights(self, seed: int) -> bytes:
        """The same graph with the weights of its widest layer in another order: another training's result."""
        widest = max(
            (t for t in read_model(self.data).main.tensors if t.dtype == "int8" and t.is_constant),
            key=lambda tensor: tensor.buffer_bytes,
        )
        start, stop = widest.buffer_offset, widest.buffer_offset + widest.buffer_bytes
        values = np.frombuffer(self.data[start:stop], np.int8)
        return self.data[:start] + np.random.default_rng(seed).permutation(values).tobytes() + self.data[stop:]


@pytest.fixture(scope="session")
def surgery(toy: Path) -> Surgery:
    return Surgery(toy.read_bytes())
