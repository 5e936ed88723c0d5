"""Facts that stand on top of every page in docs/results/: command, date, commit, machine, versions."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"


def commit() -> str:
    """The commit that was measured, with a mark when the tree was changed since."""
    try:
        name = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            # What benches write is no change of what they measure.
            ["git", "status", "--porcelain", "--untracked-files=no", ":(exclude)docs/results", ":(exclude)docs/img"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{name}{' and uncommitted changes' if changed else ''}"


def versions(*packages: str) -> str:
    """Installed versions, e.g. ``keras 3.15.1, numpy 2.4.6``."""
    found = []
    for package in packages:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


# The widest decides which of XNNPACK's kernels run, and with them how int8 stands to float.
_KERNELS = ("avx512_vnni", "avx_vnni", "avx512f", "avx2", "avx", "asimddp", "asimd", "neon")


def vector_instructions() -> str:
    """The widest of this processor that kernels are written for, as /proc/cpuinfo calls it."""
    flags = (_processor().get("flags") or _processor().get("Features") or "").split()
    return next((name for name in _KERNELS if name in flags), "no vector instructions")


@functools.cache
def _processor() -> dict[str, str]:
    lines = (line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines())
    return {key.strip(): value.strip() for key, _, value in lines}


def machine() -> str:
    """Architecture, cores, memory, processor and its vector instructions, without the host's name."""
    model = _processor().get("model name") or platform.processor() or "unknown processor"
    model += f" ({vector_instructions()})"
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{platform.machine()}, {os.cpu_count()} cores, {memory_gib:.0f} GiB, {model}"


def heading(title: str, command: str, *packages: str) -> list[str]:
    """The first lines of a results page."""
    return [
        f"# {title}",
        "",
        f"    {command}",
        "",
        f"Measured {datetime.now(UTC):%Y-%m-%d} at commit {commit()}; {machine()}; Python {platform.python_version()};",
        f"{versions(*packages)}. The machine is shared: seconds are what this run took, ratios are what holds.",
        "",
    ]
