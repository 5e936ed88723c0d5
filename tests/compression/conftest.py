"""The toy classifier of the conversion tests, lowered and calibrated once; a small net that has learnt."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from edgekit.compression.graph import FloatGraph
from edgekit.conversion.tflite import calibrate, lower
from edgekit_device.vision import quantise
from tests.conversion.conftest import PREPROCESS, Toy, toy
from tests.worlds.taught_nets import TaughtNet

__all__ = ["toy"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TaughtNet]:
    """A net that a module's passes work on, each on a copy of its own."""
    root = tmp_path_factory.mktemp("taught")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(root / "cache"))
        yield TaughtNet(root)


@pytest.fixture(scope="session")
def float_model(toy: Toy) -> bytes:
    return lower(toy.model, PREPROCESS)


@pytest.fixture(scope="session")
def calibrated(toy: Toy, float_model: bytes) -> bytes:
    return calibrate(float_model, toy.samples, PREPROCESS)


@pytest.fixture(scope="session")
def graph(calibrated: bytes) -> FloatGraph:
    return FloatGraph(calibrated)


@pytest.fixture(scope="session")
def batch(toy: Toy) -> np.ndarray:
    return np.stack([quantise(pixels, PREPROCESS) for pixels in toy.samples])
