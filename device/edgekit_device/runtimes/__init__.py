"""Runtime releases on a board: another edgekit-device beside the one that runs, tried before it is trusted.

Whoever sets a board up (`edgekit flash`, a first boot) makes /opt/edgekit/venv, writes `launcher_bytes()` to
/opt/edgekit/launch with mode 0755, and has that started and started again whenever it ends.
"""

from __future__ import annotations

from importlib.resources import files


def launcher_bytes() -> bytes:
    """The launcher as it lies on a board: one file that needs nothing but the system's Python."""
    return (files(__package__) / "launcher.py").read_bytes()
