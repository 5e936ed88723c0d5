"""A folder of captured pictures: whole or not there, within a budget of bytes, each with its line in a manifest.

Pictures of a home are nobody else's business: folder 0700, files 0600.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgekit_device.contract.errors import AlbumError
from edgekit_device.disk import TEMPORARY, make_folders, replace_file

MANIFEST = "manifest.jsonl"
_PREFIX, _SUFFIX = "frame-", ".jpg"


class Album:
    """Pictures of one folder, earlier runs included.

    Attributes:
        used_bytes: What the folder holds, manifest and all.
    """

    def __init__(self, folder: Path, budget_bytes: int) -> None:
        self.folder, self.budget_bytes = folder, budget_bytes
        try:
            make_folders(folder, 0o700)
            for left in folder.glob(f"{TEMPORARY}{_PREFIX}*"):
                left.unlink()  # A power cut came before its rename.
            self.used_bytes = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
            self._mend_manifest()
        except OSError as cause:
            raise AlbumError(str(folder), cause.strerror or str(cause)) from cause
        numbers = [int(n) for f in self.pictures() if (n := f.stem.removeprefix(_PREFIX)).isdecimal()]
        self._next = max(numbers, default=-1) + 1

    def _mend_manifest(self) -> None:
        """End a last line that a power cut left without its end."""
        path = self.folder / MANIFEST
        if path.exists() and (data := path.read_bytes()) and not data.endswith(b"\n"):
            whole = data[: data.rfind(b"\n") + 1]
            replace_file(path, whole, 0o600)
            self.used_bytes -= len(data) - len(whole)

    def pictures(self) -> list[Path]:
        """The captured pictures, oldest first."""
        return sorted(self.folder.glob(f"{_PREFIX}*{_SUFFIX}"))

    def entries(self) -> Iterator[dict[str, Any]]:
        """The manifest's lines."""
        path = self.folder / MANIFEST
        for line in path.read_text("utf-8").splitlines() if path.exists() else ():
            yield json.loads(line)

    def add(self, jpeg: bytes, about: Mapping[str, Any]) -> Path | None:
        """Keep one picture.

        Args:
            jpeg: The file's bytes.
            about: What the manifest is to say beside name, size and digest.

        Returns:
            Its path; None when it does not fit the budget, and nothing was written.

        Raises:
            AlbumError: The disk refuses.
        """
        path = self.folder / f"{_PREFIX}{self._next:06d}{_SUFFIX}"
        entry = {**about, "file": path.name, "bytes": len(jpeg), "sha256": hashlib.sha256(jpeg).hexdigest()}
        line = (json.dumps(entry, sort_keys=True, ensure_ascii=False) + "\n").encode()
        if self.used_bytes + len(jpeg) + len(line) > self.budget_bytes:
            return None
        try:
            replace_file(path, jpeg, 0o600)
            self._append(line)
        except OSError as cause:
            raise AlbumError(str(path), cause.strerror or str(cause)) from cause
        self._next += 1
        self.used_bytes += len(jpeg) + len(line)
        return path

    def _append(self, line: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self.folder / MANIFEST, flags, 0o600)
        try:
            os.write(descriptor, line)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
