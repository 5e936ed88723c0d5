"""How long a flash takes, without a limit: measured beside gate F1 for its page."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from tools.results import ROOT

WHEELS = ROOT / "build" / "bench" / "wheels"
"""As `make bench ONLY=wheels` leaves it."""


def time_flashes(place: Path) -> dict[str, Any]:
    """Flash a blank board, again, and another model; then, where the wheels are there, a board that has nothing."""
    from tests.worlds.flash_desk import Desk
    from tests.worlds.ssh_boards import Flaws, ssh_board

    found: dict[str, Any] = {}
    desk = Desk(_made(place / "desk"))
    with ssh_board(_made(place / "board")) as world:
        first, second = desk.bundle("1.0.0"), desk.bundle("1.1.0")
        for name, bundle in (("blank", first), ("same", first), ("other", second)):
            began = time.monotonic()
            desk.one(bundle, world)
            found[name] = round(time.monotonic() - began, 1)
    if WHEELS.is_dir():
        bare = Desk(_made(place / "bare"))
        (bare.place / "wheels").rmdir()
        (bare.place / "wheels").symlink_to(WHEELS)
        with ssh_board(_made(place / "empty"), Flaws(packages=False)) as world:
            began = time.monotonic()
            done = bare.one(bare.bundle("1.0.0"), world)
            found["offline"] = round(time.monotonic() - began, 1)
            found["runtime"] = next(words for words in done.changes if "offline, with hashes" in words)
    return found | {"load": round(os.getloadavg()[1], 1)}


def times_table(times: dict[str, Any]) -> list[str]:
    """For the page."""
    lines = ["| what | s |", "|---|---|"]
    rows = {
        "blank": "blank board whose system has numpy, OpenCV and the interpreter, to its first Reading",
        "same": "the same again: nothing to do",
        "other": "another model for a board that serves, to the first Reading of it",
        "offline": "blank board with nothing, offline: pip without an index, every hash required",
    }
    lines += [f"| {words} | {times[name]:.0f} |" for name, words in rows.items() if name in times]
    if "runtime" in times:
        runtime = times["runtime"]
        lines += ["", f"Offline: {runtime[runtime.index('(') + 1 : -1]}."]
    return [*lines, "", f"Load {times['load']:g} on {os.cpu_count()} cores."]


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
