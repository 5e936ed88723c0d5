"""What the running supervisor says, in a file that `edgekit-device status` and `doctor` read.

A thread writes it: a card that stalls must not stall the run. In memory (/run) it is written with each Reading; on
a card only when what it says changes, and at most six times a minute.
"""

from __future__ import annotations

import collections
import json
import os
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

NAME = "status.json"
RUN_DIR, STATE_DIR = "/run/edgekit", "/var/lib/edgekit"
_PAUSE_S = 0.5
_CARD_WRITES, _CARD_SPAN_S = 6, 60.0
_CLOSE_WAIT_S = 1.0
_MAX_BYTES = 1 << 20
# What changes with every frame; alone it is no reason to write to a card.
_VOLATILE = ("written_at", "written_at_s", "reading", "outlets")


def started_ticks(pid: int, proc: Path = Path("/proc")) -> int | None:
    """When a process started, in clock ticks since boot: with its id it names a process for good, unlike the id alone.

    Args:
        pid: Process id.
        proc: Where procfs is.
    """
    try:
        # The name in brackets may hold spaces and brackets; the fields after the last one are numbers.
        # By its first thread: qemu-user invents a process's own /proc/PID/stat, with another start.
        stat = proc / str(pid) / "task" / str(pid) / "stat"
        fields = stat.read_text("utf-8", "replace").rpartition(")")[2].split()
        return None if fields[0] in "ZX" else int(fields[19])
    except (OSError, ValueError, IndexError):
        return None


def candidates(root: Path = Path("/")) -> tuple[Path, ...]:
    """Where the status of what runs below a root may lie, best first."""
    places = [root / RUN_DIR.lstrip("/") / NAME, root / STATE_DIR.lstrip("/") / NAME]
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if root == Path("/") and runtime:
        places.append(Path(runtime) / "edgekit" / NAME)
    return tuple(places)


def writable_place(places: Sequence[Path]) -> Path | None:
    """The first place whose folder is there, or can be made, and may be written to."""
    for path in places:
        folder = path.parent
        try:
            if folder.parent.is_dir():
                folder.mkdir(mode=0o755, exist_ok=True)
        except OSError:
            continue
        if folder.is_dir() and os.access(folder, os.W_OK | os.X_OK):
            return path
    return None


def in_memory(folder: Path, mounts: Path = Path("/proc/self/mounts")) -> bool:
    """Whether a folder lies on a tmpfs, where writing wears nothing out."""
    try:
        whole = str(folder.resolve())
        kinds = {fields[1]: fields[2] for line in mounts.read_text().splitlines() if len(fields := line.split()) > 2}
    except OSError:
        return False
    above = [mount for mount in kinds if whole == mount or whole.startswith(mount.rstrip("/") + "/")]
    return bool(above) and kinds[max(above, key=len)] in ("tmpfs", "ramfs")


class StatusFile:
    """Writes the newest document, atomically, in the background."""

    def __init__(self, path: Path, *, pause_s: float = _PAUSE_S, span_s: float = _CARD_SPAN_S) -> None:
        """Args: the file; the least seconds between two writes; the seconds in which a card sees at most six."""
        self.path = path
        self._memory = in_memory(path.parent)
        self._pause_s, self._span_s = pause_s, span_s
        self._written_s: collections.deque[float] = collections.deque(maxlen=_CARD_WRITES)
        self._newest: dict[str, Any] | None = None
        self._wanted = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="status-file", daemon=True)
        self._thread.start()

    def put(self, document: Mapping[str, Any]) -> None:
        """Hand over what is to be said now; never waits."""
        before, self._newest = self._newest, dict(document)
        if before is None or self._memory or _steady(before) != _steady(self._newest):
            self._wanted.set()

    def close(self) -> None:
        """Write the last document and end."""
        self._stop.set()
        self._wanted.set()
        self._thread.join(_CLOSE_WAIT_S)

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            # Asked before the document is taken: one that was handed over while another was written is still to come.
            last = self._stop.is_set()
            if self._newest is not None:
                self._write(self._newest)
            if last:
                return
            self._stop.wait(self._rest_s())

    def _rest_s(self) -> float:
        """How long to write nothing: a change is seen at once, and a board that flaps wears no card out."""
        now_s = time.monotonic()
        self._written_s.append(now_s)
        if self._memory or len(self._written_s) < _CARD_WRITES:
            return self._pause_s
        return max(self._pause_s, self._written_s[0] + self._span_s - now_s)

    def _write(self, document: Mapping[str, Any]) -> None:
        temporary = self.path.with_name(f".new-{NAME}")
        try:
            # No fsync: after a power cut nothing runs, so nothing is lost with the file.
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(document, file, sort_keys=True)
            temporary.replace(self.path)
        except OSError:
            pass  # A full or read-only disk: `status` will say how old the file is.


class Found(NamedTuple):
    """What was found in place of a running supervisor.

    Attributes:
        path: The file; None when there is none.
        document: What it says.
        alive: Whether the process that wrote it still runs.
        age_s: Seconds since it was written, on the clock since boot; None if unknown.
    """

    path: Path | None
    document: dict[str, Any]
    alive: bool
    age_s: float | None


def look_up(root: Path = Path("/"), *, proc: Path = Path("/proc")) -> Found:
    """Read what the supervisor below a root says, and whether it is alive; a living one wins over a dead one.

    Args:
        root: Folder that stands for the board's root.
        proc: Where procfs is.
    """
    best = Found(None, {}, False, None)
    for path in candidates(root):
        document = _read(path)
        if document is None:
            continue
        pid, ticks = document.get("pid"), document.get("pid_started_ticks")
        alive = isinstance(pid, int) and ticks is not None and started_ticks(pid, proc) == ticks
        written = document.get("written_at_s")
        age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - written if isinstance(written, int | float) else None
        found = Found(path, document, alive, age_s if age_s is not None and age_s >= 0 else None)
        if alive:
            return found
        best = found if best.path is None else best
    return best


def _steady(document: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key not in _VOLATILE}


def _read(path: Path) -> dict[str, Any] | None:
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(_MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
