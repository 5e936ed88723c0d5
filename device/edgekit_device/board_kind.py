"""Which kind of hardware this is, in a word that rollouts can ask for: ``pi5``, ``pi4``, ``x86-64``."""

from __future__ import annotations

import platform
import re
from functools import cache
from pathlib import Path

# Written by the firmware, NUL at its end: "Raspberry Pi 5 Model B Rev 1.0".
_MODEL = Path("/proc/device-tree/model")
_PI = re.compile(r"Raspberry Pi (?:Zero (?P<zero>2?)|Compute Module (?P<module>[0-9]+)|(?P<number>[0-9]+))", re.ASCII)
_MACHINES = {"x86_64": "x86-64", "amd64": "x86-64", "aarch64": "arm64", "armv7l": "armv7"}


def kind_of(model: str, machine: str) -> str:
    """The word for a board.

    Args:
        model: What its device tree says; empty where there is none.
        machine: As ``uname -m`` says.
    """
    found = _PI.match(model)
    if found is None:
        return _MACHINES.get(machine, re.sub(r"[^A-Za-z0-9._:-]", "-", machine)[:64] or "unknown")
    if found["number"]:
        return f"pi{found['number']}"
    return f"cm{found['module']}" if found["module"] else f"pi-zero{found['zero']}"


@cache
def own_kind() -> str:
    """Of this machine."""
    try:
        model = _MODEL.read_text("ascii", "replace")[:200]
    except OSError:
        model = ""
    return kind_of(model, platform.machine())
