"""What became of the last thing that was asked for, over restarts: each wish is carried out once.

/var/lib/edgekit/updates/<kind>.json   {"schema": 1, "name": .., "force": .., "state": .., "reason": .., ...}
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from edgekit_device.disk import make_folders, replace_file

_MAX_BYTES = 1 << 16
ENDS = ("committed", "rolled_back", "refused")


@dataclass(frozen=True)
class Memory:
    """One wish, and how far it got.

    Attributes:
        name: Of the release; empty for none yet.
        force: The word of `desired` that came with it.
        state: One of `ENDS`, or ``entered`` while it is tried.
        reason: In words.
        error: Name of the error's class.
    """

    name: str = ""
    force: str | None = None
    state: str = ""
    reason: str | None = None
    error: str | None = None

    @property
    def ended(self) -> bool:
        """Whether there is nothing left to do for it."""
        return self.state in ENDS


def read_memory(path: Path) -> Memory:
    """What was kept; nothing where the file is missing or damaged: the wish is then looked at once more."""
    try:
        with path.open("rb") as file:
            values = json.loads(file.read(_MAX_BYTES))
        known = {key: values.get(key) for key in ("name", "force", "state", "reason", "error")}
        if any(not isinstance(value, str | None) for value in known.values()):
            return Memory()
        return Memory(**{**known, "name": known["name"] or "", "state": known["state"] or ""})
    except (OSError, ValueError, AttributeError, RecursionError):
        return Memory()


def keep_memory(path: Path, memory: Memory) -> bool:
    """Keep it; False where the disk refuses, and it is tried again."""
    try:
        make_folders(path.parent, 0o700)
        replace_file(path, (json.dumps({"schema": 1, **asdict(memory)}) + "\n").encode())
    except OSError:
        return False
    return True
