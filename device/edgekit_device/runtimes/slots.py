"""Runtime releases on the board, and the one that should run: never half, never unsigned, never without a way back.

A release is whole when `release.json` lies beside its environment; that file is renamed into place last. What runs is
decided by the launcher from the link and the journal: see `edgekit_device.runtimes.launcher`.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from edgekit_device.contract.clock import utc_text
from edgekit_device.contract.errors import (
    EdgeKitError,
    NoPreviousSlotError,
    SecurityEpochError,
    SlotBusyError,
    SlotConflictError,
    SlotDiskError,
    SlotFullError,
    UnknownSlotError,
)
from edgekit_device.contract.runtime_errors import RejectedRuntimeError, RuntimeUnfitError
from edgekit_device.disk import REAL_DISK, Disk, discard, make_folders, replace_file
from edgekit_device.releases import ROOT
from edgekit_device.runtimes import launcher
from edgekit_device.runtimes.building import build, has_system_packages, needed_bytes, own_packages, prove
from edgekit_device.runtimes.holding import LAUNCH, MARK, held, mark_of, standing
from edgekit_device.runtimes.launcher import COMMITTED, PENDING, REJECTED, WITHIN_S
from edgekit_device.runtimes.release import Ground, RuntimeRelease, check_fit, open_runtime

__all__ = ["LAUNCH", "MARK", "MAX_RUNTIMES", "held", "install", "recover", "rollback", "standing", "switch"]

MAX_RUNTIMES = 2
"""Beside the one that flash made: what runs, and what to go back to."""
_LOCK = ".runtimes-install.lock"
_REMEMBERED = 32
_VERSION = re.compile(r"^VERSION = ([0-9]{1,6})$", re.MULTILINE)


def recover(home: Path = ROOT, *, disk: Disk = REAL_DISK) -> None:
    """Clean up after an interruption: what is not whole goes, and what is one too many.

    Raises:
        SlotError: Another installer runs, or the disk refuses.
    """
    with _exclusive(home, disk):
        _recover(home, disk)


def install(
    home: Path,
    path: Path,
    keys: Sequence[Path],
    *,
    force: bool = False,
    within_s: float = WITHIN_S,
    disk: Disk = REAL_DISK,
) -> str:
    """Check a release, build it beside the others, prove that it starts, and make it the one that should run.

    Whatever interrupts this, the board is left with the runtime it had, or the new one on trial, and the next call ends
    where this one should have. The same bytes again change nothing.

    Args:
        home: Usually /opt/edgekit.
        path: The ``.edgekit`` file, its signature beside it.
        keys: Files of the public keys that count.
        force: Try it although it was rejected before.
        within_s: How long its trial may take.
        disk: Where the system calls go; those of pip are its own.

    Returns:
        Its id.

    Raises:
        BundleError: The release is not as signed, or not signed by one of the keys.
        RuntimeUnfitError: It is for another Python, another machine, or this board has no launcher.
        RejectedRuntimeError: This board tried these bytes before and went back.
        SecurityEpochError: Its security epoch is lower than one that the board has entered.
        SlotConflictError: Other bytes are installed under the same name and version.
        SlotFullError: There is no room; everything is as it was.
        RuntimeBuildError: pip refuses; everything is as it was.
        RuntimeProofError: It does not even start; everything is as it was.
        SlotError: Another installer runs, or the disk refuses.
    """
    with _exclusive(home, disk) as lock:
        _recover(home, disk)
        release = open_runtime(path, keys)
        name = release.manifest.release_id
        _check(home, release, force=force)
        if mark_of(home, name).get("sha256") == release.sha256:
            prove(name, home / launcher.FOLDER / name / "venv")
        else:
            _build(home, release, disk, lock)
        _enter(home, name, release, within_s, force=force)
        _drop_spare(home, disk)
        return name


def switch(home: Path, name: str, *, disk: Disk = REAL_DISK) -> str:
    """Make a release that the board holds, and that passed before, the one that should run; there is no trial.

    Raises:
        UnknownSlotError: The board holds no such release, or it has not passed.
        RuntimeProofError: It does not start any more.
        SlotError: Another installer runs, or the disk refuses.
    """
    with _exclusive(home, disk):
        _recover(home, disk)
        known = launcher.read_journal(home)["releases"]
        passed = [other for other in held(home) if known.get(other, {}).get("state") == COMMITTED]
        if name not in passed:
            raise UnknownSlotError(name, passed)
        prove(name, home / launcher.FOLDER / name / "venv")
        with launcher.journal_lock(home):
            journal = launcher.read_journal(home)
            known = journal["releases"]
            entered = max(record["entered"] for record in known.values()) + 1
            known = {**known, name: {**known[name], "entered": entered}}
            launcher.write_journal(home, {**journal, "releases": known})
            launcher.point(home, name)
        return name


def rollback(home: Path = ROOT, *, disk: Disk = REAL_DISK) -> str:
    """Go back to the runtime that passed before the one that should run now; the one flash made is always there.

    Returns:
        Its id; empty for the one that flash made.

    Raises:
        NoPreviousSlotError: That one should run already.
        SlotError: Another installer runs, or the disk refuses.
    """
    with _exclusive(home, disk):
        _recover(home, disk)
        wish = launcher.wanted(home)
        if not wish:
            raise NoPreviousSlotError(str(home))
        with launcher.journal_lock(home):
            journal = launcher.read_journal(home)
            back = launcher.trusted(journal, wish, held(home).__contains__)
            entered = journal["releases"].get(wish, {}).get("entered", 0)
            older = [n for n, r in journal["releases"].items() if n == back and r["entered"] < entered]
            target = older[0] if older else ""
            launcher.point(home, target)
        return target


def _check(home: Path, release: RuntimeRelease, *, force: bool) -> None:
    name, journal = release.manifest.release_id, launcher.read_journal(home)
    try:
        text = (home / LAUNCH).read_text("utf-8")
    except OSError as cause:
        problem = "its service is not started by the launcher; flash it again: edgekit flash BUNDLE TARGET"
        raise RuntimeUnfitError(name, problem) from cause
    found = _VERSION.search(text)
    base = home / launcher.BASE
    prefix = base if base.exists() else Path(sys.prefix)
    check_fit(
        release.manifest, Ground(int(found[1]) if found else 0, has_system_packages(prefix), own_packages(prefix))
    )
    least = _floor(home)
    if release.manifest.security_epoch < least:
        raise SecurityEpochError(name, release.manifest.security_epoch, least)
    record = journal["releases"].get(name, {})
    mark = mark_of(home, name)
    if mark and mark.get("sha256") != release.sha256 and record.get("state") != REJECTED:
        raise SlotConflictError(name)
    if record.get("state") == REJECTED and record.get("sha256") == release.sha256 and not force:
        raise RejectedRuntimeError(name, record.get("reason"))


def _build(home: Path, release: RuntimeRelease, disk: Disk, lock: int) -> None:
    manifest = release.manifest
    folder = home / launcher.FOLDER / manifest.release_id
    discard(folder, disk)
    needed = needed_bytes(release)
    if disk.free_bytes(home) < needed:
        _drop_spare(home, disk, keep=1)
    if (free := disk.free_bytes(home)) < needed:
        raise SlotFullError(str(home), needed, free)
    try:
        make_folders(folder, disk=disk)
        build(release, folder, disk, lock=lock)
        about = {"schema": 1, "sha256": release.sha256, "device": manifest.device, "epoch": manifest.security_epoch}
        replace_file(folder / MARK, json.dumps({**about, "key_id": release.key_id}).encode() + b"\n", disk=disk)
    except (EdgeKitError, OSError):
        _discard_quietly(folder, disk)
        raise


def _enter(home: Path, name: str, release: RuntimeRelease, within_s: float, *, force: bool) -> None:
    with launcher.journal_lock(home):
        journal = launcher.read_journal(home)
        releases = dict(journal["releases"])
        old = releases.pop(name, {})
        same = old.get("sha256") == release.sha256
        if launcher.wanted(home) == name and same and old.get("state") != REJECTED:
            return
        entered = max([record["entered"] for record in releases.values()] + [old.get("entered", 0)], default=0) + 1
        state = COMMITTED if same and old.get("state") == COMMITTED else PENDING
        releases[name] = {
            "sha256": release.sha256, "state": state, "attempts": 0, "reason": None, "at": utc_text(),
            "entered": entered, "within_s": within_s, "epoch": release.manifest.security_epoch, "forced": force,
        }  # fmt: skip
        there = held(home)
        gone = [other for other in releases if other not in there]
        for other in [other for other in gone if releases[other]["state"] != REJECTED] + gone[:-_REMEMBERED]:
            releases.pop(other, None)
        launcher.write_journal(home, {**journal, "epoch": _floor(home), "releases": releases})
        launcher.point(home, name)


def _floor(home: Path) -> int:
    """The highest security epoch that was committed."""
    journal = launcher.read_journal(home)
    passed = [r.get("epoch", 0) for r in journal["releases"].values() if r["state"] == COMMITTED]
    return max([epoch for epoch in (*passed, journal.get("epoch", 0)) if isinstance(epoch, int)], default=0)


def _recover(home: Path, disk: Disk) -> None:
    for entry in (home / f".new-{launcher.JOURNAL}", home / f".new-{launcher.LINK}"):
        discard(entry, disk)
    folder = home / launcher.FOLDER
    whole = held(home)
    for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
        if entry.name not in whole:
            discard(entry, disk)
        else:
            for left in entry.glob(".new-*"):
                discard(left, disk)
    wish = launcher.wanted(home)
    record = launcher.read_journal(home)["releases"].get(wish)
    if wish and (wish not in whole or (record is not None and record["state"] == REJECTED)):
        launcher.point(home, launcher.trusted(launcher.read_journal(home), wish, whole.__contains__))
    _drop_spare(home, disk)


def _drop_spare(home: Path, disk: Disk, *, keep: int = MAX_RUNTIMES) -> None:
    """Take away what is neither wanted nor what to go back to, and never what this very process runs in."""
    wish, there = launcher.wanted(home), held(home)
    needed = {wish, launcher.trusted(launcher.read_journal(home), wish, there.__contains__)}
    needed |= {name for name in there if Path(sys.prefix) == (home / launcher.FOLDER / name / "venv").resolve()}
    spare = [name for name in there if name not in needed]
    for name in spare[max(0, keep - len(needed & set(there))) :]:
        # The mark goes first: a release is whole or it is not there.
        discard(home / launcher.FOLDER / name / MARK, disk)
        discard(home / launcher.FOLDER / name, disk)


def _discard_quietly(folder: Path, disk: Disk) -> None:
    try:
        discard(folder, disk)
    except OSError:
        pass  # The next change of the runtimes takes it away.


@contextmanager
def _exclusive(home: Path, disk: Disk) -> Iterator[int]:
    try:
        make_folders(home / launcher.FOLDER, disk=disk)
        descriptor = os.open(home / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as cause:
                raise SlotBusyError(str(home)) from cause
            yield descriptor
        finally:
            os.close(descriptor)
    except OSError as cause:
        if cause.errno in (errno.ENOSPC, errno.EDQUOT):
            raise SlotFullError(str(home), None, None) from cause
        raise SlotDiskError(str(cause.filename or home), cause.strerror or str(cause)) from cause
