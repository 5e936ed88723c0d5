"""A folder that stands for a board: a mounted card, a chroot, or this machine's demo."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import pwd
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgekit.flashing.board import DEADLINE_S, Entry, Ran, Sent
from edgekit.flashing.errors import CommandError
from edgekit_device import disk

_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}


class FolderBoard:
    """Writes through `edgekit_device.disk`; owners are left to whoever mounts the folder.

    Args:
        root: The folder in which ``opt``, ``etc`` and ``var`` lie.
    """

    is_folder = True

    def __init__(self, root: Path) -> None:
        self.root = root
        self.name = f"dir:{root}"

    def place(self, path: str) -> Path:
        """Where one of the board's paths lies on this machine."""
        return self.root / path.lstrip("/")

    def shown(self, path: str) -> str:
        """The path below the folder."""
        return str(self.place(path))

    async def run(
        self, command: Sequence[str], *, stdin: bytes = b"", deadline_s: float = DEADLINE_S, user: str = "root"
    ) -> Ran:
        """Run a command of this machine: a folder has none of its own."""
        child = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        try:
            out, err = await asyncio.wait_for(child.communicate(stdin), deadline_s)
        except TimeoutError as cause:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            raise CommandError(self.name, f"{command[0]} did not end within {deadline_s:.0f} s", "try again") from cause
        return Ran(child.returncode or 0, out, err.decode("utf-8", "replace"))

    async def read(self, path: str, limit_bytes: int = 1 << 20) -> bytes | None:
        """A file's bytes; None where there is none."""
        try:
            with self.place(path).open("rb") as file:
                return file.read(limit_bytes)
        except FileNotFoundError:
            return None

    async def entries(self, folder: str) -> Mapping[str, Entry]:
        """What a folder holds."""
        place = self.place(folder)
        return {path.name: _entry(path) for path in sorted(place.iterdir())} if place.is_dir() else {}

    async def entry(self, path: str) -> Entry | None:
        """One name; links are not followed."""
        place = self.place(path)
        return _entry(place) if place.is_symlink() or place.exists() else None

    async def digest(self, path: str) -> str | None:
        """SHA-256 of a file."""
        place = self.place(path)
        if not place.is_file():
            return None
        with place.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    async def write(self, path: str, data: bytes, *, mode: int = 0o644, owner: str = "root") -> None:
        """Give a file new content, durably and in one step."""
        disk.replace_file(self.place(path), data, mode)

    async def make_folder(self, path: str, *, mode: int = 0o755, owner: str = "root") -> None:
        """Make a folder and its parents."""
        disk.make_folders(self.place(path), mode)

    async def link(self, path: str, target: str) -> None:
        """Point a link elsewhere in one step."""
        disk.replace_link(self.place(path), target)

    async def remove(self, path: str) -> None:
        """Remove a file, a link or a folder with everything in it."""
        disk.discard(self.place(path))

    async def put(self, source: Path, path: str, *, mode: int = 0o644, on_sent: Sent | None = None) -> int:
        """Copy a file, unless it is there."""
        data = source.read_bytes()
        if await self.digest(path) == hashlib.sha256(data).hexdigest():
            return 0
        disk.make_folders(self.place(path).parent)
        disk.replace_file(self.place(path), data, mode)
        if on_sent:
            on_sent(len(data), len(data))
        return len(data)

    async def close(self) -> None:
        """Nothing to end."""


def _entry(path: Path) -> Entry:
    found = path.lstat()
    kind = _KINDS.get(stat.S_IFMT(found.st_mode), "other")
    try:
        owner = pwd.getpwuid(found.st_uid).pw_name
    except KeyError:
        owner = str(found.st_uid)
    target = str(path.readlink()) if kind == "link" else ""
    return Entry(kind, found.st_size, stat.S_IMODE(found.st_mode), owner, found.st_mtime_ns, target)
