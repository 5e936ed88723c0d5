"""One process that times one model on one rung; started by `bench`, never by hand.

    python -m edgekit.reporting.stopwatch MODEL RUNG THREADS SECONDS LEAST

Prints one JSON line: how long loading and the first inference took, and every steady one, in seconds.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from edgekit_device.contract.errors import EdgeKitError
from edgekit_device.infer.interpreter import Engine

# The caches, the branch predictors and the clock rate settle in the first few.
WARM_UP_RUNS = 5
WARM_UP_S = 0.1


def measure(model: bytes, rung: str, threads: int, seconds: float, least: int) -> dict[str, Any]:
    """Time one model: load, first inference, then steady ones for `seconds`, at least `least`.

    Returns:
        ``{"load_s", "first_s", "steady_s": [...], "rss_bytes"}``; the warm-up is in none of them.
    """
    began = time.perf_counter()
    engine = Engine(model, delegate=rung, threads=threads)
    loaded = time.perf_counter()
    low, high = (0, 256) if engine.input.dtype == "uint8" else (-128, 128)
    image = np.random.default_rng(0).integers(low, high, engine.input.shape)
    tensor = image.astype(engine.input.dtype)
    if engine.input.dtype == "float32":
        tensor /= np.float32(128)
    start = time.perf_counter()
    engine.raw(tensor)
    first = time.perf_counter() - start
    warm, runs = time.perf_counter() + WARM_UP_S, 0
    while runs < WARM_UP_RUNS or time.perf_counter() < warm:
        engine.raw(tensor)
        runs += 1
    steady: list[float] = []
    end = time.perf_counter() + seconds
    while len(steady) < least or time.perf_counter() < end:
        start = time.perf_counter()
        engine.raw(tensor)
        steady.append(time.perf_counter() - start)
    rss_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"load_s": loaded - began, "first_s": first, "steady_s": steady, "rss_bytes": rss_bytes}


def main(path: str, rung: str, threads: str, seconds: str, least: str) -> int:
    """Entry point of the process."""
    # The interpreter greets; its words must not reach the answer.
    with os.fdopen(os.dup(1), "w") as answer:
        os.dup2(2, 1)
        try:
            found = measure(Path(path).read_bytes(), rung, int(threads), float(seconds), int(least))
        except EdgeKitError as cause:
            found = {"error": str(cause)}
        answer.write(json.dumps(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
