"""The documents of The Update Framework, made from plain values; nothing here reads or writes a file.

Lives: root 10 years and targets 2 years, signed offline; snapshot and timestamp 7 days, signed online each day.
A host that is away for a week blocks updates, and never what runs.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from edgekit.publishing.keys import ONLINE, ROOT, TARGETS

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner
    from tuf.api.metadata import Metadata, Root, Snapshot, TargetFile, Targets, Timestamp

LIFE = {
    "root": timedelta(days=3652),
    "targets": timedelta(days=730),
    "snapshot": timedelta(days=7),
    "timestamp": timedelta(days=7),
}
AGAIN = timedelta(days=1)
KEPT = 8
"""Old versions of targets and snapshot that stay beside the newest."""
ROLES_OF = {ROOT: ("root",), TARGETS: ("targets",), ONLINE: ("snapshot", "timestamp")}


def new_root(signers: Mapping[str, CryptoSigner], now: datetime) -> Metadata[Root]:
    """The first root: one key for each of root, targets and online; files carry their hash in their names."""
    from tuf.api.metadata import Metadata, Root

    root = Root(version=1, expires=_end("root", now), consistent_snapshot=True)
    for name, roles in ROLES_OF.items():
        for role in roles:
            root.add_key(signers[name].public_key, role)
    made = Metadata(root)
    made.sign(signers[ROOT])
    return made


def next_root(
    before: Metadata[Root], fresh: Mapping[str, CryptoSigner], signers: Sequence[CryptoSigner], now: datetime
) -> Metadata[Root]:
    """The root after another one, signed by the keys of both.

    Args:
        before: The one that boards know.
        fresh: New keys by name; the old ones of that name count no more.
        signers: Of root, old and new.
        now: When its life begins.
    """
    from tuf.api.metadata import Metadata

    root = copy.deepcopy(before.signed)
    root.version += 1
    root.expires = _end("root", now)
    for name, signer in fresh.items():
        for role in ROLES_OF[name]:
            for keyid in list(root.roles[role].keyids):
                root.revoke_key(keyid, role)
            root.add_key(signer.public_key, role)
    made = Metadata(root)
    for signer in signers:
        made.sign(signer, append=True)
    return made


def targets(number: int, files: dict[str, TargetFile], now: datetime, fields: dict[str, Any]) -> Metadata[Targets]:
    """What is offered, not signed yet."""
    from tuf.api.metadata import Metadata, Targets

    return Metadata(Targets(number, None, _end("targets", now), files, unrecognized_fields=fields))


def snapshot(number: int, targets_number: int, targets_bytes: bytes, now: datetime) -> Metadata[Snapshot]:
    """Which targets belong to this moment, by hash."""
    from tuf.api.metadata import Metadata, Snapshot

    meta = {"targets.json": _meta_file(targets_number, targets_bytes)}
    return Metadata(Snapshot(number, None, _end("snapshot", now), meta))


def timestamp(number: int, snapshot_number: int, snapshot_bytes: bytes, now: datetime) -> Metadata[Timestamp]:
    """Which snapshot is the newest."""
    from tuf.api.metadata import Metadata, Timestamp

    meta = _meta_file(snapshot_number, snapshot_bytes)
    return Metadata(Timestamp(number, None, _end("timestamp", now), meta))


def target_file(path: str, data: bytes, custom: dict[str, Any]) -> TargetFile:
    """One file that is offered."""
    from tuf.api.metadata import TargetFile

    found = TargetFile(len(data), {"sha256": hashlib.sha256(data).hexdigest()}, path)
    if custom:
        found.unrecognized_fields["custom"] = custom
    return found


def _meta_file(number: int, data: bytes) -> Any:
    from tuf.api.metadata import MetaFile

    return MetaFile(number, len(data), {"sha256": hashlib.sha256(data).hexdigest()})


def _end(role: str, now: datetime) -> datetime:
    return (now + LIFE[role]).replace(microsecond=0)
