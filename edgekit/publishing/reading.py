"""The repository as its files say it is; read only.

FOLDER/metadata/N.root.json  N.targets.json          signed offline
FOLDER/metadata/N.snapshot.json  timestamp.json      signed online, again every day
FOLDER/targets/bundles/SHA256.NAME-VERSION.edgekit   the files; and each one's .minisig
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from edgekit.publishing.errors import RepositoryFilesError
from edgekit.publishing.keys import ROOT, TARGETS
from edgekit.publishing.signing import LIFE

if TYPE_CHECKING:
    from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp


class Offer(NamedTuple):
    """A file that is offered.

    Attributes:
        path: Of the target, such as ``bundles/lite0-1.0.0.edgekit``.
        length: Bytes.
        sha256: Hex.
        custom: What the publisher said of it, such as ``notes``.
    """

    path: str
    length: int
    sha256: str
    custom: Mapping[str, Any]


class RepositoryFiles:
    """One repository.

    Args:
        folder: Where it lies.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.metadata, self.targets = folder / "metadata", folder / "targets"

    @property
    def exists(self) -> bool:
        """Whether it was made."""
        return (self.metadata / "1.root.json").is_file()

    def root(self) -> Metadata[Root]:
        """The newest root."""
        found: Metadata[Root] = self.read(self.newest(ROOT), ROOT)
        return found

    def root_bytes(self) -> bytes:
        """The newest root as boards get it."""
        return self.newest(ROOT).read_bytes()

    def roots(self) -> list[bytes]:
        """Every root, the newest last."""
        return [path.read_bytes() for path in sorted(self.metadata.glob(f"*.{ROOT}.json"), key=number_of)]

    def shown(self) -> tuple[Metadata[Timestamp], Metadata[Snapshot], Metadata[Targets]] | None:
        """What boards see: timestamp, snapshot, targets; None before anything was signed online."""
        if not (self.metadata / "timestamp.json").is_file():
            return None
        timestamp = self.read(self.metadata / "timestamp.json", "timestamp")
        snapshot = self.read(self.metadata / f"{timestamp.signed.snapshot_meta.version}.snapshot.json", "snapshot")
        number = snapshot.signed.meta["targets.json"].version
        return timestamp, snapshot, self.read(self.metadata / f"{number}.targets.json", TARGETS)

    def offers(self) -> list[Offer]:
        """What the newest targets offer, shown or about to be."""
        if not self.exists:
            return []
        found = self.read(self.newest(TARGETS), TARGETS).signed.targets
        return [
            Offer(path, target.length, target.hashes["sha256"], target.custom or {})
            for path, target in sorted(found.items())
        ]

    def expiries(self) -> dict[str, datetime]:
        """When each role's newest metadata ends."""
        if not self.exists:
            return {}
        found = {ROOT: self.root().signed.expires, TARGETS: self.read(self.newest(TARGETS), TARGETS).signed.expires}
        shown = self.shown()
        if shown is not None:
            found |= {"snapshot": shown[1].signed.expires, "timestamp": shown[0].signed.expires}
        return found

    def versions(self) -> dict[str, int]:
        """Of what was signed online last: never counted down, whatever was lost."""
        snapshots = [number_of(path) for path in self.metadata.glob("*.snapshot.json")]
        try:
            timestamp = self.read(self.metadata / "timestamp.json", "timestamp").signed
        except RepositoryFilesError:
            return {"snapshot": max(snapshots, default=0), "timestamp": max(snapshots, default=0)}
        return {
            "snapshot": max([*snapshots, timestamp.snapshot_meta.version]),
            "timestamp": timestamp.version,
        }

    def newest(self, role: str) -> Path:
        """The file of a role's highest version."""
        found = sorted(self.metadata.glob(f"*.{role}.json"), key=number_of)
        if not found:
            problem = "there is no repository; begin one with: edgekit fleet publish BUNDLE"
            raise RepositoryFilesError(str(self.folder), problem)
        return found[-1]

    def read(self, path: Path, role: str) -> Any:
        """A file of metadata; its signature is not looked at.

        Raises:
            RepositoryFilesError: It cannot be read, or is of another role.
        """
        from tuf.api.exceptions import RepositoryError
        from tuf.api.metadata import Metadata

        try:
            found: Any = Metadata.from_bytes(path.read_bytes())
        except (OSError, RepositoryError) as cause:
            problem = f"cannot be read ({type(cause).__name__}); restore it from a copy, or publish into a new folder"
            raise RepositoryFilesError(str(path), problem) from cause
        if found.signed.type != role:
            raise RepositoryFilesError(str(path), f"is {found.signed.type}, not {role}")
        return found


def number_of(path: Path) -> int:
    """The version in a file's name."""
    text = path.name.partition(".")[0]
    return int(text) if text.isdigit() else 0


def alarm_at(expires: datetime, role: str) -> datetime:
    """From when on an end is worth an alarm: 90 days before, or half a life where the whole life is shorter."""
    return expires - min(timedelta(days=90), LIFE[role] / 2)
