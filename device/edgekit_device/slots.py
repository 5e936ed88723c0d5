"""Releases on the board, and the one that is current: never half, never unsigned, never dangling.

One rename, that of ``current``, commits a switch. What was current before is written into the release that is
entered *before* that rename, so that "current" and "previous" can never disagree after a power cut.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from edgekit_device.bundle import Bundle, open_bundle, open_signed
from edgekit_device.contract.errors import (
    DanglingSlotError,
    NoPreviousSlotError,
    RejectedReleaseError,
    SlotBusyError,
    SlotDiskError,
    SlotFullError,
    UnknownSlotError,
)
from edgekit_device.disk import (
    REAL_DISK,
    TEMPORARY,
    Disk,
    discard,
    make_folders,
    replace_file,
    replace_link,
    sync_folder,
)
from edgekit_device.epoch import check_epoch, remember
from edgekit_device.releases import (
    CURRENT,
    MAX_RELEASES,
    PREVIOUS,
    RELEASES,
    ROOT,
    Slot,
    current,
    entered,
    list_slots,
    previous,
    slot_of,
)
from edgekit_device.requirements import check_requirements
from edgekit_device.staging import drop, drop_spare, holds, stage
from edgekit_device.verdicts import PENDING, REJECTED, Verdict, keep_verdict, read_verdicts, trusted, verdict_of

__all__ = [
    "MAX_RELEASES",
    "ROOT",
    "Slot",
    "Trial",
    "current",
    "holds",
    "install",
    "judge",
    "list_slots",
    "previous",
    "recover",
    "rollback",
    "switch",
]

Trial = Callable[[Bundle, bytes], object]
"""Judges a checked bundle and its raw bytes before they are entered; it refuses by raising."""

_LOCK = ".lock"


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


def install(
    root: Path,
    bundle_path: Path,
    keys: Sequence[Path],
    *,
    trial: Trial | None = None,
    force: bool = False,
    disk: Disk = REAL_DISK,
) -> Slot:
    """Check a bundle, try it, put it into a slot of its own and make it current.

    Whatever interrupts this, the board is left with the old release or the new one, and the next call ends
    where this one should have. The same bytes again change nothing. The file is read once: the bytes that were
    checked are the bytes that are tried and written.

    Args:
        root: Usually /opt/edgekit.
        bundle_path: The ``.edgekit`` file, its signature beside it.
        keys: Files of the public keys that count.
        trial: Called before anything is written, unless the release is current already.
        force: Try it although it was rejected before, and be content with a slower or larger model.
        disk: Where the system calls go.

    Raises:
        RejectedReleaseError: This board tried these bytes before and went back.
        BundleError: The bundle is not as signed, not signed by one of the keys, or requires a newer runtime.
        SecurityEpochError: Its security epoch is lower than one that the board has entered.
        SlotConflictError: Other bytes are installed under the same name and version.
        SlotFullError: There is no room; everything is as it was.
        SlotError: Another installer runs, or the disk refuses.
    """
    with _exclusive(root, disk):
        _recover(root, disk)
        held = entered(root)
        bundle, data, signature = open_signed(bundle_path, keys)
        check_requirements(bundle.manifest)
        slot = slot_of(root, bundle.manifest.bundle_id)
        same = holds(slot, data, keys)
        if not same:
            check_epoch(root, bundle.manifest)
        old = verdict_of(root, bundle.manifest.bundle_id)
        if old.state == REJECTED and old.sha256 == bundle.sha256 and not force:
            raise RejectedReleaseError(bundle.manifest.bundle_id, old.reason)
        if trial and not (same and current(root) == slot):
            trial(bundle, data)
        if force or old.sha256 not in ("", bundle.sha256):
            keep_verdict(root, bundle.manifest.bundle_id, Verdict(bundle.sha256, PENDING, forced=force), disk)
        stage(root, slot, data, signature, disk, same=same)
        try:
            _switch(root, slot, disk)
        except OSError:
            if slot.bundle_id not in held and current(root) != slot:
                drop(slot, disk)
            raise
        drop_spare(root, disk)
        return slot


def judge(root: Path, bundle_id: str, verdict: Verdict, *, disk: Disk = REAL_DISK) -> Slot | None:
    """Write down what became of a release; when it is rejected and current, the trusted one becomes current.

    A power cut between the two is mended by the recovery that every start and every change begins with.

    Returns:
        The current release.

    Raises:
        SlotError: Another installer runs, or the disk refuses.
    """
    with _exclusive(root, disk):
        keep_verdict(root, bundle_id, verdict, disk)
        _leave_rejected(root, disk)
        return current(root)


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


def rollback(
    root: Path = ROOT,
    *,
    keys: Sequence[Path] = (),
    trial: Trial | None = None,
    force: bool = False,
    disk: Disk = REAL_DISK,
) -> Slot:
    """Go back to the release that served before; a second call goes forward again.

    Args:
        root: Usually /opt/edgekit.
        keys: Files of the public keys that count, for the trial.
        trial: Called before the switch; without one the release is entered as it lies.
        force: Enter it although it was rejected.
        disk: Where the system calls go.

    Raises:
        RejectedReleaseError: That release was tried and rejected.
        NoPreviousSlotError: There is no release to go back to.
        BundleError: With a trial: that release is damaged, or its key counts no more.
        SlotError: Another installer runs, or the disk refuses.
    """
    with _exclusive(root, disk):
        _recover(root, disk)
        target = previous(root)
        if target is None:
            raise NoPreviousSlotError(str(root))
        old = verdict_of(root, target.bundle_id)
        if old.state == REJECTED:
            if not force:
                raise RejectedReleaseError(target.bundle_id, old.reason)
            keep_verdict(root, target.bundle_id, Verdict(old.sha256, PENDING, forced=True), disk)
        if trial:
            trial(*open_bundle(target.bundle_path, keys))
        _switch(root, target, disk)
        return target


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
        verdicts = read_verdicts(root)
        left = sorted(list_slots(root), key=lambda slot: verdicts.get(slot.bundle_id, Verdict()).state == REJECTED)
        if left:
            replace_link(root / CURRENT, f"{RELEASES}/{left[0].bundle_id}", disk)
        else:
            disk.unlink(root / CURRENT)
            sync_folder(root, disk)
    remember(root, disk)
    _leave_rejected(root, disk)
    drop_spare(root, disk)
    return current(root)


def _leave_rejected(root: Path, disk: Disk) -> None:
    """Go back to the trusted release. Its own `previous` stays: a rejected one is nothing to go back to."""
    serving, back = current(root), trusted(root)
    if serving and back and verdict_of(root, serving.bundle_id).state == REJECTED:
        replace_link(root / CURRENT, f"{RELEASES}/{back.bundle_id}", disk)


def _switch(root: Path, slot: Slot, disk: Disk) -> None:
    serving = current(root)
    if serving == slot:
        return
    replace_file(slot.folder / PREVIOUS, (serving.bundle_id if serving else "").encode("ascii"), disk=disk)
    replace_link(root / CURRENT, f"{RELEASES}/{slot.bundle_id}", disk)
    remember(root, disk)
