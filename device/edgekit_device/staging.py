"""Put a checked bundle into a slot of its own, and take slots away: whole, or not there.

`edgekit_device.slots` holds the lock and decides when.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgekit_device.bundle import MAX_SIGNATURE_BYTES, open_signed, read_file
from edgekit_device.contract.errors import (
    BundleError,
    ContractError,
    SlotConflictError,
    SlotFullError,
    UntrustedKeyError,
)
from edgekit_device.contract.file_table import MAX_BUNDLE_BYTES
from edgekit_device.disk import TEMPORARY, Disk, discard, replace_file, sync_folder, write_new
from edgekit_device.releases import (
    BUNDLE,
    MAX_RELEASES,
    RELEASES,
    SIGNATURE,
    Slot,
    current,
    entered,
    previous,
    releases_to_drop,
    slot_of,
)
from edgekit_device.verdicts import trusted

_SLACK_BYTES = 64 << 10  # Folders, the link and the small files, rounded up to whole blocks.


def holds(slot: Slot, data: bytes, keys: Sequence[Path]) -> bool:
    """Whether a slot holds exactly these bytes; False if there is none, or it is damaged and may be mended.

    Raises:
        SlotConflictError: It holds another bundle, whole and signed, under the same name and version.
    """
    if not slot.bundle_path.is_file():
        return False
    if read_file(slot.bundle_path, MAX_BUNDLE_BYTES) == data:
        return True
    try:
        open_signed(slot.bundle_path, keys)
    except UntrustedKeyError:
        pass  # Whole, and signed by a key that has been replaced since: not ours to overwrite.
    except BundleError:
        return False
    except ContractError:
        pass  # Whole and signed, for a newer runtime than this.
    raise SlotConflictError(slot.bundle_id)


def stage(root: Path, slot: Slot, data: bytes, signature: bytes, disk: Disk, *, same: bool) -> None:
    """Put bytes that were checked into a slot without entering it.

    Args:
        root: Where the releases lie.
        slot: Where they belong.
        data: The bundle.
        signature: Content of its signature file.
        disk: Where the system calls go.
        same: The slot holds the bundle already; then only its signature may change.
    """
    if slot.folder.is_dir():
        beside = slot.folder / SIGNATURE
        if not same:
            replace_file(slot.bundle_path, data, disk=disk)
        if not beside.is_file() or read_file(beside, MAX_SIGNATURE_BYTES) != signature:
            replace_file(beside, signature, disk=disk)
        return
    _make_room(root, len(data) + len(signature) + _SLACK_BYTES, disk)
    incoming = slot.folder.with_name(f"{TEMPORARY}{slot.bundle_id}")
    try:
        disk.mkdir(incoming)
        disk.chmod(incoming, 0o755)
        write_new(incoming / BUNDLE, data, disk=disk)
        write_new(incoming / SIGNATURE, signature, disk=disk)
        sync_folder(incoming, disk)
        disk.rename(incoming, slot.folder)
        sync_folder(root / RELEASES, disk)
    except OSError:
        discard(incoming, disk)
        if slot.folder.is_dir():
            drop(slot, disk)
        raise


def drop(slot: Slot, disk: Disk) -> None:
    """Take a release away."""
    # Renamed first: a release is whole or it is not there.
    doomed = slot.folder.with_name(f"{TEMPORARY}{slot.bundle_id}")
    discard(doomed, disk)
    disk.rename(slot.folder, doomed)
    sync_folder(doomed.parent, disk)
    discard(doomed, disk)


def drop_spare(root: Path, disk: Disk, *, keep: int = MAX_RELEASES) -> None:
    """Take away what was entered longest ago, until at most `keep` releases are left."""
    needed = (current(root), previous(root), trusted(root))
    for name in releases_to_drop(entered(root), *(slot.bundle_id if slot else None for slot in needed), keep=keep):
        drop(slot_of(root, name), disk)


def _make_room(root: Path, needed: int, disk: Disk) -> None:
    if disk.free_bytes(root) < needed:
        # A release that is neither current nor previous would go after the switch anyhow.
        drop_spare(root, disk, keep=MAX_RELEASES - 1)
    free = disk.free_bytes(root)
    if free < needed:
        raise SlotFullError(str(root), needed, free)
