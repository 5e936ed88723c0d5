"""What runs inside the arm64 root, and on x86 for comparison; needs only the device package.

``parity BUNDLE PUBKEY PHOTOS.npz`` compares scores; ``frames BUNDLE PUBKEY STAGE N`` computes N frames of one stage, so
that the instructions of a frame are the difference of two runs.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

# Idle threads of numpy's linear algebra spin, and their instructions would be counted.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import cv2
import numpy as np

from edgekit_device import vision
from edgekit_device.bundle import open_bundle
from edgekit_device.infer.interpreter import Engine
from edgekit_device.lanes import look_at
from edgekit_device.meter import Meter
from edgekit_device.smoothing import Smoother, SmoothingRule
from edgekit_device.sources.frame import Frame


def parity(model: bytes, photos: Path) -> dict[str, object]:
    """Scores of the same input tensors, beside those of x86."""
    given = np.load(photos)
    engine = Engine(model)
    found = np.stack([engine.raw(tensor[None]) for tensor in given["inputs"]]).astype(int)
    difference = np.abs(found - given["scores"])
    return {
        "photos": len(found),
        "same_top1": int((found.argmax(1) == given["scores"].argmax(1)).sum()),
        "largest_quanta": int(difference.max()),
        "scale": engine.output.scale,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "litert": version("ai-edge-litert"),
    }


def frames(bundle: object, stage: str, count: int) -> None:
    """Compute some frames of one stage, after one of everything."""
    cv2.setNumThreads(1)
    engine, spec = Engine(bundle.model()), bundle.manifest.preprocess
    pixels = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    frame, meter, smoother = Frame(pixels, "BGR", 0.0, 0), Meter(), Smoother(SmoothingRule())

    def whole() -> None:
        look = look_at(engine, spec, frame)
        top = int(look.scores.argmax())
        smoother.add(top, float(look.scores[top]))
        times = {"preprocess": look.preprocess_s, "invoke": look.invoke_s, "end_to_end": look.invoke_s}
        meter.served(times, look.scores, new=True)

    stages = {
        "preprocess": lambda: engine.load(lambda out: vision.fill_model_input(pixels, spec, "BGR", out)),
        "invoke": engine.invoke,
        "whole": whole,
    }
    whole()
    for _ in range(count):
        stages[stage]()


def main() -> None:
    """Do what the first word says."""
    what, path, key, *rest = sys.argv[1:]
    bundle, _ = open_bundle(Path(path), [Path(key)])
    if what == "parity":
        print(json.dumps(parity(bundle.model(), Path(rest[0]))))
    else:
        frames(bundle, rest[0], int(rest[1]))


if __name__ == "__main__":
    main()
