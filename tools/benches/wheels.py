"""The lock of wheels, fetched end to end: `edgekit wheels fetch` for each kind of board, every hash checked from here.

Writes its section of docs/results/flash.md. Fetches 350 MB from wherever pip looks.
"""

from __future__ import annotations

import argparse
import hashlib
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from edgekit.flashing.wheel_lock import WheelLock, read_lock
from tools.gates.flash_page import put_section
from tools.results import ROOT, commit, machine, versions

PLACE = ROOT / "build" / "bench" / "wheels"
_BEST_EFFORT = "armv7l"


def run(arguments: Sequence[str]) -> None:
    """Fetch, check, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="go on with what an earlier run fetched")
    args = parser.parse_args(arguments)
    if not args.keep:
        shutil.rmtree(PLACE, ignore_errors=True)
    lock, rows, seconds = read_lock(), [], 0.0
    for python, board in lock.targets:
        began = time.monotonic()
        words = ["wheels", "fetch", "--python", python, "--machine", board, "-o", str(PLACE), "--json"]
        code = "import sys; from edgekit.cli import main; sys.exit(main(sys.argv[1:]))"
        subprocess.run([sys.executable, "-c", code, *words], check=True, stdout=subprocess.DEVNULL)
        seconds += time.monotonic() - began
        rows.append(_row(lock, python, board))
        print(rows[-1], flush=True)
    whole = sum(path.stat().st_size for path in PLACE.glob("*.whl"))
    put_section(
        "## The lock, fetched",
        [
            "    make bench ONLY=wheels",
            "",
            f"At {commit()}; {machine()};",
            f"Python {platform.python_version()}, {versions('pip')}. One folder, `edgekit wheels fetch` once a row;",
            "then each file's SHA-256 was computed again from the disk and held against `wheels.lock.json`.",
            "",
            "| Python | machine | wheels | MB | largest | hashes |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
            f"The folder holds {len(list(PLACE.glob('*.whl')))} files, {whole / 1e6:.0f} MB; fetching took "
            f"{seconds:.0f} s here. {_BEST_EFFORT} is best effort: numpy and OpenCV are apt's, and cffi has no wheel.",
        ],
    )


def _row(lock: WheelLock, python: str, board: str) -> str:
    names = lock.targets[python, board]
    good = [name for name in names if _sha256(PLACE / name) == lock.wheels[name][0]]
    sizes = {name: (PLACE / name).stat().st_size for name in names}
    largest = max(sizes, key=lambda name: sizes[name])
    word = "all right" if len(good) == len(names) else f"**{len(names) - len(good)} wrong**"
    package = "-".join(largest.split("-")[:2])
    return (
        f"| {python} | {board} | {len(names)} | {sum(sizes.values()) / 1e6:.1f} | {package}, "
        f"{sizes[largest] / 1e6:.1f} MB | {word} |"
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
