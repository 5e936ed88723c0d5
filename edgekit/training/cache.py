"""Arrays that took time to make, kept between runs: one folder a key, whole or not there, the oldest thrown away."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

LIMIT_BYTES = 8 << 30
_FACTS = "facts.json"


class Cache:
    """A folder of folders.

    Attributes:
        root: ``$XDG_CACHE_HOME/edgekit`` by default; nothing in it is needed, all of it can be made again.
    """

    def __init__(self, root: Path | None = None, *, limit_bytes: int = LIMIT_BYTES) -> None:
        self.root = root or default_root()
        self.limit_bytes = limit_bytes

    def folder(self, key: str, fill: Callable[[Path], dict[str, Any]]) -> tuple[Path, dict[str, Any]]:
        """Find an entry, or make it.

        Args:
            key: Its name; it says everything that its content hangs on.
            fill: Writes files into a folder and returns facts to keep.

        Returns:
            (the folder, its facts).
        """
        place = self.root / key
        with suppress(OSError, ValueError):
            facts = json.loads((place / _FACTS).read_text("utf-8"))
            os.utime(place)
            return place, facts
        self.root.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(prefix=".part-", dir=self.root))
        try:
            facts = fill(staged)
            (staged / _FACTS).write_text(json.dumps(facts), "utf-8")
            shutil.rmtree(place, ignore_errors=True)
            with suppress(OSError):  # Another process was faster; its entry is as good.
                staged.rename(place)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        self._trim(keep=place)
        return place, facts

    def _trim(self, keep: Path) -> None:
        """Throw the longest unused away, and what a kill left half-made long ago."""
        entries = sorted(
            (entry for entry in self.root.iterdir() if entry.is_dir() and entry != keep),
            key=lambda entry: entry.stat().st_mtime,
            reverse=True,
        )
        total = _size(keep)
        for entry in entries:
            total += _size(entry)
            if total > self.limit_bytes:
                shutil.rmtree(entry, ignore_errors=True)


def default_root() -> Path:
    """Where caches lie: $XDG_CACHE_HOME/edgekit, or ~/.cache/edgekit."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "edgekit"


def _size(folder: Path) -> int:
    with suppress(OSError):
        return sum(file.stat().st_size for file in folder.iterdir())
    return 0
