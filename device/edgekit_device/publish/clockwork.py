"""When a board without a clock of its own comes to know the time."""

from __future__ import annotations

import time
from collections.abc import Callable


class Clockwork:
    """The wall clock, and from when on it is right.

    Args:
        state: Says ``synced``, ``unsynced`` or ``unknown``; unknown counts as right, since nothing says otherwise.

    Attributes:
        offset_s: What to add to the monotonic clock to get seconds since 1970; None until the clock is right. Fixed
            then, so that a time that is mended twice comes out the same.
    """

    def __init__(self, state: Callable[[], str]) -> None:
        self._state = state
        self.offset_s: float | None = None

    @property
    def right(self) -> bool:
        """Whether the time can be believed now."""
        return self._state() != "unsynced"

    def look(self) -> bool:
        """Look at the clock; True at the one moment when it turns out to be right."""
        if self.offset_s is not None or not self.right:
            return False
        self.offset_s = time.time() - time.monotonic()
        return True
