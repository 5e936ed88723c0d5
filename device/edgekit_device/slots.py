"""Releases on the board, and the one that is current: never half, never unsigned, never dangling.

One rename, that of ``current``, commits a switch. What was current before is written into the release that is
entered *before* that rename, so that "current" and "previous" can never disagree after a power cut.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from edgekit_device.bundle import check_signature, open_bundle, parse_bundle, read_file
from edgekit_device.contract.errors import (
    BundleError,
    DanglingSlotError,
    NoPreviousSlotError,
    SlotBusyError,
    SlotConflictError,
    SlotDiskError,
    SlotFullError,
    UnknownSlotError,
    UnsignedBundleError,
    UntrustedKeyError,
)
from edgekit_device.contract.manifest import MAX_BUNDLE_BYTES
from edgekit_device.disk import (
    REAL_DISK,
    TEMPORARY,
    Disk,
    discard,
    make_folders,
    replace_file,
    replace_link,
    sync_folder,
    write_new,
)
from edgekit_device.releases import (
    BUNDLE,
    CURRENT,
    MAX_RELEASES,
    PREVIOUS,
    RELEASES,
    ROOT,
    SIGNATURE,
    Slot,
    current,
    entered,
    list_slots,
    previous,
    releases_to_drop,
    slot_of,
)

__all__ = [
    "MAX_RELEASES",
    "ROOT",
    "Slot",
    "current",
    "holds",
    "install",
    "list_slots",
    "previous",
    "recover",
    "rollback",
    "switch",
]

_LOCK = ".lock"
_MAX_SIGNATURE_BYTES = 4096
_SLACK_BYTES = 64 << 10  # Folders, the link and the small file, rounded up to whole blocks.


def recover(root: Path = ROOT, *, disk: Disk = REAL_DISK) -> Slot | None:
    """Clean up after an interruption; call it when the board starts.

    Temporary files go, a release too many goes, and a dangling ``current`` is pointed to the release that
    was entered last among those that are left.

    Returns:
        The release that serves, or None.

    Raises:
        SlotError: Another installer runs, or the disk refuses.
    """
    with _exclusive(root, disk):
        return _recover(root, disk)


def install(root: Path, bundle_path: Path, keys: Sequence[Path], *, disk: Disk = REAL_DISK) -> Slot:
    """Check a bundle, put it into a slot of its own and make it current.

    Whatever interrupts this, the board is left with the old release or the new one, and the next call ends
    where this one should have. The same bytes again change nothing.

    Args:
        root: Usually /opt/edgekit.
        bundle_path: The ``.edgekit`` file, its signature beside it.
        keys: Files of the public keys that count.
        disk: Where the system calls go.

    Raises:
        BundleError: The bundle is not as signed, or not signed by one of the keys.
        SlotConflictError: Other bytes are installed under the same name and version.
        SlotFullError: There is no room; everything is as it was.
        SlotError: Another installer runs, or the disk refuses.
    """
    with _exclusive(root, disk):
        _recover(root, disk)
        held = entered(root)
        slot = _stage(root, bundle_path, keys, disk)
        try:
            _switch(root, slot, disk)
        except OSError:
            if slot.bundle_id not in held and current(root) != slot:
                _drop(slot, disk)
            raise
        _drop_spare(root, disk)
        return slot


def switch(root: Path, slot: Slot | str, *, disk: Disk = REAL_DISK) -> Slot:
    """Make a release that the board holds the current one.

    Raises:
        UnknownSlotError: The board holds no such release.
        SlotError: Another installer runs, or the disk refuses.
    """
    name = slot if isinstance(slot, str) else slot.bundle_id
    with _exclusive(root, disk):
        _recover(root, disk)
        held = entered(root)
        if name not in held:
            raise UnknownSlotError(name, sorted(held))
        _switch(root, slot_of(root, name), disk)
        return slot_of(root, name)


def rollback(root: Path = ROOT, *, disk: Disk = REAL_DISK) -> Slot:
    """Go back to the release that served before; a second call goes forward again.

    Raises:
        NoPreviousSlotError: There is no release to go back to.
        SlotError: Another installer runs, or the disk refuses.
    """
    with _exclusive(root, disk):
        _recover(root, disk)
        target = previous(root)
        if target is None:
            raise NoPreviousSlotError(str(root))
        _switch(root, target, disk)
        return target


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
        open_bundle(slot.bundle_path, keys)
    except UntrustedKeyError:
        pass  # Whole, and signed by a key that has been replaced since: not ours to overwrite.
    except BundleError:
        return False
    raise SlotConflictError(slot.bundle_id)


@contextmanager
def _exclusive(root: Path, disk: Disk) -> Iterator[None]:
    with _named_failures(root):
        make_folders(root / RELEASES, disk=disk)
        descriptor = os.open(root / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as cause:
                raise SlotBusyError(str(root)) from cause
            yield
        finally:
            os.close(descriptor)


@contextmanager
def _named_failures(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as cause:
        if cause.errno in (errno.ENOSPC, errno.EDQUOT):
            raise SlotFullError(str(root), None, None) from cause
        raise SlotDiskError(str(cause.filename or root), cause.strerror or str(cause)) from cause


def _recover(root: Path, disk: Disk) -> Slot | None:
    for folder in (root, root / RELEASES, *(slot.folder for slot in list_slots(root))):
        for entry in sorted(folder.glob(f"{TEMPORARY}*")):
            discard(entry, disk)
    try:
        current(root)
    except DanglingSlotError:
        left = list_slots(root)
        if left:
            replace_link(root / CURRENT, f"{RELEASES}/{left[0].bundle_id}", disk)
        else:
            disk.unlink(root / CURRENT)
            sync_folder(root, disk)
    _drop_spare(root, disk)
    return current(root)


def _drop_spare(root: Path, disk: Disk, *, keep: int = MAX_RELEASES) -> None:
    serving, before = current(root), previous(root)
    names = (serving.bundle_id if serving else None), (before.bundle_id if before else None)
    for name in releases_to_drop(entered(root), *names, keep=keep):
        _drop(slot_of(root, name), disk)


def _drop(slot: Slot, disk: Disk) -> None:
    # Renamed first: a release is whole or it is not there.
    doomed = slot.folder.with_name(f"{TEMPORARY}{slot.bundle_id}")
    discard(doomed, disk)
    disk.rename(slot.folder, doomed)
    sync_folder(doomed.parent, disk)
    discard(doomed, disk)


def _stage(root: Path, bundle_path: Path, keys: Sequence[Path], disk: Disk) -> Slot:
    """Put a checked bundle into a slot without entering it; a no-op if the slot holds the same bytes."""
    # Each file is read once: the bytes that were checked are the bytes that are written.
    data = read_file(bundle_path, MAX_BUNDLE_BYTES)
    beside = bundle_path.with_name(bundle_path.name + ".minisig")
    if not beside.is_file():
        raise UnsignedBundleError(str(bundle_path))
    signature = read_file(beside, _MAX_SIGNATURE_BYTES)
    key_id = check_signature(data, signature, str(bundle_path), keys)
    slot = slot_of(root, parse_bundle(data, str(bundle_path), key_id).manifest.bundle_id)
    if slot.folder.is_dir():
        _resume(slot, data, signature, keys, disk)
        return slot
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
            _drop(slot, disk)
        raise
    return slot


def _resume(slot: Slot, data: bytes, signature: bytes, keys: Sequence[Path], disk: Disk) -> None:
    """The slot exists: keep it, or mend it if it is damaged."""
    beside = slot.folder / SIGNATURE
    if not holds(slot, data, keys):
        replace_file(slot.bundle_path, data, disk=disk)
    if not beside.is_file() or read_file(beside, _MAX_SIGNATURE_BYTES) != signature:
        replace_file(beside, signature, disk=disk)


def _make_room(root: Path, needed: int, disk: Disk) -> None:
    if disk.free_bytes(root) < needed:
        # A release that is neither current nor previous would go after the switch anyhow.
        _drop_spare(root, disk, keep=MAX_RELEASES - 1)
    free = disk.free_bytes(root)
    if free < needed:
        raise SlotFullError(str(root), needed, free)


def _switch(root: Path, slot: Slot, disk: Disk) -> None:
    serving = current(root)
    if serving == slot:
        return
    replace_file(slot.folder / PREVIOUS, (serving.bundle_id if serving else "").encode("ascii"), disk=disk)
    replace_link(root / CURRENT, f"{RELEASES}/{slot.bundle_id}", disk)
