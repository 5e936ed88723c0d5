"""Where a bundle can be flashed to, as one word on the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgekit.errors import TargetError, TargetUnavailableError


@dataclass(frozen=True)
class FolderTarget:
    """A folder that stands for a board's root: a mounted card, a chroot, or this machine's demo.

    Attributes:
        root: The folder in which ``opt``, ``etc`` and ``var`` lie.
    """

    root: Path

    @property
    def name(self) -> str:
        """The word that `parse_target` reads."""
        return f"dir:{self.root}"

    @property
    def slots(self) -> Path:
        """The board's /opt/edgekit."""
        return self.root / "opt" / "edgekit"

    @property
    def settings(self) -> Path:
        """The board's /etc/edgekit/device.toml."""
        return self.root / "etc" / "edgekit" / "device.toml"

    @property
    def keys(self) -> Path:
        """The board's /etc/edgekit/keys."""
        return self.root / "etc" / "edgekit" / "keys"

    @property
    def state(self) -> Path:
        """The board's /var/lib/edgekit."""
        return self.root / "var" / "lib" / "edgekit"


def parse_target(text: str) -> FolderTarget:
    """Take a target apart.

    Args:
        text: ``dir:PATH``.

    Raises:
        TargetError: Not understood.
        TargetUnavailableError: A kind that this version cannot reach yet.
    """
    kind, colon, rest = text.partition(":")
    if text.startswith("ssh://"):
        raise TargetUnavailableError(text, "flashing over SSH is not available yet")
    if not colon:
        raise TargetUnavailableError(text, "names from fleet.toml are not available yet")
    if kind != "dir":
        raise TargetError(text, f"'{kind}:' is no kind of target")
    if not rest or "\0" in rest:
        raise TargetError(text, "it names no folder")
    root = Path(rest).expanduser()
    if root.exists() and not root.is_dir():
        raise TargetError(text, "it is there and is not a folder")
    return FolderTarget(root.absolute())
