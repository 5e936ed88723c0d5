"""C8: a million inferences through the serving loop grow memory by at most 2 % after warm-up."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

LIMIT = 0.02


def resident_bytes() -> int:
    """Resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def run(arguments: Sequence[str]) -> dict[str, Any]:
    """Serve `--count` frames (1,000,000); the first tenth is warm-up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000)
    args = parser.parse_args(arguments)
    from edgekit_device.bundle import open_bundle
    from edgekit_device.infer.rung import open_rung
    from edgekit_device.meter import Meter
    from edgekit_device.progress import Progress
    from edgekit_device.sources.frame import Frame
    from edgekit_device.worker import Channel, Server
    from tools.gates.toy import toy_bundle

    with tempfile.TemporaryDirectory() as folder:
        bundle_path, public = toy_bundle(Path(folder))
        bundle, _ = open_bundle(bundle_path, [public])
    channel = Channel(os.open(os.devnull, os.O_WRONLY))
    server = Server(open_rung(bundle, "xnnpack", 1), bundle.labels, Meter(), channel, Progress.create())
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(16)]
    warm, began, marks = max(1, args.count // 10), time.monotonic(), []
    for number in range(args.count):
        server.serve(Frame(pictures[number % 16], "BGR", time.monotonic(), number))
        if number % 1000 == 0:
            server.meter.take()  # As the supervisor does once a window.
        if number + 1 >= warm and (number + 1 - warm) % max(1, args.count // 20) == 0:
            marks.append(resident_bytes())
    growth = max(marks) / marks[0] - 1
    seconds = time.monotonic() - began
    return {
        "gate": "C8",
        "passed": growth <= LIMIT,
        "figure": f"{args.count} inferences in {seconds:.0f} s: {marks[0] / 1e6:.1f} to {max(marks) / 1e6:.1f} MB, "
        f"{growth:+.2%} after warm-up",
        "detail": "",
    }
