"""What the preview costs: processor time a frame with nobody looking and with somebody, in turns, in one run.

    python tools/preview_cost.py --bundle lite0-1.0.0.edgekit --turns 16

Processor time is measured and not frames per second, because other work on the machine moves those by more than
the preview does. On a board whose processor is the limit, the same share of its frames per second is the price.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgekit_device.preview_picture import Caption, draw
from edgekit_device.preview_studio import PICTURES_PER_S

PORT = 18088
SETTLE_READINGS, TURN_READINGS = 1, 3
STATES = {"nobody looks": 0, "one looks": 1, "four look": 4}


def look(stopping: threading.Event) -> None:
    """One browser: reads the stream as fast as it comes."""
    while not stopping.is_set():
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/stream.mjpg", timeout=10) as stream:
                while not stopping.is_set():
                    stream.read1(65536)
        except urllib.error.HTTPError:
            time.sleep(0.1)  # The place of one who left is free with the next picture.


def readings(process: subprocess.Popen[str], count: int) -> Iterator[dict[str, Any]]:
    """The next Readings."""
    assert process.stdout is not None
    for _ in range(count):
        yield json.loads(process.stdout.readline())


def cpu_s(pid: int) -> float:
    """Processor time of all threads of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def worker_of(pid: int) -> int:
    """The run's worker."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()[0])


def cpu_ms_per_frame(process: subprocess.Popen[str], worker: int) -> float:
    """Over one turn."""
    begun = cpu_s(worker)
    frames = sum(r["inference_fps"] * r["window_s"] for r in readings(process, TURN_READINGS))
    return (cpu_s(worker) - begun) / frames * 1000


def draw_ms() -> float:
    """CPU time of drawing and encoding one 640 x 480 picture of noise, the worst that JPEG can meet."""
    frame = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    begun = time.process_time()
    for _ in range(100):
        draw(frame, "BGR", Caption("tabby", 0.83, 29.9))
    return (time.process_time() - begun) * 10


def main() -> int:
    """Entry point."""
    words = argparse.ArgumentParser(description="What the preview costs.")
    words.add_argument("--bundle", required=True)
    words.add_argument("--pubkey")
    words.add_argument("--turns", type=int, default=20)
    words.add_argument("--source", default="synthetic:640x480@30")
    args = words.parse_args()
    command = [
        *(sys.executable, "-m", "edgekit_device", "run", "--bundle", args.bundle, "--source", args.source),
        *("--threads", "1", "--interval", "1", "--json", "--preview", f"127.0.0.1:{PORT}"),
        *(("--pubkey", args.pubkey) if args.pubkey else ()),
    ]
    found: dict[str, list[float]] = {state: [] for state in STATES}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        list(readings(process, 4))
        worker = worker_of(process.pid)
        for _ in range(args.turns):
            for state, lookers in STATES.items():
                stopping = threading.Event()
                threads = [threading.Thread(target=look, args=(stopping,)) for _ in range(lookers)]
                for thread in threads:
                    thread.start()
                list(readings(process, SETTLE_READINGS))
                found[state].append(cpu_ms_per_frame(process, worker))
                stopping.set()
                for thread in threads:
                    thread.join()
        process.terminate()
    print(f"python tools/preview_cost.py --bundle {Path(args.bundle).name} --turns {args.turns}")
    print(f"{platform.machine()}, Python {platform.python_version()}, {args.source}, one interpreter thread\n")
    print("| who | CPU a frame, median | against nobody, median of turns | middle half of turns |\n|---|---|---|---|")
    for state, values in found.items():
        ratios = sorted((ours / base - 1) * 100 for ours, base in zip(values, found["nobody looks"], strict=True))
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(f"| {state} | {statistics.median(values):.2f} ms | {middle:+.1f} % | {low:+.1f} to {high:+.1f} % |")
    each = draw_ms()
    share = each * PICTURES_PER_S / 10
    print(
        f"\nOne picture of noise takes {each:.1f} ms of CPU; {PICTURES_PER_S:g} a second take {share:.1f} % of a core"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
