"""Whether a board can be flashed, decided from facts alone: a named refusal with its remedy, or warnings."""

from __future__ import annotations

import time
from collections.abc import Callable

from edgekit.flashing.errors import (
    BoardDiskError,
    BoardError,
    BrokenPythonError,
    ClockError,
    UnsupportedBoardError,
)
from edgekit.flashing.facts import System

MACHINES = ("aarch64", "x86_64", "armv7l")
LEAST_PYTHON, PAST_PYTHON = (3, 11), (3, 14)
# 2025-01-01: before the first release of EdgeKit no clock can be right.
_FIRST_RELEASE_S = 1_735_689_600
_DAY_S, _DRIFT_S = 86_400, 300
_SLACK_BYTES = 32 << 20
_PACKAGES = "sudo apt install --reinstall python3-minimal python3 python3-venv"


def refuse(board: str, system: System, needed_bytes: int, now_s: float | None = None) -> list[str]:
    """Refuse a board that cannot be flashed; nothing was written yet.

    Args:
        board: Its name.
        system: Its facts.
        needed_bytes: What a flash will write.
        now_s: This machine's clock.

    Returns:
        Warnings, in words.

    Raises:
        BoardError: The class says why; the message has the remedy.
    """
    now_s = time.time() if now_s is None else now_s
    rules: tuple[Callable[[], BoardError | None], ...] = (
        lambda: _system(board, system),
        lambda: _python(board, system),
        lambda: _clock(board, system, now_s),
        lambda: _disk(board, system, needed_bytes),
    )
    for rule in rules:
        problem = rule()
        if problem is not None:
            raise problem
    return warnings(system, now_s)


def warnings(system: System, now_s: float) -> list[str]:
    """What is worth saying and no reason to stop."""
    found = []
    drift_s = system.clock_s - now_s
    if abs(drift_s) > _DRIFT_S:
        found.append(f"its clock is {abs(drift_s) / 3600:.1f} h {'ahead' if drift_s > 0 else 'behind'}")
    if system.wheel_machine == "armv7l":
        found.append("a 32-bit system: best effort, tflite-runtime and apt's numpy; 64-bit is several times as fast")
    if system.os_id not in ("debian", "raspbian"):
        found.append(f"{system.os_name or 'this system'} was not tried; Debian 12 and 13 were")
    return found


def _system(board: str, system: System) -> BoardError | None:
    if system.kernel != "Linux":
        return UnsupportedBoardError(board, f"runs {system.kernel}", "EdgeKit's device side needs Linux")
    if system.machine == "armv6l":
        return UnsupportedBoardError(board, "a Pi Zero or Pi 1 (armv6l) has no interpreter", "use a Pi Zero 2 or later")
    if system.machine not in MACHINES and system.machine != "armv8l":
        return UnsupportedBoardError(
            board, f"its processor is {system.machine}", f"EdgeKit runs on {', '.join(MACHINES)}"
        )
    return None


def _python(board: str, system: System) -> BoardError | None:
    python = system.python
    if python is None:
        return BrokenPythonError(board, system.python_problem, f"on the board: {_PACKAGES}")
    if not LEAST_PYTHON <= python.version[:2] < PAST_PYTHON:
        return BrokenPythonError(
            board, f"its Python is {python.text}; 3.11 to 3.13 is needed", "write Raspberry Pi OS Bookworm or Trixie"
        )
    if not python.venv:
        return BrokenPythonError(board, "its Python has no venv", "on the board: sudo apt install python3-venv")
    return None


def _clock(board: str, system: System, now_s: float) -> BoardError | None:
    if system.clock_s >= _FIRST_RELEASE_S and system.clock_s <= now_s + _DAY_S:
        return None
    shown = time.strftime("%Y-%m-%d", time.gmtime(max(0, system.clock_s)))
    return ClockError(
        board, f"its clock says {shown}", f"set it on the board: sudo date -u -s @{int(now_s)}   # or: sudo timedatectl"
    )


def _disk(board: str, system: System, needed_bytes: int) -> BoardError | None:
    wanted = needed_bytes + _SLACK_BYTES
    if system.free_bytes >= wanted:
        return None
    return BoardDiskError(
        board,
        f"its disk has {system.free_bytes / 1e6:.0f} MB free; {wanted / 1e6:.0f} MB are needed",
        "make room there: sudo apt clean; df -h /",
    )
