"""The toy classifier of the conversion tests, lowered and calibrated once."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.compression.graph import FloatGraph
from edgekit.conversion.tflite import calibrate, lower
from edgekit_device.vision import quantise
from tests.conversion.conftest import PREPROCESS, Toy, toy

__all__ = ["toy"]


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
