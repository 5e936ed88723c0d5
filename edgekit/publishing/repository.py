"""The repository's files: what is offered, signed so that boards take nothing old, mixed or forged for it.

    FOLDER/metadata/N.root.json  N.targets.json          signed offline
    FOLDER/metadata/N.snapshot.json  timestamp.json      signed online, again every day
    FOLDER/targets/bundles/SHA256.NAME-VERSION.edgekit   the files; and each one's .minisig

Plain files, which any web server can serve. A new ``timestamp.json`` is the one step that shows a change to boards, and
nothing that it names is ever changed afterwards; so whatever is cut short is finished by the next call.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.artefacts import write_atomically
from edgekit.publishing import signing
from edgekit.publishing.errors import NotPublishedError, PublishedOtherwiseError, RepositoryFilesError
from edgekit.publishing.keys import ONLINE, ROOT, TARGETS, UpdateKeys
from edgekit.publishing.reading import Offer, RepositoryFiles, number_of
from edgekit.publishing.signing import AGAIN, LIFE

if TYPE_CHECKING:
    from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp

AT = "x-edgekit-at-s"
"""A field of targets: when they were signed, s since 1970. Boards without a clock take it for the least time."""


class Repository(RepositoryFiles):
    """One repository.

    Args:
        folder: Where it lies.
        keys: What signs.
    """

    def __init__(self, folder: Path, keys: UpdateKeys | None = None) -> None:
        super().__init__(folder)
        self.keys = keys or UpdateKeys()

    # -- what changes it -------------------------------------------------------------------------------------------

    def create(self, now: datetime | None = None) -> bool:
        """Make it, with keys where they are missing; False if it was there and whole."""
        now = now or datetime.now(UTC)
        with self._alone():
            made = not self.exists
            if made:
                root = signing.new_root({name: self.keys.ensure(name) for name in (ROOT, TARGETS, ONLINE)}, now)
                self._write_root(root)
            if not list(self.metadata.glob("*.targets.json")):
                self._sign_targets({}, now)
            self._sign_online(now, force=False)
        return made

    def publish(
        self, files: Mapping[str, Path], custom: Mapping[str, Any] | None = None, now: datetime | None = None
    ) -> list[Offer]:
        """Offer files; the same again changes nothing.

        Args:
            files: File by path of its target, such as ``bundles/lite0-1.0.0.edgekit``.
            custom: What is said of each of them.
            now: When it is signed.

        Returns:
            What is new.

        Raises:
            PublishedOtherwiseError: Other bytes are offered under one of the paths.
            UpdateKeyError: The key of targets is not here.
        """
        now = now or datetime.now(UTC)
        self.create(now)
        with self._alone():
            held = {offer.path: offer for offer in self.offers()}
            fresh: dict[str, Any] = {}
            for path, file in sorted(files.items()):
                data = file.read_bytes()
                target = signing.target_file(path, data, dict(custom or {}))
                digest = hashlib.sha256(data).hexdigest()
                if path in held:
                    if held[path].sha256 != digest:
                        raise PublishedOtherwiseError(path)
                    continue
                folder, _, name = path.rpartition("/")
                # The file before what names it.
                write_atomically(self.targets / folder / f"{digest}.{name}", data)
                fresh[path] = target
            if fresh:
                current = dict(self.read(self.newest(TARGETS), TARGETS).signed.targets)
                self._sign_targets({**current, **fresh}, now)
            self._sign_online(now, force=False)
            return [offer for offer in self.offers() if offer.path in fresh]

    def withdraw(self, paths: list[str], now: datetime | None = None) -> None:
        """Offer these no more; their files go.

        Raises:
            NotPublishedError: One of them is not offered.
        """
        now = now or datetime.now(UTC)
        with self._alone():
            current = dict(self.read(self.newest(TARGETS), TARGETS).signed.targets)
            doomed = []
            for path in paths:
                if path not in current:
                    raise NotPublishedError(path, sorted(current))
                folder, _, name = path.rpartition("/")
                doomed.append(self.targets / folder / f"{current.pop(path).hashes['sha256']}.{name}")
            self._sign_targets(current, now)
            if self._sign_online(now, force=False):
                # Boards that are on their way meet a missing file, and ask again for what is offered now.
                for file in doomed:
                    file.unlink(missing_ok=True)

    def renew(self, now: datetime | None = None) -> None:
        """Sign root and targets again, offline, with full lives."""
        now = now or datetime.now(UTC)
        with self._alone():
            self._write_root(signing.next_root(self.root(), {}, [self.keys.signer(ROOT)], now))
            self._sign_targets(dict(self.read(self.newest(TARGETS), TARGETS).signed.targets), now)
            self._sign_online(now, force=True)

    def rotate(self, name: str, now: datetime | None = None) -> None:
        """Put a new key in the place of one; boards follow by themselves, from any root that they know.

        Args:
            name: ``root``, ``targets`` or ``online``.
            now: When it is signed.
        """
        now = now or datetime.now(UTC)
        with self._alone():
            root = self.root()
            fresh = self.keys.signer(name) if self._half_rotated(name, root) else self.keys.make(name)
            before = self.keys.previous(ROOT) if name == ROOT else None
            signers = [self.keys.signer(ROOT), *([before.signer(ROOT)] if before else [])]
            self._write_root(signing.next_root(root, {name: fresh}, signers, now))
            if name == TARGETS:
                self._sign_targets(dict(self.read(self.newest(TARGETS), TARGETS).signed.targets), now)
            self._sign_online(now, force=True)

    def resign(self, now: datetime | None = None, *, force: bool = False) -> bool:
        """Say again, online, that this is the newest: what `fleet up` does; True if something was signed."""
        with self._alone():
            return self._sign_online(now or datetime.now(UTC), force=force)

    # -- how -------------------------------------------------------------------------------------------------------

    def _half_rotated(self, name: str, root: Metadata[Root]) -> bool:
        """A rotation was cut between its key and its root: that key is taken, not a third one made."""
        roles = signing.ROLES_OF[name]
        known = root.signed.roles[roles[0]].keyids
        return self.keys.has(name) and self.keys.signer(name).public_key.keyid not in known

    def _write_root(self, root: Metadata[Root]) -> None:
        write_atomically(self.metadata / f"{root.signed.version}.root.json", root.to_bytes())

    def _sign_targets(self, files: dict[str, Any], now: datetime) -> None:
        held = list(self.metadata.glob("*.targets.json"))
        number = 1 + max((number_of(path) for path in held), default=0)
        made = signing.targets(number, files, now, {AT: int(now.timestamp())})
        made.sign(self._authorised(TARGETS))
        write_atomically(self.metadata / f"{number}.targets.json", made.to_bytes())

    def _authorised(self, name: str) -> Any:
        signer = self.keys.signer(name)
        role = signing.ROLES_OF[name][0]
        if signer.public_key.keyid not in self.root().signed.roles[role].keyids:
            problem = f"is not the key that this repository's root names for {role}; take the right one, or rotate it"
            raise RepositoryFilesError(str(self.keys.path(name)), problem)
        return signer

    def _sign_online(self, now: datetime, *, force: bool) -> bool:
        """Show the newest targets; sign snapshot and timestamp again when they are a day old."""
        if not self.keys.has(ONLINE):
            return False  # Signed where the online key is.
        shown = self._shown_or_none()
        number = number_of(self.newest(TARGETS))
        targets = self.metadata / f"{number}.targets.json"
        if not force and shown is not None:
            same = shown[1].signed.meta["targets.json"].version == number
            # A clock that was wrong when it was signed: an end too far off is no reason to leave it.
            left = shown[0].signed.expires - now
            if same and LIFE["timestamp"] - AGAIN < left <= LIFE["timestamp"] and self._signed_by_ours(shown[0]):
                return False
        signer = self._authorised(ONLINE)
        data = targets.read_bytes()
        self._check_targets()
        before = self.versions()
        snapshot = signing.snapshot(before["snapshot"] + 1, number, data, now)
        snapshot.sign(signer)
        snapshot_bytes = snapshot.to_bytes()
        timestamp = signing.timestamp(before["timestamp"] + 1, snapshot.signed.version, snapshot_bytes, now)
        timestamp.sign(signer)
        write_atomically(self.metadata / f"{snapshot.signed.version}.snapshot.json", snapshot_bytes)
        write_atomically(self.metadata / "timestamp.json", timestamp.to_bytes())
        self._tidy(snapshot.signed.version, number)
        return True

    def _shown_or_none(self) -> tuple[Metadata[Timestamp], Metadata[Snapshot], Metadata[Targets]] | None:
        try:
            return self.shown()
        except RepositoryFilesError:
            return None  # Damaged or half gone: signed again.

    def _signed_by_ours(self, timestamp: Metadata[Timestamp]) -> bool:
        return self.keys.signer(ONLINE).public_key.keyid in timestamp.signatures

    def _check_targets(self) -> None:
        from tuf.api.exceptions import UnsignedMetadataError

        path = self.newest(TARGETS)
        found = self.read(path, TARGETS)
        try:
            self.root().signed.verify_delegate(TARGETS, found.signed_bytes, found.signatures)
        except (UnsignedMetadataError, ValueError) as cause:
            problem = "is not signed by the key of targets; it is not shown to boards. Remove it, and publish again"
            raise RepositoryFilesError(str(path), problem) from cause

    def _tidy(self, snapshot: int, targets: int) -> None:
        """Old snapshots and targets go, but for the last few: a board may be on its way. Roots stay for ever."""
        for kind, number in (("snapshot", snapshot), (TARGETS, targets)):
            for path in self.metadata.glob(f"*.{kind}.json"):
                if number_of(path) < number - signing.KEPT:
                    path.unlink(missing_ok=True)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self.metadata.mkdir(parents=True, exist_ok=True)
        self.targets.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
