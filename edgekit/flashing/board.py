"""What a flash needs of a board: read, write in one step, run a command. A folder and an SSH login can both do that.

Paths are the board's own, e.g. ``/etc/edgekit/device.toml``; each board knows where they lie for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

HOME, ETC, STATE = "/opt/edgekit", "/etc/edgekit", "/var/lib/edgekit"
KEYS, SETTINGS = f"{ETC}/keys", f"{ETC}/device.toml"
# Root's own: what is on its way to the board is not the service user's to change.
INCOMING = "/var/cache/edgekit"
BOARD_USER = "edgekit"
DEADLINE_S = 60.0

Sent = Callable[[int, int], None]
"""Told of a transfer: (bytes that are there, bytes in all)."""


@dataclass(frozen=True)
class Ran:
    """What became of a command.

    Attributes:
        status: Its exit status; 124 when it ran past its deadline on the board.
        out: Its output.
        err: Its errors, as text.
    """

    status: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        """Output as text, without the last line's end."""
        return self.out.decode("utf-8", "replace").strip()

    @property
    def last_words(self) -> str:
        """The last line that says something: what a person would read first."""
        lines = [line.strip() for text in (self.err, self.text) for line in text.splitlines() if line.strip()]
        return lines[-1][:300] if not self.err.strip() and lines else (self.err.strip().splitlines() or [""])[-1][:300]


@dataclass(frozen=True)
class Entry:
    """A name on the board's disk.

    Attributes:
        kind: ``file``, ``folder``, ``link`` or ``other``.
        size_bytes: Of a file.
        mode: Permissions.
        owner: User name.
        changed_ns: When its content changed, ns since 1970 (whole seconds over SSH).
        target: Where a link points.
    """

    kind: str
    size_bytes: int
    mode: int
    owner: str
    changed_ns: int
    target: str = ""


class Board(Protocol):
    """One board under a flash; see `edgekit.flashing.folder` and `edgekit.flashing.ssh`.

    Attributes:
        name: The target as it was named, for every message.
        is_folder: A folder stands for it: no user, no service, no interpreter of its own.
    """

    name: str
    is_folder: bool

    def shown(self, path: str) -> str:
        """A path as a person at this machine would look for it."""
        ...

    async def run(
        self, command: Sequence[str], *, stdin: bytes = b"", deadline_s: float = DEADLINE_S, user: str = "root"
    ) -> Ran:
        """Run a command to its end; a status other than 0 is for the caller to judge.

        Raises:
            LinkLostError: The connection ended first.
            CommandError: It did not end in time, here or there.
        """
        ...

    async def read(self, path: str, limit_bytes: int = 1 << 20) -> bytes | None:
        """A file's bytes; None where there is none."""
        ...

    async def entries(self, folder: str) -> Mapping[str, Entry]:
        """What a folder holds, without its sub-folders' content; empty where there is no such folder."""
        ...

    async def entry(self, path: str) -> Entry | None:
        """One name; links are not followed."""
        ...

    async def digest(self, path: str) -> str | None:
        """SHA-256 of a file, hexadecimal; None where there is none."""
        ...

    async def write(self, path: str, data: bytes, *, mode: int = 0o644, owner: str = "root") -> None:
        """Give a file new content, durably and in one step: old or new at every instant."""
        ...

    async def make_folder(self, path: str, *, mode: int = 0o755, owner: str = "root") -> None:
        """Make a folder and its parents; one that exists gets this mode and owner."""
        ...

    async def link(self, path: str, target: str) -> None:
        """Point a link elsewhere in one step."""
        ...

    async def remove(self, path: str) -> None:
        """Remove a file, a link or a folder with everything in it, if it is there."""
        ...

    async def put(self, source: Path, path: str, *, mode: int = 0o644, on_sent: Sent | None = None) -> int:
        """Bring a file to the board; what is there already is not sent again, also half of it.

        Returns:
            Bytes that were sent.
        """
        ...

    async def close(self) -> None:
        """End the connection."""
        ...


def device_command(*words: str, root: str = "/") -> tuple[str, ...]:
    """The device's own command on a board, e.g. ``device_command("status", "--json")``; run it as `BOARD_USER`."""
    return (f"{HOME}/venv/bin/edgekit-device", *words, "--root", root)
