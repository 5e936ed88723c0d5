"""`edgekit-device run`, struck at one step of a trial: ``STRIKE=fault:edge:state:FILE`` in its environment.

The file holds how often it was struck. Only the journal's disk and the trial's own watcher are used to get in.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

from edgekit_device import running
from edgekit_device.cli import parser
from edgekit_device.disk import Disk
from edgekit_device.ground import Ground

KILL, ERROR, HANG, KILL_FOR_EVER, READ_ONLY = "kill", "error", "hang", "kill for ever", "read-only"


class Journal(Disk):
    """A disk that may turn read-only."""

    read_only = False

    def open(self, path: Path, flags: int, mode: int = 0o600) -> int:
        """The call open."""
        if self.read_only and flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return super().open(path, flags, mode)


class Striker:
    """Strikes where it is told to."""

    def __init__(self, words: str) -> None:
        self.fault, self.edge, self.state, file = words.split(":", 3)
        self.file, self.disk = Path(file), Journal()
        self.disk.read_only = (self.fault, self.edge) == (READ_ONLY, "begin")

    def __call__(self, edge: str, state: str) -> None:
        """One step of the trial."""
        if (edge, state) != (self.edge, self.state):
            return
        times = int(self.file.read_text()) if self.file.exists() else 0
        if times and self.fault != KILL_FOR_EVER:
            return
        self.file.write_text(str(times + 1))
        if self.fault in (KILL, KILL_FOR_EVER):
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.fault == ERROR:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        elif self.fault == READ_ONLY:
            self.disk.read_only = True
        elif self.fault == HANG:
            for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
                if b"edgekit_device.worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(int(pid), signal.SIGSTOP)


def main() -> int:
    """Run."""
    striker, plain = Striker(os.environ["STRIKE"]), running.ground_for

    def ground_for(args: object) -> Ground | None:
        found = plain(args)  # type: ignore[arg-type]
        return found and replace(found, disk=striker.disk, watcher=striker)

    running.ground_for = ground_for
    return running.run(parser().parse_args(["run", *sys.argv[1:]]))


if __name__ == "__main__":
    sys.exit(main())
