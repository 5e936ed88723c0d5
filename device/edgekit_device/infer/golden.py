"""The golden self-test: does this interpreter, on this machine, compute what the host computed?

A bundle carries a few photos and the scores that the host measured on them, with one tolerance per rung. Nothing
serves before it has reproduced them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit_device import vision
from edgekit_device.contract.documents import SCHEMA, Fields, dump, load
from edgekit_device.contract.errors import BundleFormatError, FieldError, GoldenMismatchError
from edgekit_device.contract.manifest import GOLDEN_SCORES, MAX_CLASSES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgekit_device.bundle import Bundle
    from edgekit_device.contract.preprocess import Preprocess
    from edgekit_device.infer.interpreter import Engine, Scores

MIN_MARGIN = 32 / 255
"""Least top-2 margin of a golden image: so wide that top-1 must be equal on every rung."""


@dataclass(frozen=True)
class Golden:
    """The golden vectors of one bundle.

    Attributes:
        scores: Per image name, float32, shape (classes,).
        tolerances: Per rung, the largest difference of any score that is still the same model.
        extra: Fields this version does not know, and ``unmeasured``: rungs whose tolerance nobody has measured.
    """

    scores: Mapping[str, Scores]
    tolerances: Mapping[str, float]
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """``golden/expected.json``."""
        return dump(
            {
                **self.extra,
                "schema": SCHEMA,
                "scores": {n: [float(f"{v:.7g}") for v in s.tolist()] for n, s in self.scores.items()},
                "tolerances": dict(self.tolerances),
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Golden:
        """Read ``golden/expected.json``.

        Raises:
            FieldError: A field is missing or mistyped.
        """
        values = load("golden", data)
        fields = Fields("golden", values)
        scores = Fields("golden.scores", fields.mapping("scores"))
        tolerances = Fields("golden.tolerances", fields.mapping("tolerances"))
        return cls(
            {n: np.array(scores.numbers(n, limit=MAX_CLASSES), np.float32) for n in scores.values},
            {rung: tolerances.number(rung, low=0.0) for rung in tolerances.values},
            {key: value for key, value in values.items() if key not in ("schema", "scores", "tolerances")},
        )


def margin(scores: Scores) -> float:
    """Difference of the two highest scores; 1.0 for a single class."""
    if scores.size < 2:
        return 1.0
    top = np.partition(scores, -2)[-2:]
    return float(top[1] - top[0])


def compare(name: str, expected: Scores, found: Scores, rung: str, tolerance: float) -> float:
    """Compare one golden vector; pure.

    Returns:
        The largest difference.

    Raises:
        GoldenMismatchError: Another length, a NaN, another top-1, or a difference over the tolerance.
    """
    if found.shape != expected.shape:
        raise GoldenMismatchError(rung, name, f"{found.size} scores instead of {expected.size}")
    if not np.all(np.isfinite(found)):
        raise GoldenMismatchError(rung, name, "scores are not finite")
    if int(found.argmax()) != int(expected.argmax()):
        raise GoldenMismatchError(rung, name, f"top-1 is class {found.argmax()} instead of {expected.argmax()}")
    difference = float(np.abs(found - expected).max())
    if difference > tolerance:
        raise GoldenMismatchError(rung, name, f"scores differ by {difference:.4f}, tolerance {tolerance:.4f}")
    return difference


def prove(engine: Engine, bundle: Bundle, preprocess: Preprocess | None = None) -> dict[str, Any]:
    """Run every golden image of a bundle through an engine.

    Args:
        engine: The rung to prove.
        bundle: Its golden vectors.
        preprocess: For a model of another role than ``cpu``; the manifest's by default.

    Returns:
        ``{"images": n, "largest_difference": d, "tolerance": t, "cold_ms": c}``; the last is the very first inference,
        which every later one is faster than.

    Raises:
        GoldenMismatchError: One is not reproduced.
        BundleFormatError: The bundle holds no golden image or no tolerance for this rung.
    """
    images = bundle.manifest.golden_images
    if not images or GOLDEN_SCORES not in bundle.files:
        raise BundleFormatError(bundle.manifest.bundle_id, "holds no golden images to prove the model with")
    golden = Golden.from_bytes(bundle.files[GOLDEN_SCORES])
    # The reference kernels are for debugging; the optimised ones' tolerance stands for them.
    tolerance = golden.tolerances.get(engine.delegate, golden.tolerances.get("builtin"))
    if tolerance is None:
        raise FieldError("golden", "tolerances", f"has none for {engine.delegate}")
    largest, cold_ms = 0.0, 0.0
    for name in images:
        key = name.removeprefix("golden/")
        if key not in golden.scores:
            raise FieldError("golden", "scores", f"has none for {name}")
        pixels = vision.decode_image(bundle.files[name])
        tensor = vision.to_model_input(pixels, preprocess or bundle.manifest.preprocess)
        began = time.perf_counter()
        found = engine.scores(tensor)
        cold_ms = cold_ms or (time.perf_counter() - began) * 1000
        largest = max(largest, compare(name, golden.scores[key], found, engine.delegate, tolerance))
    return {
        "images": len(images),
        "largest_difference": largest,
        "tolerance": tolerance,
        "cold_ms": round(cold_ms, 3),
    }
