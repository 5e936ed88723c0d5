"""What a proof of the golden vectors holds for: the interpreter, numpy, the kernel, the system and the processor."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = ("ai-edge-litert", "tflite-runtime", "numpy")


def world(os_release: Path = Path("/etc/os-release")) -> dict[str, str]:
    """Name and version of everything that a model's numbers depend on here.

    Args:
        os_release: Where the system says what it is.
    """
    found = {"machine": platform.machine(), "kernel": platform.release()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    try:
        lines = os_release.read_text("utf-8", "replace").splitlines()
    except OSError:
        return found
    named = dict(line.partition("=")[::2] for line in lines)
    return found | {"system": (named.get("PRETTY_NAME") or named.get("ID") or "unknown").strip('"')[:100]}


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> str | None:
    """What is another one than before, in words; None when nothing is.

    Args:
        before: What held when the golden vectors were last proved; empty if nobody knows.
        now: What holds.
    """
    words = [
        f"{name} {before.get(name, 'none')} -> {now.get(name, 'none')}"
        for name in sorted({*before, *now})
        if before and before.get(name) != now.get(name)
    ]
    return ", ".join(words) or None
