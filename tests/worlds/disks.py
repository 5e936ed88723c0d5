"""Disks that fail: the power goes at the N-th call, or one call says "no space"."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgekit_device.disk import Disk

CALLS = ("open", "write", "chmod", "fsync", "close", "mkdir", "rename", "symlink", "unlink", "rmdir")


class PowerCut(BaseException):
    """The process is gone: no handler of the code under test may run a call after it."""


class FailingDisk(Disk):
    """Counts calls and fails at one of them.

    A power cut stays: every later call is cut as well, so clean-up code cannot help. An error happens once; a
    failing write first writes half, as a full disk does.
    """

    def __init__(self, at: int | None = None, error: int | None = None) -> None:
        self.at, self.error = at, error
        self.made: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        real = super().__getattribute__(name)
        return self._guarded(name, real) if name in CALLS else real

    def _guarded(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            number = len(self.made)
            self.made.append(name)
            if self.at is None or number < self.at or (self.error and number > self.at):
                return real(*arguments)
            if name == "close":
                real(*arguments)  # The kernel closes descriptors of a dead process; the test must not leak them.
            if name == "write" and number == self.at:
                real(arguments[0], arguments[1][: len(arguments[1]) // 2])
            if self.error:
                raise OSError(self.error, os.strerror(self.error), str(arguments[0]))
            raise PowerCut

        return call


class FullDisk(Disk):
    """Says beforehand how little is left."""

    def __init__(self, free: int) -> None:
        self.free = free

    def free_bytes(self, path: Path) -> int:
        return self.free


NO_SPACE, BAD_DISK = errno.ENOSPC, errno.EIO
