"""Real parts for the device's tests: a small trained classifier, pictures of its classes, keys, signed bundles."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import minisign
import numpy as np
import pytest

from edgekit_device import vision
from edgekit_device.contract.archive import write_archive
from edgekit_device.contract.file_table import table_of
from edgekit_device.contract.manifest import GOLDEN_SCORES, LABELS, NAME, Manifest
from edgekit_device.contract.preprocess import efficientnet_lite
from edgekit_device.infer.golden import Golden
from edgekit_device.infer.interpreter import Engine

FIXTURES = Path(__file__).parent / "fixtures"
SIDE = 32
QUANTA_16 = 16 / 256  # XNNPACK and the builtin kernels were seen 11 quanta apart on this model.


@pytest.fixture(scope="session")
def require_tool() -> Callable[[str, str], str]:
    """Find a program, or skip loudly; under EDGEKIT_REQUIRE=all a skip is a failure."""

    def find(tool: str, remedy: str) -> str:
        path = shutil.which(tool)
        if path is None:
            message = f"{tool} is missing; install it with: {remedy}"
            pytest.fail(message) if os.environ.get("EDGEKIT_REQUIRE") == "all" else pytest.skip(message)
        return path

    return find


def draw(
    shape: str, *, color: tuple[int, ...] = (230, 180, 90), ground: tuple[int, ...] = (20, 40, 60), side: int = 96
) -> np.ndarray:
    """One shape on a plain ground, RGB, uint8, (side, side + 32, 3)."""
    image = np.full((side, side + 32, 3), ground, np.uint8)
    x, y, r = image.shape[1] // 2, side // 2, side // 5
    if shape == "circle":
        cv2.circle(image, (x, y), r, color, -1)
    elif shape == "square":
        cv2.rectangle(image, (x - r, y - r), (x + r, y + r), color, -1)
    else:
        cv2.fillPoly(image, [np.array([[x, y - r], [x - r, y + r], [x + r, y + r]])], color)
    return image


def png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()


@dataclass(frozen=True)
class Workshop:
    """Makes signed bundles without the host package."""

    pair: minisign.KeyPair
    public: Path
    files: Mapping[str, bytes]
    manifest: Manifest

    def entries(self, files: Mapping[str, bytes] | None = None, **changes: Any) -> dict[str, bytes]:
        """The zip entries of a bundle whose manifest lists `files` truly."""
        files = dict(self.files if files is None else files)
        listed = table_of(files)
        return {NAME: replace(self.manifest, **{"files": listed, **changes}).to_bytes(), **files}

    def sign(self, data: bytes, pair: minisign.KeyPair | None = None, *, prehash: bool = True) -> bytes:
        return bytes((pair or self.pair).secret_key.sign(data, prehash=prehash, trusted_comment="test")) + b"\n"

    def write(self, path: Path, data: bytes | None = None, signature: bytes | None = None) -> Path:
        data = write_archive(self.entries()) if data is None else data
        path.write_bytes(data)
        path.with_name(path.name + ".minisig").write_bytes(self.sign(data) if signature is None else signature)
        return path


@pytest.fixture(scope="session")
def toy_model() -> bytes:
    return (FIXTURES / "toy_int8.tflite").read_bytes()


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory, toy_model: bytes) -> Workshop:
    """A key pair and the parts of a good bundle, measured on this machine."""
    engine = Engine(toy_model)
    preprocess = efficientnet_lite(SIDE).quantised(engine.input.dtype, engine.input.scale, engine.input.zero_point)
    pictures = {f"{i:02d}.png": draw(shape) for i, shape in enumerate(("circle", "square", "triangle"))}
    # A faint one: scores of 0.6 move with faults that leave scores of 1.0 where they are.
    pictures["03.png"] = draw("triangle", color=(160, 130, 100), ground=(100, 100, 100))
    scores = {n: engine.scores(vision.to_model_input(image, preprocess)) for n, image in pictures.items()}
    golden = Golden(scores, {"xnnpack": 2 / 256, "builtin": QUANTA_16})
    files = {
        "model.tflite": toy_model,
        LABELS: (FIXTURES / "labels.txt").read_bytes(),
        GOLDEN_SCORES: golden.to_bytes(),
        **{f"golden/{name}": png(image) for name, image in pictures.items()},
    }
    pair = minisign.KeyPair.generate()
    public = tmp_path_factory.mktemp("keys") / "edgekit.pub"
    public.write_bytes(bytes(pair.public_key) + b"\n")
    manifest = Manifest("toy", "1.0.0", {}, {"cpu": "model.tflite"}, preprocess, engine.classes)
    return Workshop(pair, public, files, manifest)
