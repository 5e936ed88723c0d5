"""The systemd unit that runs a board, as it is written to /etc/systemd/system."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from edgekit_device.contract.errors import UsageError

NAME = "edgekit-device.service"
INIT = "edgekit-device.init"
USER = "edgekit"
COMMAND = Path("/opt/edgekit/launch")


def unit_text(command: Path = COMMAND, user: str = USER) -> str:
    """The unit for one board.

    Start it with ``systemctl start --no-block``: it counts as started when the first frame is classified, which a
    board without its camera waits for as long as it takes.

    Args:
        command: The launcher (`edgekit_device.runtimes`), absolute.
        user: Who runs it; the groups that may open cameras are given by the unit.

    Raises:
        UsageError: A path that is not absolute, or characters that mean something in a unit file.
    """
    words = (str(command), user)
    if not command.is_absolute() or any(not word.isprintable() or set(word) & set(" %$\"'\\;") for word in words):
        raise UsageError(
            f"a unit cannot run {str(command)!r} as {user!r}: name an absolute path without blanks or signs"
        )
    text = (files(__package__) / NAME).read_text("utf-8")
    return text.replace(str(COMMAND), str(command)).replace(f"User={USER}\n", f"User={user}\n")


def init_text() -> str:
    """The script for /etc/init.d, where systemd is not."""
    return (files(__package__) / INIT).read_text("utf-8")
