"""Random faults on a running worker, and what must be true after each. Used by a test and by gate C1."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import runs

KILLS = {"SIGKILL": signal.SIGKILL, "SIGSEGV": signal.SIGSEGV, "SIGABRT": signal.SIGABRT}
HANGS = {"SIGSTOP": signal.SIGSTOP}
# Out of memory is in here as well: the kernel ends the process that it picks with SIGKILL.


@dataclass
class Siege:
    """What the faults did.

    Attributes:
        recovered_s: Per kind, seconds from the fault to the first new frame after it.
        leaks: Descriptors or processes left behind, in words.
    """

    recovered_s: dict[str, list[float]] = field(default_factory=dict)
    leaks: list[str] = field(default_factory=list)
    restarts_named: int = 0
    code: int | None = None


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def memory_files(pid: int) -> int:
    """Shared memory of ours that a process holds."""
    held = 0
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            held += "memfd:edgekit" in os.readlink(fd)
        except OSError:
            continue
    return held


def zombies(pid: int) -> list[int]:
    found = []
    for child in runs.children(pid):
        try:
            if Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                found.append(child)
        except OSError:
            continue
    return found


def strike(worker: int, kind: str) -> None:
    """Do one fault to a worker."""
    os.kill(worker, {**KILLS, **HANGS}[kind])


def frames(process: subprocess.Popen[str], limit_s: float = 60.0) -> dict[str, Any]:
    """The next Reading with new frames."""
    until = time.monotonic() + limit_s
    assert process.stdout is not None
    while time.monotonic() < until and (line := process.stdout.readline()):
        reading = json.loads(line)
        if reading["fps"] > 0:
            return dict(reading)
    raise AssertionError(f"no new frame within {limit_s} s; exit {process.poll()}")


def besiege(bundle: Path, public: Path, count: int, seed: int = 0, kinds: tuple[str, ...] | None = None) -> Siege:
    """Run a board and strike its worker `count` times."""
    siege, kinds = Siege(), kinds or (*KILLS, *HANGS)
    words = ("--source", "synthetic:160x120@30", "--interval", "0.2", "--threads", "1")
    # A file and not a pipe: nobody reads it meanwhile, and two hundred crash reports fill a pipe.
    with tempfile.TemporaryFile("w+") as said:
        process = runs.start(bundle, public, *words, stderr=said)
        try:
            worker = _strike_all(process, siege, kinds, count, random.Random(seed))
        finally:
            siege.code = runs.stop(process).code
        said.seek(0)
        lines = said.read().splitlines()
    siege.restarts_named = sum(
        word in line for line in lines for word in ("worker_died", "camera_stalled:", "inference_hang")
    )
    if Path(f"/proc/{worker}").exists():
        siege.leaks.append("the last worker outlived its run")
    return siege


def _strike_all(
    process: subprocess.Popen[str], siege: Siege, kinds: tuple[str, ...], count: int, dice: random.Random
) -> int:
    frames(process)
    worker = runs.worker_of(process)
    baseline, pages = descriptors(process.pid), memory_files(process.pid)
    for number in range(count):
        kind = kinds[number % len(kinds)] if number < len(kinds) else dice.choice(kinds)
        time.sleep(dice.uniform(0.0, 0.3))
        strike(worker, kind)
        struck = time.monotonic()
        worker = runs.worker_of(process, unlike=worker, timeout_s=60)
        # Readings of the old worker may still be in the pipe: only what was made later counts.
        made = time.time()
        while _at(frames(process)) < made:
            pass
        siege.recovered_s.setdefault(kind, []).append(time.monotonic() - struck)
        if descriptors(process.pid) > baseline + 2:
            siege.leaks.append(f"{descriptors(process.pid) - baseline} descriptors after {kind} number {number}")
        if memory_files(process.pid) > pages:
            siege.leaks.append(f"shared memory after {kind} number {number}")
        if zombies(process.pid):
            siege.leaks.append(f"a zombie after {kind} number {number}")
    return worker


def _at(reading: dict[str, Any]) -> float:
    from datetime import datetime

    return datetime.fromisoformat(reading["at"]).timestamp()
