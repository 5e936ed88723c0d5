"""What the kernel says in files, and whether the clock is right."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
from pathlib import Path
from typing import Any

_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised.
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# Below it no sensor works and no board runs above it: what lies outside is a broken sensor, not a temperature.
_SANE_C = (-60.0, 200.0)
_ZONE = re.compile(r"cpu|soc|x86_pkg", re.IGNORECASE)


def cpu_temp_c(sys_root: Path = Path("/sys")) -> float | None:
    """Temperature of the first thermal zone that is the processor's, degrees Celsius.

    Args:
        sys_root: Where sysfs is.
    """
    zones = (sys_root / "class" / "thermal").glob("thermal_zone*")
    for zone in sorted(zones, key=lambda path: (len(path.name), path.name)):
        try:
            if _ZONE.search((zone / "type").read_text("ascii")):
                found = int((zone / "temp").read_text("ascii")) / 1000
            else:
                continue
        except (OSError, ValueError):
            continue
        if _SANE_C[0] < found < _SANE_C[1]:
            return found
    return None


def measured_temp_c(said: str) -> float | None:
    """Degrees Celsius from what ``vcgencmd measure_temp`` printed: ``temp=48.3'C``."""
    found = re.fullmatch(r"temp=(-?\d{1,3}(?:\.\d+)?)'C\s*", said, re.ASCII)
    value = float(found[1]) if found else None
    return value if value is not None and _SANE_C[0] < value < _SANE_C[1] else None


def rss_bytes(*pids: int, proc: Path = Path("/proc")) -> int | None:
    """Resident memory of the given processes together; None when one of them is gone.

    Args:
        pids: Process ids.
        proc: Where procfs is.
    """
    total = 0
    for pid in pids:
        try:
            total += int((proc / str(pid) / "statm").read_text("ascii").split()[1]) * _PAGE_BYTES
        except (OSError, ValueError, IndexError):
            return None
    return total


def load_1m(proc: Path = Path("/proc")) -> float | None:
    """Load average of the last minute.

    Args:
        proc: Where procfs is.
    """
    try:
        load = float((proc / "loadavg").read_text("ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return None
    return load if 0 <= load < 1e6 else None


def disk_free_bytes(path: Path) -> int | None:
    """Free space on the disk of a path, or of its nearest parent that exists."""
    for place in (path, *path.parents):
        try:
            return shutil.disk_usage(place).free
        except FileNotFoundError:
            continue
        except OSError:
            return None
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
    """The part of a Reading's health that files tell, read now."""
    return {
        "cpu_temp_c": cpu_temp_c(),
        "rss_bytes": rss_bytes(*pids),
        "load_1m": load_1m(),
        "disk_free_bytes": disk_free_bytes(state_dir),
    }
