"""A process that has everything imported and nothing opened; it forks a child for each mutated model.

It gets a seed, a range of numbers and a folder of seed bundles as arguments, and says one line of JSON a mutation. The
child has the limits of an install's self-test and opens, proves and examines the model as one does.
"""

from __future__ import annotations

import gc
import json
import os
import random
import resource
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any

import cv2

from edgekit_device.bundle import Bundle, parse_bundle
from edgekit_device.contract.errors import EdgeKitError
from edgekit_device.infer.interpreter import find_interpreter
from edgekit_device.infer.rung import open_rung
from edgekit_device.soundness import check_sound
from tests.worlds.model_mutations import mutation, signed_with

DEADLINE_S, MEMORY_BYTES = 4.5, 1 << 30
RUNGS = ("xnnpack", "builtin")
# Past the gate's own 5,000, of which each model has its share, the large one has one turn in so many: it is ten times
# as slow.
_EVEN, _LARGE, _ONE_IN = 5000, "lite0", 100


def turn(number: int, names: list[str]) -> tuple[str, str]:
    """Which model a number mutates, and the rung that is to load it."""
    small = [name for name in names if name != _LARGE]
    if number < _EVEN or len(small) == len(names):
        return names[number % len(names)], RUNGS[number // len(names) % 2]
    name = _LARGE if number % _ONE_IN == 0 else small[number % len(small)]
    return name, RUNGS[number // _ONE_IN % 2]


def live(bundle: Bundle, model: bytes, rung: str, answer: int) -> None:
    """The child: open one mutated model, say what came of it, end."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (6, 7))
    said = ""
    try:
        _, data = signed_with(bundle, model)
        opened = parse_bundle(data, bundle.manifest.bundle_id, bundle.key_id)
        check_sound(open_rung(opened, rung, 1), opened)
    except EdgeKitError as error:
        said = str(error) or type(error).__name__
    except MemoryError:
        said = "needs more than its memory"
    except (RuntimeError, ValueError) as error:
        # What an interpreter raises out of an inference; an install calls it a child that ended.
        said = f"ended with {type(error).__name__}: {error}"
    with open("/proc/self/status") as status:
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
    os.write(answer, json.dumps({"problem": said[:200] or None, "peak_bytes": peak << 10}).encode())
    os._exit(0)


def attempt(bundle: Bundle, model: bytes, rung: str) -> dict[str, Any]:
    """Fork, wait, and say what became of the child."""
    began = time.monotonic()
    read_fd, write_fd = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read_fd)
            live(bundle, model, rung, write_fd)
        finally:
            os._exit(9)
    os.close(write_fd)
    ready, _, _ = select.select([read_fd], [], [], DEADLINE_S)
    if not ready:
        os.kill(pid, signal.SIGKILL)
    # A child that answered and does not end would be one that hangs, too; a model's threads end with it.
    words = os.read(read_fd, 4096) if ready else b""
    os.close(read_fd)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    found: dict[str, Any] = {"problem": "", "peak_bytes": 0}
    if words and code == 0:
        found = json.loads(words)
    elif not ready:
        found["problem"] = f"hung: no answer within {DEADLINE_S} s"
    elif code < 0:
        found["problem"] = f"crashed with {signal.Signals(-code).name}"
    else:
        found["problem"] = f"ended with exit code {code}"
    return {**found, "s": round(time.monotonic() - began, 4)}


def main() -> None:
    """Serve the range."""
    seed, first, last, folder = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
    cv2.setNumThreads(0)  # A fork with threads behind it would be one of those only the parent can wake.
    find_interpreter()
    seeds = {p.stem: parse_bundle(p.read_bytes(), p.stem, "") for p in sorted(folder.glob("*.edgekit"))}
    names = sorted(seeds)
    gc.freeze()  # A child would copy every page that its collector touches.
    for number in range(first, last):
        name, rung = turn(number, names)
        bundle, draw = seeds[name], random.Random(f"{seed}:{number}")
        found = attempt(bundle, mutation(draw, bundle.model()), rung)
        print(json.dumps({"n": number, "model": name, **found}), flush=True)


if __name__ == "__main__":
    main()
