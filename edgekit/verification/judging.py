"""One process that judges images: decode, preprocess and invoke as a board does; started by `crew`, never by hand.

A decoder that eats memory, hangs or dies on a crafted file takes this process with it and nothing else. Standard input
brings one JSON line of settings, the bytes of each model, then a JSON line for each image; each is answered by one
JSON line.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import resource
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from edgekit_device import vision
from edgekit_device.contract.errors import EdgeKitError, ShapeError
from edgekit_device.contract.preprocess import Preprocess
from edgekit_device.image_headers import read_image_file
from edgekit_device.infer.interpreter import Engine
from edgekit_device.meter import uncertainty
from edgekit_device.vision import Pixels

TOP = 5


class Judge:
    """One or two models on one thread, each with its own preprocessing."""

    def __init__(self, models: Sequence[bytes], specs: Sequence[Preprocess]) -> None:
        self._engines = [Engine(model, threads=1) for model in models]
        self._specs = [
            spec.quantised(engine.input.dtype, engine.input.scale, engine.input.zero_point)
            for engine, spec in zip(self._engines, specs, strict=True)
        ]
        # The first inference allocates; it also shows a model that kills its process before an image is blamed.
        for engine in self._engines:
            engine.raw(np.zeros(engine.input.shape, engine.input.dtype))

    @property
    def classes(self) -> list[int]:
        """Length of each model's score vector."""
        return [engine.classes for engine in self._engines]

    def judge(self, pixels: Pixels) -> list[dict[str, Any]]:
        """Run every model on one image.

        Args:
            pixels: RGB, uint8, shape (H, W, 3).

        Returns:
            One ``{"top": class indices, highest score first}`` a model, with ``entropy`` and ``margin`` for the first.
            Equal scores go to the lower class, as on the board.
        """
        found: list[dict[str, Any]] = []
        for engine, spec in zip(self._engines, self._specs, strict=True):
            scores = engine.scores(vision.to_model_input(pixels, spec))
            top = np.argsort(-scores, kind="stable")[:TOP]
            found.append({"top": top.tolist()})
            if len(found) == 1:
                found[0]["entropy"], found[0]["margin"] = uncertainty(scores)
        return found


def answer(judge: Judge, path: Path, decode_s: float) -> dict[str, Any]:
    """Judge one file.

    Returns:
        ``{"sha256", "models": [...]}``, or ``{"reason"}`` of a file that is skipped.
    """
    try:
        data = read_image_file(path)
        # The kernel ends this process if a decoder does not come back; Python could not interrupt it. Processor time,
        # because on a busy machine a good picture takes long by the clock.
        signal.setitimer(signal.ITIMER_PROF, decode_s)
        pixels = vision.decode_image(data)
        signal.setitimer(signal.ITIMER_PROF, 0)
        return {"sha256": hashlib.sha256(data).hexdigest(), "models": judge.judge(pixels)}
    except ShapeError as cause:
        return {"reason": str(cause)}
    except OSError as cause:
        return {"reason": cause.strerror or type(cause).__name__}
    except MemoryError:
        return {"reason": "decoding takes too much memory"}
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def limit_memory(extra_bytes: int) -> None:
    """From now on this process may reserve only so much more; a decoder that wants more is refused, or dies."""
    with contextlib.suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[5])
        limit = pages * resource.getpagesize() + extra_bytes
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (limit if hard < 0 else min(limit, hard), hard))


def serve(orders: IO[bytes], answers: IO[bytes]) -> int:
    """Answer until the orders end."""
    settings = json.loads(orders.readline())
    models = [orders.read(size) for size in settings["models"]]
    specs = [Preprocess.from_json(values) for values in settings["preprocess"]]

    def say(document: dict[str, Any]) -> None:
        answers.write(json.dumps(document).encode("ascii") + b"\n")
        answers.flush()

    try:
        judge = Judge(models, specs)
    except EdgeKitError as cause:
        say({"error": str(cause)})
        return 1
    say({"classes": judge.classes})
    limit_memory(settings["memory_bytes"])
    for line in orders:
        at, name = json.loads(line)
        say({"at": at, **answer(judge, Path(name), settings["decode_s"])})
    return 0


def main() -> int:
    """Entry point of the process."""
    import cv2

    # As many of these processes run as there are cores: each stays on one.
    cv2.setNumThreads(1)
    # Libraries that greet on standard output must not reach the answers.
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)
        return serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    sys.exit(main())
