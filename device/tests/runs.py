"""Real runs for tests: `edgekit-device run` as a process of its own, and what it printed."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Seconds of a start with what a worker imports, on a machine that has other things to do.
_USUAL_S = 1.0


@dataclass
class Run:
    """A run that has ended."""

    code: int
    readings: list[dict[str, Any]]
    said: str


def start(bundle: Path, public: Path, *words: str, **kwargs: Any) -> subprocess.Popen[str]:
    """Start a run; stdout carries Readings."""
    # What one test finds out about a model must not reach the next.
    home = bundle.parent / "state"
    kwargs["env"] = {**os.environ, "XDG_STATE_HOME": str(home), **kwargs.get("env", {})}
    command = [sys.executable, "-m", "edgekit_device", "run", "--bundle", str(bundle), "--pubkey", str(public)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **kwargs}
    return subprocess.Popen([*command, "--json", *words], stdin=subprocess.DEVNULL, **pipes)


def finish(process: subprocess.Popen[str], timeout_s: float = 120.0) -> Run:
    """Wait for its end.

    Not by `communicate`: that reads the pipe itself, and passes over what `readline` has taken from it in advance.
    """
    said: dict[str, str] = {}
    pipes = {name: pipe for name, pipe in (("out", process.stdout), ("err", process.stderr)) if pipe}

    def read(name: str) -> None:
        said[name] = pipes[name].read()

    readers = [threading.Thread(target=read, args=(name,), daemon=True) for name in pipes]
    for reader in readers:
        reader.start()
    process.wait(timeout_s)
    for reader in readers:
        reader.join(timeout_s)
    for pipe in pipes.values():
        pipe.close()
    return Run(process.returncode, [json.loads(line) for line in said.get("out", "").splitlines()], said.get("err", ""))


def run(bundle: Path, public: Path, *words: str, timeout_s: float = 120.0) -> Run:
    """Run to the end."""
    return finish(start(bundle, public, *words), timeout_s)


@functools.cache
def starting_s() -> float:
    """Seconds that a worker needs to begin, alone: next to nothing, or some under emulation."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import cv2, edgekit_device.worker"], check=True)
    return time.monotonic() - began


def patience() -> float:
    """How much longer than usual things begin here: 1 on most machines, several under emulation."""
    return max(1.0, starting_s() / _USUAL_S)


def is_gone(pid: int) -> bool:
    """Whether a process has ended, be it that nobody asked for its exit code: a container's process 1 does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError):
        return True


def children(pid: int) -> list[int]:
    """Process ids of a process's children."""
    found = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(word) for word in found.read_text().split()] if found.exists() else []


def worker_of(process: subprocess.Popen[str], unlike: int | None = None, timeout_s: float = 20.0) -> int:
    """Pid of the run's worker, waiting for one that is not `unlike`."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        for pid in children(process.pid):
            if pid != unlike and b"edgekit_device.worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
        time.sleep(0.02)
    known = children(process.pid)
    raise AssertionError(f"no worker came within {timeout_s} s; exit {process.poll()}, children {known}")


def stop(process: subprocess.Popen[str]) -> Run:
    """Ask it to stop as systemd would."""
    os.kill(process.pid, signal.SIGTERM)
    return finish(process)
