"""Files that survive a power cut: write, fsync, rename, fsync the folder.

Every mutating system call goes through one `Disk`, so that a test can cut the power at each of them.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
TEMPORARY = ".new-"


class Disk:
    """The system calls that change a disk, one method each."""

    def open(self, path: Path, flags: int, mode: int = 0o600) -> int:
        """The call open."""
        return os.open(path, flags, mode)

    def write(self, descriptor: int, data: memoryview) -> int:
        """The call write: may write less than it was given."""
        return os.write(descriptor, data)

    def chmod(self, path: Path, mode: int) -> None:
        """The call chmod."""
        path.chmod(mode)

    def fsync(self, descriptor: int) -> None:
        """The call fsync."""
        os.fsync(descriptor)

    def close(self, descriptor: int) -> None:
        """The call close."""
        os.close(descriptor)

    def mkdir(self, path: Path) -> None:
        """The call mkdir."""
        path.mkdir()

    def rename(self, source: Path, target: Path) -> None:
        """The call rename: replaces the target in one step."""
        source.rename(target)

    def symlink(self, path: Path, target: str) -> None:
        """The call symlink: path points to target."""
        path.symlink_to(target)

    def unlink(self, path: Path) -> None:
        """The call unlink."""
        path.unlink()

    def rmdir(self, path: Path) -> None:
        """The call rmdir."""
        path.rmdir()

    def free_bytes(self, path: Path) -> int:
        """Bytes that may still be written to the file system that holds path."""
        return shutil.disk_usage(path).free


REAL_DISK = Disk()


def sync_folder(folder: Path, disk: Disk = REAL_DISK) -> None:
    """Make the names in a folder durable."""
    descriptor = disk.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        disk.fsync(descriptor)
    finally:
        disk.close(descriptor)


def make_folders(folder: Path, mode: int = 0o755, disk: Disk = REAL_DISK) -> None:
    """Create a folder and its missing parents, durably; one that exists keeps its mode.

    Args:
        folder: Absolute or relative path.
        mode: Permissions of the last one, whatever the umask; missing parents get 0755.
        disk: Where the system calls go.
    """
    if folder.is_dir():
        return
    if folder.parent != folder:
        make_folders(folder.parent, disk=disk)
    try:
        disk.mkdir(folder)
    except FileExistsError:
        if not folder.is_dir():
            raise
        return  # Somebody else was faster.
    disk.chmod(folder, mode)
    sync_folder(folder.parent, disk)


def write_new(path: Path, data: bytes, mode: int = 0o644, disk: Disk = REAL_DISK) -> None:
    """Write a file that must not exist yet and make its content durable; its name is not durable yet."""
    descriptor = disk.open(path, _NEW, 0o600)
    try:
        left = memoryview(data)
        while left:
            left = left[disk.write(descriptor, left) :]
        disk.fsync(descriptor)
    finally:
        disk.close(descriptor)
    # After the content: a reader of another user never sees a file that is still being written.
    disk.chmod(path, mode)


def replace_file(path: Path, data: bytes, mode: int = 0o644, disk: Disk = REAL_DISK) -> None:
    """Give a file new content: at every instant it holds the old bytes or the new ones."""
    temporary = path.with_name(f"{TEMPORARY}{path.name}")
    try:
        discard(temporary, disk)
        write_new(temporary, data, mode, disk)
        disk.rename(temporary, path)
    except OSError:
        discard(temporary, disk)
        raise
    sync_folder(path.parent, disk)


def replace_link(path: Path, target: str, disk: Disk = REAL_DISK) -> None:
    """Point a symbolic link elsewhere in one step."""
    temporary = path.with_name(f"{TEMPORARY}{path.name}")
    try:
        discard(temporary, disk)
        disk.symlink(temporary, target)
        disk.rename(temporary, path)
    except OSError:
        discard(temporary, disk)
        raise
    sync_folder(path.parent, disk)


def discard(path: Path, disk: Disk = REAL_DISK) -> None:
    """Remove a file, a link or a whole folder, if it is there; links are never followed."""
    if path.is_dir() and not path.is_symlink():
        for entry in sorted(path.iterdir()):
            discard(entry, disk)
        disk.rmdir(path)
    elif path.is_symlink() or path.exists():
        disk.unlink(path)
