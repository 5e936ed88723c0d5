"""How the board is: read from /proc and /sys; what cannot be read is None and delays nothing."""

from __future__ import annotations

import ctypes
import os
import shutil
from pathlib import Path
from typing import Any

_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised.
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def cpu_temp_c(root: Path = Path("/sys/class/thermal")) -> float | None:
    """Temperature of the first thermal zone that is the processor's, degrees Celsius."""
    for zone in sorted(root.glob("thermal_zone*")):
        try:
            kind = (zone / "type").read_text("ascii").strip()
            if "cpu" in kind or "x86_pkg" in kind or "soc" in kind:
                return int((zone / "temp").read_text("ascii")) / 1000
        except (OSError, ValueError):
            continue
    return None


def rss_bytes(*pids: int) -> int | None:
    """Resident memory of the given processes together."""
    total = 0
    for pid in pids:
        try:
            total += int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) * _PAGE_BYTES
        except (OSError, ValueError, IndexError):
            return None
    return total


def load_1m() -> float | None:
    """Load average of the last minute."""
    try:
        return round(os.getloadavg()[0], 2)
    except OSError:
        return None


def disk_free_bytes(path: Path) -> int | None:
    """Free space where EdgeKit keeps its state."""
    try:
        return shutil.disk_usage(path).free
    except OSError:
        return None


def clock() -> str:
    """Whether the wall clock is synchronised: ``synced``, ``unsynced`` or ``unknown``."""
    try:
        # struct timex is 208 bytes on 64-bit Linux; modes 0 only reads.
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(256))
    except (OSError, AttributeError):
        return "unknown"
    if state < 0:
        return "unknown"
    return "unsynced" if state == _TIME_ERROR else "synced"


def snapshot(state_dir: Path, *pids: int) -> dict[str, Any]:
    """The health part of a Reading."""
    return {
        "cpu_temp_c": cpu_temp_c(),
        "rss_bytes": rss_bytes(*pids),
        "load_1m": load_1m(),
        "disk_free_bytes": disk_free_bytes(state_dir if state_dir.exists() else Path("/")),
    }
