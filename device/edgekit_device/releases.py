"""The releases that a board holds: how they lie on the disk, and how to read that.

    ROOT/releases/<name-version>/bundle.edgekit           as signed
    ROOT/releases/<name-version>/bundle.edgekit.minisig
    ROOT/releases/<name-version>/previous                 what was current before this one was entered
    ROOT/current -> releases/<name-version>
    ROOT/security_epoch                                   the highest that was entered; absent while that is 0
    ROOT/trials.json                                      what became of each: `edgekit_device.verdicts`

`edgekit_device.slots` changes it; nothing here writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgekit_device.contract.errors import DanglingSlotError, UsageError
from edgekit_device.contract.ids import split_bundle_id

ROOT = Path("/opt/edgekit")
MAX_RELEASES = 3
BUNDLE, SIGNATURE = "bundle.edgekit", "bundle.edgekit.minisig"
PREVIOUS, CURRENT, RELEASES, EPOCH = "previous", "current", "releases", "security_epoch"


@dataclass(frozen=True)
class Slot:
    """One release on the board.

    Attributes:
        bundle_id: ``NAME-VERSION``.
        folder: Where it lies.
    """

    bundle_id: str
    folder: Path

    @property
    def bundle_path(self) -> Path:
        """The bundle as signed; its signature lies beside it."""
        return self.folder / BUNDLE


def releases_to_drop(last_entered: Mapping[str, int], *needed: str | None, keep: int = MAX_RELEASES) -> list[str]:
    """Decide which releases go: the ones entered longest ago, never one that is needed.

    Args:
        last_entered: When each release was last entered, in ns; 0 if never.
        needed: The current release, the previous one, the trusted one.
        keep: How many may stay.
    """
    spare = [name for name in last_entered if name not in needed]
    spare.sort(key=lambda name: (last_entered[name], name))
    return spare[: max(0, len(last_entered) - keep)]


def list_slots(root: Path = ROOT) -> tuple[Slot, ...]:
    """Every whole release, the one entered last first."""
    held = entered(root)
    return tuple(slot_of(root, name) for name in sorted(held, key=lambda name: (-held[name], name)))


def current(root: Path = ROOT) -> Slot | None:
    """The release that serves; None before the first install.

    Raises:
        DanglingSlotError: ``current`` names a release that is gone; `recover` mends that.
    """
    link = root / CURRENT
    if not link.is_symlink():
        return None
    name = link.readlink().name
    if name not in entered(root):
        raise DanglingSlotError(str(link), name)
    return slot_of(root, name)


def previous(root: Path = ROOT) -> Slot | None:
    """The release that `rollback` would enter; None if there is none."""
    serving = current(root)
    name = _read_previous(serving.folder) if serving else None
    return slot_of(root, name) if name and name in entered(root) else None


def slot_of(root: Path, name: str) -> Slot:
    """Where a release of this name lies, or would lie."""
    return Slot(name, root / RELEASES / name)


def entered(root: Path) -> dict[str, int]:
    """When each whole release was last entered, in ns since 1970; 0 if never."""
    releases, found = root / RELEASES, {}
    for folder in releases.iterdir() if releases.is_dir() else ():
        try:
            split_bundle_id(folder.name)
        except UsageError:
            continue
        mark = folder / PREVIOUS
        found[folder.name] = mark.stat().st_mtime_ns if mark.is_file() else 0
    return found


def _read_previous(folder: Path) -> str | None:
    mark = folder / PREVIOUS
    return (mark.read_text(encoding="ascii", errors="replace").strip() or None) if mark.is_file() else None
