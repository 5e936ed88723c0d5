"""A download that survives a kill: it goes on where its file on the disk ends.

    FOLDER/<hash>.part   as much of the file as is here; named by what it is to become, so nothing mixes

Whatever the file holds, only the hash of the whole decides: a part spoilt by a power cut costs one more download.
"""

from __future__ import annotations

import errno
import hashlib
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgekit_device.contract.errors import SlotDiskError, SlotFullError
from edgekit_device.disk import REAL_DISK, Disk, discard, make_folders, sync_folder
from edgekit_device.ota.errors import (
    ForgedFileError,
    PartialFileError,
    RepositoryUnreachableError,
    RequestDroppedError,
    SlowRetrievalError,
)
from edgekit_device.ota.transport import Limits, Transport, name_of

_SUFFIX = ".part"
_SLACK_BYTES = 1 << 20
_SYNC_BYTES = 8 << 20
# Cuts after which nothing new came, one after the other.
_MOST_BARREN = 5
_PAUSE_S = (0.2, 5.0)
_CUTS = (PartialFileError, RequestDroppedError, RepositoryUnreachableError, SlowRetrievalError)


@dataclass(frozen=True)
class Wanted:
    """A file as the signed metadata names it.

    Attributes:
        url: Where it is.
        length: Bytes, exactly.
        digest: Its hash, lower-case hex.
        algorithm: Of the hash.
    """

    url: str
    length: int
    digest: str
    algorithm: str = "sha256"

    @property
    def name(self) -> str:
        """For messages."""
        return name_of(self.url)


class _Watch:
    """Looks whether a file comes at the least rate, all its connections together."""

    def __init__(self, limits: Limits, here: int) -> None:
        self._limits, self._since_s, self._here = limits, time.monotonic(), here

    def look(self, file: str, here: int) -> None:
        """So many bytes are here now.

        Raises:
            SlowRetrievalError: Some came in the last window, and fewer than the least rate gives.
        """
        now_s = time.monotonic()
        span_s, came = now_s - self._since_s, here - self._here
        if span_s < self._limits.window_s:
            return
        if 0 < came < self._limits.least_bytes_per_s * span_s:
            said = f"came at {came / span_s:.0f} bytes a second, the least is {self._limits.least_bytes_per_s}"
            raise SlowRetrievalError(file, said)
        self._since_s, self._here = now_s, here


class Parts:
    """Files on their way.

    Args:
        folder: Where they lie; made if it is missing.
        disk: Where the system calls go.
    """

    def __init__(self, folder: Path, disk: Disk = REAL_DISK) -> None:
        self.folder, self._disk = folder, disk

    def path(self, wanted: Wanted) -> Path:
        """Of the part."""
        return self.folder / f"{wanted.digest}{_SUFFIX}"

    def tidy(self, keep: Sequence[Wanted] = ()) -> None:
        """Take away what is no part of these."""
        kept = {self.path(wanted) for wanted in keep}
        for entry in sorted(self.folder.iterdir()) if self.folder.is_dir() else ():
            if entry not in kept:
                discard(entry, self._disk)

    def fetch(self, wanted: Wanted, transport: Transport, progress: Callable[[int], None] = lambda _: None) -> Path:
        """Have a file here, whole and as it was named; goes on after cuts until its deadline.

        Args:
            wanted: The file.
            transport: For the requests.
            progress: Told how many bytes are here.

        Returns:
            Where it lies; its name is not durable yet.

        Raises:
            ForgedFileError: All bytes came and they are not the file; they are gone.
            SlotFullError: There is no room.
            SlotDiskError: The disk refuses.
            OverTheAirError: Its class says what happened; what came so far stays.
        """
        with named_failures(self.folder):
            make_folders(self.folder, 0o700, self._disk)
            return self._fetch(wanted, transport, progress)

    def _fetch(self, wanted: Wanted, transport: Transport, progress: Callable[[int], None]) -> Path:
        path, until_s = self.path(wanted), time.monotonic() + transport.limits.deadline_s(wanted.length)
        here = self._begin(path, wanted)
        resumed = here > 0
        free = self._disk.free_bytes(self.folder)
        if free < wanted.length - here + _SLACK_BYTES:
            raise SlotFullError(str(self.folder), wanted.length - here + _SLACK_BYTES, free)
        # Over all tries: whoever drips would otherwise be given the whole deadline, an hour for 4 MB, by ending each
        # connection in time.
        watch, barren = _Watch(transport.limits, here), 0
        while here < wanted.length:
            progress(here)
            before = here
            try:
                here = self._go_on(path, wanted, transport, here, until_s, progress)
            except _CUTS as cut:
                here = path.stat().st_size
                barren = 0 if here > before else barren + 1
                low, high = _PAUSE_S
                pause_s = random.uniform(0, min(high, low * 2**barren)) if barren else 0.0  # noqa: S311 - no secret
                watch.look(wanted.name, here)
                late = time.monotonic() + pause_s >= until_s
                if late or barren >= _MOST_BARREN or (isinstance(cut, SlowRetrievalError) and here == before):
                    raise
                time.sleep(pause_s)
        found = _digest(path, wanted.algorithm)
        if found != wanted.digest:
            discard(path, self._disk)
            what = "with what was here before it " if resumed else ""
            problem = (
                f"has {wanted.algorithm} {found[:12]} {what}where {wanted.digest[:12]} was promised; it is not kept"
            )
            raise ForgedFileError(wanted.name, problem)
        progress(wanted.length)
        return path

    def _begin(self, path: Path, wanted: Wanted) -> int:
        if path.is_symlink() or not path.is_file():
            discard(path, self._disk)
            return 0
        size = path.stat().st_size
        if size > wanted.length:
            discard(path, self._disk)
            return 0
        return size

    def _go_on(
        self,
        path: Path,
        wanted: Wanted,
        transport: Transport,
        here: int,
        until_s: float,
        progress: Callable[[int], None],
    ) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = self._disk.open(path, flags, 0o600)
        unsynced = 0
        try:
            if here == 0:
                sync_folder(self.folder, self._disk)
            for place, chunk in transport.stream(wanted.url, here, wanted.length, until_s):
                if place != here:  # The server knows no ranges and begins again; so do we.
                    os.ftruncate(descriptor, place)
                    here = place
                left = memoryview(chunk)
                while left:
                    count = self._disk.write(descriptor, left)
                    left, here, unsynced = left[count:], here + count, unsynced + count
                progress(here)
                if unsynced >= _SYNC_BYTES:
                    self._disk.fsync(descriptor)
                    unsynced = 0
            self._disk.fsync(descriptor)
        finally:
            self._disk.close(descriptor)
        return here


@contextmanager
def named_failures(folder: Path) -> Iterator[None]:
    """What a disk refuses comes out under a name.

    Args:
        folder: What to call the place where the error names none.
    """
    try:
        yield
    except OSError as cause:
        if cause.errno in (errno.ENOSPC, errno.EDQUOT):
            raise SlotFullError(str(folder), None, None) from cause
        raise SlotDiskError(str(cause.filename or folder), cause.strerror or str(cause)) from cause


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
