"""Where the worker is, readable by the supervisor even when the worker hangs in native code.

Eight doubles in shared memory, no locks: each has one writer, and an aligned double is written in one piece on
every processor that runs here. Times are CLOCK_MONOTONIC seconds, which all processes of a machine share.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from typing import NamedTuple

_SLOT = struct.Struct("=d")
_NAMES = ("read_since_s", "frame_at_s", "infer_since_s", "served", "captured", "serving_since_s")
SIZE_BYTES = 64
# linux/fcntl.h; Python 3.11 has no names for them.
_ADD_SEALS, _SEALS_ALL = 1033, 0x1 | 0x2 | 0x4 | 0x8


class Snapshot(NamedTuple):
    """One look at the worker; a time of 0 means "not now".

    Attributes:
        read_since_s: When the capture thread entered the read it is still in.
        frame_at_s: When the last new frame came.
        infer_since_s: When the inference began that is still running.
        served: New frames served since the worker started.
        captured: New frames captured since the worker started.
        serving_since_s: When the worker was ready.
    """

    read_since_s: float
    frame_at_s: float
    infer_since_s: float
    served: float
    captured: float
    serving_since_s: float


class Progress:
    """The shared page, on either side."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._page = mmap.mmap(fd, SIZE_BYTES)

    @classmethod
    def create(cls) -> Progress:
        """Make a new page, all zero; the file descriptor can be passed on to a child."""
        fd = os.memfd_create("edgekit-progress", os.MFD_CLOEXEC)
        os.ftruncate(fd, SIZE_BYTES)
        return cls(fd)

    def put(self, name: str, value: float) -> None:
        """Write one slot."""
        _SLOT.pack_into(self._page, _NAMES.index(name) * _SLOT.size, value)

    def look(self) -> Snapshot:
        """Read all slots."""
        return Snapshot(*(_SLOT.unpack_from(self._page, i * _SLOT.size)[0] for i in range(len(_NAMES))))

    def close(self) -> None:
        """Unmap the page and close its descriptor."""
        self._page.close()
        os.close(self.fd)


def sealed_memory(name: str, data: bytes) -> int:
    """Put verified bytes where a child can read them and nobody can change them.

    Returns:
        A file descriptor, to be passed on and then closed.
    """
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        fcntl.fcntl(fd, _ADD_SEALS, _SEALS_ALL)
    except OSError:
        os.close(fd)
        raise
    return fd


def read_memory(fd: int) -> bytes:
    """Read a sealed memory whole and close its descriptor."""
    try:
        size = os.fstat(fd).st_size
        return os.pread(fd, size, 0)
    finally:
        os.close(fd)
