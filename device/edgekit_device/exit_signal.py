"""How a process ended, in words."""

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


def ending(code: int) -> str:
    """``was ended by SIGILL`` or ``exited with 3``."""
    name = signal_name(code)
    return f"was ended by {name}" if name else f"exited with {code}"
