"""What time it is at least: for a board without a clock, whose wall clock may say 1970 or 2106 at its start.

Certificates are judged by the wall clock where that is right, and by this floor where it is not: an expired one is
never accepted because a clock was set back, a good one never refused because a battery was missing.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from edgekit_device import health

# When this version was made; moved at each release.
BUILD_S = 1_795_305_600  # 2026-11-22
_DAY_S = 86_400
# A host that claims a time beyond this is not believed: the floor never sinks again.
_LATEST_S = BUILD_S + 30 * 365 * _DAY_S


class Moment(NamedTuple):
    """What is known of the time.

    Attributes:
        wall_s: The wall clock, seconds since 1970.
        floor_s: The latest time that is certain to have passed.
        right: Whether the wall clock can be believed.
    """

    wall_s: float
    floor_s: float
    right: bool

    @property
    def judged_s(self) -> float:
        """The time by which something has expired or not."""
        return max(self.wall_s, self.floor_s) if self.right else self.floor_s


class TrustedTime:
    """The floor: the build, or what this board has seen since.

    Args:
        path: Where the latest time is kept; None keeps it in memory.
        state: Says ``synced``, ``unsynced`` or ``unknown``.
        wall: Seconds since 1970.
    """

    def __init__(
        self,
        path: Path | None = None,
        state: Callable[[], str] = health.clock,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._path, self._state, self._wall = path, state, wall
        self._seen_s = float(BUILD_S)
        if path is not None:
            with contextlib.suppress(OSError, ValueError):
                found = float(path.read_text(encoding="ascii")[:32])
                if BUILD_S < found <= _LATEST_S:
                    self._seen_s = found

    def now(self) -> Moment:
        """What is known now."""
        wall = self._wall()
        # A clock that is behind what has certainly passed is wrong, whatever it says of itself.
        right = self._state() != "unsynced" and wall >= self._seen_s
        return Moment(wall, self._seen_s, right)

    def saw(self, seconds: float) -> None:
        """A time that came from somebody trusted, or from a clock that is right; kept once a day."""
        if not self._seen_s < seconds <= _LATEST_S:
            return
        late = seconds - self._seen_s >= _DAY_S
        if not late:
            return
        self._seen_s = float(seconds)
        if self._path is None:
            return
        fresh = self._path.with_name(f".{self._path.name}.new")
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with fresh.open("w", encoding="ascii") as file:
                file.write(f"{int(seconds)}\n")
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self._path)
