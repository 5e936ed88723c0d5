"""Which signal ended a process."""

from __future__ import annotations

import signal


def signal_name(code: int) -> str | None:
    """Of an exit code as `subprocess` gives it: ``SIGILL``, ``signal 64`` where it has no name; None without one."""
    if code >= 0:
        return None
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
