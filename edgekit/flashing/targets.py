"""Where a bundle can be flashed to, as one word on the command line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgekit.errors import TargetError, near_miss
from edgekit_device.contract.addresses import url_host

_SSH = re.compile(
    r"ssh://(?:(?P<user>[^@/:\s]+)@)?(?P<host>\[[0-9A-Fa-f:.%a-z]+\]|[A-Za-z0-9_.-]+)(?::(?P<port>[0-9]{1,5}))?/?"
)


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


@dataclass(frozen=True)
class SshTarget:
    """A board that is logged in to.

    Attributes:
        host: Name or address, or an alias of ~/.ssh/config.
        user: Who logs in; None leaves it to ~/.ssh/config, else this user.
        port: None leaves it to ~/.ssh/config, else 22.
        label: What the board is called in fleet.toml; empty for one named by its address.
    """

    host: str
    user: str | None = None
    port: int | None = None
    label: str = ""

    @property
    def name(self) -> str:
        """The word that `parse_target` reads."""
        if self.label:
            return self.label
        user, port = f"{self.user}@" if self.user else "", f":{self.port}" if self.port else ""
        return f"ssh://{user}{url_host(self.host)}{port}"


Target = FolderTarget | SshTarget


def parse_target(text: str, boards: Mapping[str, str] | None = None) -> Target:
    """Take a target apart.

    Args:
        text: ``ssh://user@host[:port]``, ``dir:PATH``, or a board's name.
        boards: Name -> target, from fleet.toml.

    Raises:
        TargetError: Not understood, or no such board.
    """
    kind, colon, rest = text.partition(":")
    if text.startswith("ssh://"):
        return _ssh(text)
    if not colon:
        return _named(text, boards or {})
    if kind != "dir":
        raise TargetError(text, f"'{kind}:' is no kind of target")
    if not rest or "\0" in rest:
        raise TargetError(text, "it names no folder")
    root = Path(rest).expanduser()
    if root.exists() and not root.is_dir():
        raise TargetError(text, "it is there and is not a folder")
    return FolderTarget(root.absolute())


def _named(text: str, boards: Mapping[str, str]) -> Target:
    if text not in boards:
        known = f" (known: {', '.join(sorted(boards))})" if boards else ""
        raise TargetError(text, f"no board has this name in fleet.toml{near_miss(text, boards)}{known}")
    target = boards[text]
    if ":" not in target:
        raise TargetError(text, f"fleet.toml says {target!r} for it, which is no address")
    found = parse_target(target)
    return SshTarget(found.host, found.user, found.port, text) if isinstance(found, SshTarget) else found


def _ssh(text: str) -> SshTarget:
    if "@" in text and ":" in text[len("ssh://") :].partition("@")[0]:
        raise TargetError(
            "ssh://USER:...@HOST", "a password in an argument can be seen by every user of this machine; leave it out"
        )
    found = _SSH.fullmatch(text)
    if found is None:
        raise TargetError(text, "it is not ssh://user@host[:port]")
    host, user, port = found["host"], found["user"], int(found["port"]) if found["port"] else None
    if host.startswith("-") or (user or "").startswith("-"):
        raise TargetError(text, "a name that begins with a dash is an option to somebody")
    if port is not None and not 0 < port < 65_536:
        raise TargetError(text, f"{port} is no port")
    return SshTarget(host.strip("[]"), user, port)
