"""Runs a .tflite a number of times on one thread, for callgrind to count: ``prune_frames.py MODEL FRAMES``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# Idle threads of numpy's linear algebra spin, and their instructions would be counted.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

from edgekit_device.infer.interpreter import Engine


def main() -> None:
    """Run what the words say."""
    engine = Engine(Path(sys.argv[1]).read_bytes())
    for _ in range(int(sys.argv[2])):
        engine.invoke()


if __name__ == "__main__":
    main()
