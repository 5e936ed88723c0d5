"""Fourteen attacks on an update, times the files that each can be made on: what is done, and the refusal's name.

Ten are those of The Update Framework's specification; slow retrieval, dropped requests, partial files and floods come
from Uptane's. Every case happens to real metadata, signed by real keys, behind a real web server; a thief's cases
use the stolen key. The board serves toy-1.0.0, has seen the repository when it offered nothing else, and is asked for
toy-1.1.0.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, MetaFile

from edgekit.publishing import signing
from edgekit.publishing.keys import ONLINE, ROOT, TARGETS, UpdateKeys
from edgekit_device.contract.archive import read_archive, write_archive
from edgekit_device.contract.errors import EdgeKitError
from edgekit_device.ota import errand
from tests.worlds.bundles import Signer, bundle_bytes
from tests.worlds.repositories import Trick, World, serving

WANTED = "toy-1.1.0"
# For drips: short, so that one is refused in seconds and not in twenty; the rule is the same.
QUICK = {"answer_s": 3.0, "window_s": 1.0, "connect_s": 3.0}
LONG_AGO = timedelta(days=4000)

ARBITRARY, ENDLESS, EXTRANEOUS = "arbitrary software", "endless data", "extraneous dependencies"
FAST_FORWARD, FREEZE, MIRROR = "fast-forward", "indefinite freeze", "malicious mirror"
MIX, ROLLBACK, SLOW = "mix-and-match", "rollback", "slow retrieval"
THEFT, WRONG, DROP = "key compromise", "wrong software", "drop request"
PARTIAL, FLOOD = "partial file", "flood"
ATTACKS = (
    ARBITRARY, ENDLESS, EXTRANEOUS, FAST_FORWARD, FREEZE, MIRROR, MIX,
    ROLLBACK, SLOW, THEFT, WRONG, DROP, PARTIAL, FLOOD,
)  # fmt: skip
METADATA = ("root", "timestamp", "snapshot", "targets")
FILES = (*METADATA, "bundle", "signature", "model", "labels", "manifest", "desired")


class Case(NamedTuple):
    """One attack on one file.

    Attributes:
        attack: One of `ATTACKS`.
        file: One of `FILES`.
        name: What is done.
        do: Does it, to a world that offers toy-1.1.0 already.
        error: Name of the class that refuses it.
        epoch: Security epoch that the board has entered before.
    """

    attack: str
    file: str
    name: str
    do: Callable[[World], None]
    error: str
    epoch: int = 0

    @property
    def id(self) -> str:
        """For pytest."""
        return f"{self.attack}-{self.file}-{self.name}".replace(" ", "_")


@dataclass
class Outcome:
    """What became of it.

    Attributes:
        error: Name of the error's class; None if it was let in.
        serving: What the board serves.
        stored_bytes: What lies in the folder for updates.
    """

    error: str | None
    words: str
    serving: str | None
    stored_bytes: int


def strike(case: Case, base: Path) -> Outcome:
    """Do it to a world of its own."""
    made = World.make(base)
    with made.server.running():
        made.repository.publish({"notes/readme.txt": _file(base / "readme.txt", b"nothing yet")})
        root = made.board()
        if case.epoch:
            _enter_epoch(root, case.epoch)
        try:
            _errand(made, root, {})
        except EdgeKitError as error:
            assert type(error).__name__ == "UnknownReleaseError", error
        made.publish("1.1.0")
        case.do(made)
        error, words = None, ""
        try:
            _errand(made, root, QUICK if case.attack == SLOW else {})
        except EdgeKitError as refusal:
            error, words = type(refusal).__name__, str(refusal)
        state = root / "var/lib/edgekit/updates"
        stored = sum(path.stat().st_size for path in state.rglob("*") if path.is_file())
        return Outcome(error, words, serving(root), stored)


def _errand(made: World, root: Path, limits: dict[str, float]) -> None:
    limits = {**limits, "most_requests": 60}
    errand.enter_bundle(made.order(root, WANTED, limits=limits), lambda words: None, lambda bundle, data: None)


def _enter_epoch(root: Path, epoch: int) -> None:
    (root / "opt/edgekit/security_epoch").write_text(f"{epoch}\n")


def _file(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


# -- what a server can do ----------------------------------------------------------------------------------------------

_MATCH = {
    "root": "2.root.json",
    "timestamp": "timestamp.json",
    "snapshot": ".snapshot.json",
    "targets": ".targets.json",
    "bundle": ".toy-1.1.0.edgekit",
    "signature": ".minisig",
}


def _trick(file: str, **what: Any) -> Callable[[World], None]:
    def do(made: World) -> None:
        if file == "root":
            made.repository.renew()  # A second root, so that there is one to be attacked.
        only = (lambda path, offset: not path.endswith(".minisig")) if file == "bundle" else lambda path, offset: True
        made.server.tricks.append(Trick(_MATCH[file], only=only, **what))

    return do


def _garbage(file: str) -> Callable[[World], None]:
    return _trick(file, body=b"<html>Log in to the network of this hotel</html>")


# -- what can be done to files, with keys and without ------------------------------------------------------------------


def _newest(made: World, role: str) -> Path:
    name = "timestamp.json" if role == "timestamp" else made.repository.newest(role).name
    return made.repository.metadata / name


def _thief(made: World) -> CryptoSigner:
    return UpdateKeys(made.base / "thief").ensure(ONLINE)


def _edit(
    made: World, role: str, change: Callable[[Any], None], *signers: CryptoSigner, name: str | None = None
) -> bytes:
    """Change a role's newest metadata and sign it, with its own keys if none are given."""
    path = _newest(made, role)
    found: Any = Metadata.from_bytes(path.read_bytes())
    change(found.signed)
    own = {"root": ROOT, "targets": TARGETS}.get(role, ONLINE)
    found.signatures.clear()
    for signer in signers or (made.repository.keys.signer(own),):
        found.sign(signer, append=True)
    data: bytes = found.to_bytes()
    (path.with_name(name) if name else path).write_bytes(data)
    return data


def _relink(made: World, *, force_targets: bytes | None = None, signer: CryptoSigner | None = None) -> None:
    """Let snapshot and timestamp name what lies there now: what a thief of the online key can do."""
    signer = signer or made.repository.keys.signer(ONLINE)
    targets = force_targets if force_targets is not None else _newest(made, "targets").read_bytes()
    number = json.loads(targets)["signed"]["version"]
    now = datetime.now(UTC)
    before = made.repository.versions()
    snapshot = signing.snapshot(before["snapshot"] + 1, number, targets, now)
    snapshot.sign(signer)
    data = snapshot.to_bytes()
    (made.repository.metadata / f"{before['snapshot'] + 1}.snapshot.json").write_bytes(data)
    timestamp = signing.timestamp(before["timestamp"] + 1, before["snapshot"] + 1, data, now)
    timestamp.sign(signer)
    (made.repository.metadata / "timestamp.json").write_bytes(timestamp.to_bytes())


def _snapshot(made: World, change: Callable[[Any], None], *signers: CryptoSigner) -> None:
    """A snapshot that was changed, and a timestamp that names it."""
    data = _edit(made, "snapshot", change, *signers)
    number = json.loads(data)["signed"]["version"]
    (made.repository.metadata / f"{number}.snapshot.json").write_bytes(data)

    def name_it(signed: Any) -> None:
        signed.version += 1
        signed.snapshot_meta = signing._meta_file(number, data)

    _edit(made, "timestamp", name_it)


def _nothing(signed: Any) -> None:
    pass


def _next(signed: Any) -> None:
    signed.version += 1


def _leap(signed: Any) -> None:
    signed.version += 2_000_000


def _expire(signed: Any) -> None:
    signed.expires = (datetime.now(UTC) - LONG_AGO).replace(microsecond=0)


def _forge(role: str, signer: Callable[[World], CryptoSigner] = _thief) -> Callable[[World], None]:
    """Sign a role with a key that is not its own."""

    def do(made: World) -> None:
        key = signer(made)
        if role == "root":
            mine = dict.fromkeys((TARGETS, ONLINE), key)
            made_up = signing.next_root(made.repository.root(), mine, [key], datetime.now(UTC))
            (made.repository.metadata / "2.root.json").write_bytes(made_up.to_bytes())
        elif role == "timestamp":
            _edit(made, role, _next, key)
        elif role == "snapshot":
            _snapshot(made, _nothing, key)
        else:
            _edit(made, "targets", _nothing, key)
            _relink(made)

    return do


def _forge_alone(role: str) -> Callable[[World], None]:
    """The same without the keys of what names it."""
    return lambda made: _edit(made, role, _nothing, _thief(made)) and None


def _old_key(name: str, role: str) -> Callable[[World], None]:
    """Sign with a key that was replaced."""

    def do(made: World) -> None:
        made.repository.rotate(name)
        old = made.repository.keys.previous(name)
        assert old is not None
        if role == "root":
            root = signing.next_root(made.repository.root(), {}, [old.signer(ROOT)], datetime.now(UTC))
            (made.repository.metadata / f"{root.signed.version}.root.json").write_bytes(root.to_bytes())
        else:
            _forge(role, lambda _: old.signer(name))(made)

    return do


def _stored(made: World, name: str) -> Path:
    return next((made.repository.targets / "bundles").glob(f"*.{name}"))


def _swap_bytes(name: str) -> Callable[[World], None]:
    """Other bytes of the same length in the place of a file."""

    def do(made: World) -> None:
        path = _stored(made, name)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(bytes(data))

    return do


def _republish(made: World, bundle: bytes, signature: bytes, **expiry: Any) -> None:
    """What a thief of targets and online keys can offer: these bytes under the name that is wanted."""
    names = {f"bundles/{WANTED}.edgekit": bundle, f"bundles/{WANTED}.edgekit.minisig": signature}
    made.repository.withdraw(list(names))
    made.repository.publish(
        {path: _file(made.base / "stolen" / path.rpartition("/")[2], data) for path, data in names.items()}
    )


def _inside(change: Callable[[dict[str, bytes]], None]) -> Callable[[World], None]:
    """A bundle changed inside, with its old signature, offered with stolen keys of the repository."""

    def do(made: World) -> None:
        bundle = _stored(made, f"{WANTED}.edgekit").read_bytes()
        signature = _stored(made, f"{WANTED}.edgekit.minisig").read_bytes()
        entries = {name: bytes(data) for name, data in read_archive(bundle, "x", max_entries=100).items()}
        change(entries)
        _republish(made, write_archive(entries), signature)

    return do


def _signed_inside(change: Callable[[dict[str, bytes]], None], signer: Callable[[World], Signer]) -> Any:
    """The same, signed again with a key for bundles."""

    def do(made: World) -> None:
        bundle = _stored(made, f"{WANTED}.edgekit").read_bytes()
        entries = {name: bytes(data) for name, data in read_archive(bundle, "x", max_entries=100).items()}
        change(entries)
        path = _file(made.base / "resigned" / f"{WANTED}.edgekit", write_archive(entries))
        signer(made).sign(path)
        _republish(made, path.read_bytes(), path.with_name(f"{path.name}.minisig").read_bytes())

    return do


def _set(name: str, data: bytes) -> Callable[[dict[str, bytes]], None]:
    return lambda entries: entries.update({name: data})


def _manifest(**changes: Any) -> Callable[[dict[str, bytes]], None]:
    def do(entries: dict[str, bytes]) -> None:
        values = {**json.loads(entries["manifest.json"]), **changes}
        entries["manifest.json"] = json.dumps(values, sort_keys=True, separators=(",", ":")).encode()

    return do


def _other_signer(made: World) -> Signer:
    return Signer.make(made.base / "stranger")


def _own_signer(made: World) -> Signer:
    return made.signer


def _other_bundle(made: World) -> None:
    """Another release of ours, well signed, under the name that is wanted."""
    path = made.signer.bundle(made.base / "other", version="0.9.0")
    _republish(made, path.read_bytes(), path.with_name(f"{path.name}.minisig").read_bytes())


def _other_signature(made: World) -> None:
    path = made.signer.bundle(made.base / "other", version="0.9.0")
    bundle = _stored(made, f"{WANTED}.edgekit").read_bytes()
    _republish(made, bundle, path.with_name(f"{path.name}.minisig").read_bytes())


def _swapped_files(made: World) -> None:
    bundle, other = _stored(made, f"{WANTED}.edgekit"), made.signer.bundle(made.base / "x", version="1.0.9")
    bundle.write_bytes(other.read_bytes())


def _swapped_signatures(made: World) -> None:
    other = made.signer.bundle(made.base / "x", version="1.0.9")
    _stored(made, f"{WANTED}.edgekit.minisig").write_bytes(other.with_name(f"{other.name}.minisig").read_bytes())


def _low_epoch(made: World) -> None:
    path = _file(made.base / "epoch" / f"{WANTED}.edgekit", bundle_bytes(version="1.1.0", security_epoch=1))
    made.signer.sign(path)
    _republish(made, path.read_bytes(), path.with_name(f"{path.name}.minisig").read_bytes())


def _first_root_again(made: World) -> None:
    shutil.copy(made.repository.metadata / "1.root.json", made.repository.metadata / "2.root.json")


def _root_leap(made: World) -> None:
    made.repository.renew()
    made.repository.renew()
    shutil.copy(made.repository.metadata / "3.root.json", made.repository.metadata / "2.root.json")


def _root_millions(made: World) -> None:
    made.repository.renew()
    _edit(made, "root", _leap, name="2.root.json")


def _old_timestamp(made: World) -> None:
    """A timestamp from before what this board has seen, genuine."""

    def older(signed: Any) -> None:
        signed.version = 1
        signed.snapshot_meta.version = 1

    _edit(made, "timestamp", older)


def _old_snapshot(made: World) -> None:
    """The online key is stolen: a newer timestamp that names an older snapshot."""
    old = (made.repository.metadata / "1.snapshot.json").read_bytes()

    def name_old(signed: Any) -> None:
        signed.version += 1
        signed.snapshot_meta = signing._meta_file(1, old)

    _edit(made, "timestamp", name_old)


def _old_targets(made: World) -> None:
    _relink(made, force_targets=(made.repository.metadata / "1.targets.json").read_bytes())


def _mixed_snapshot(made: World) -> None:
    """Genuine, of another moment, under the name of this one."""
    newest, other = _newest(made, "snapshot"), copy.copy(_newest(made, "snapshot").read_bytes())
    made.repository.resign(force=True)
    made.repository.resign(force=True)
    shown = made.repository.shown()
    assert shown is not None
    later = made.repository.metadata / f"{shown[0].signed.snapshot_meta.version}.snapshot.json"
    assert later != newest
    later.write_bytes(other)


def _mixed_targets(made: World) -> None:
    before = _newest(made, "targets").read_bytes()
    made.publish("1.2.0")
    _newest(made, "targets").write_bytes(before)


def _expired(role: str) -> Callable[[World], None]:
    def do(made: World) -> None:
        if role == "root":
            made.repository.renew()
            _edit(made, "root", _expire)
        elif role == "timestamp":
            _edit(made, role, _expire_next)
        elif role == "snapshot":
            _snapshot(made, _expire)
        else:
            _edit(made, "targets", _expire)
            _relink(made)

    return do


def _expire_next(signed: Any) -> None:
    _expire(signed)
    _next(signed)


def _snapshot_leap(made: World) -> None:
    data = _edit(made, "snapshot", _leap, name="new.json")
    number = json.loads(data)["signed"]["version"]
    (made.repository.metadata / f"{number}.snapshot.json").write_bytes(data)

    def name_it(signed: Any) -> None:
        signed.version += 1
        signed.snapshot_meta = signing._meta_file(number, data)

    _edit(made, "timestamp", name_it)


def _targets_leap(made: World) -> None:
    data = _edit(made, "targets", _leap, name="new.json")
    number = json.loads(data)["signed"]["version"]
    (made.repository.metadata / f"{number}.targets.json").write_bytes(data)
    _relink(made, force_targets=data)


def _delegate(made: World) -> None:
    """The key of targets is stolen: others may sign from now on."""
    key = _thief(made).public_key

    def do(signed: Any) -> None:
        role = DelegatedRole("more", [key.keyid], 1, terminating=False, paths=["*"])
        signed.delegations = Delegations({key.keyid: key}, {"more": role})

    _edit(made, "targets", do)
    _relink(made)


def _list_more(made: World) -> None:
    _snapshot(made, lambda signed: signed.meta.update({"more.json": MetaFile(1)}))


def _nothing_offered(made: World) -> None:
    """Whoever holds the keys offers nothing of that name any more."""
    made.repository.withdraw([f"bundles/{WANTED}.edgekit"])


def name_by(made: World, hashes: dict[str, str]) -> None:
    """Sign that the wanted bundle has these hashes."""

    def do(signed: Any) -> None:
        signed.targets[f"bundles/{WANTED}.edgekit"].hashes = hashes

    _edit(made, "targets", do)
    _relink(made)


def _path_for_hash(made: World) -> None:
    """What a board would call the file that it fetches leads out of its folder."""
    name_by(made, {"sha256": f"{'../' * 16}tmp/edgekit-was-here"})


def _too_large(made: World) -> None:
    """The metadata promises more than a bundle may hold."""

    def do(signed: Any) -> None:
        signed.targets[f"bundles/{WANTED}.edgekit"].length = 1 << 40

    _edit(made, "targets", do)
    _relink(made)


def _one_byte_at_a_time(file: str) -> Callable[[World], None]:
    return _trick(file, cut_at=1)


def _revoked(made: World) -> None:
    """The key that signs bundles is one that this board does not hold."""
    path = made.base / "resigned" / f"{WANTED}.edgekit"
    _file(path, bundle_bytes(version="1.1.0"))
    _other_signer(made).sign(path)
    _republish(made, path.read_bytes(), path.with_name(f"{path.name}.minisig").read_bytes())


def _online(made: World) -> CryptoSigner:
    return made.repository.keys.signer(ONLINE)


def cases() -> list[Case]:
    """Every case; nothing is drawn by chance."""
    table: list[Case] = []

    def add(attack: str, error: str, file: str, name: str, do: Callable[[World], None], epoch: int = 0) -> None:
        table.append(Case(attack, file, name, do, error, epoch))

    for role in METADATA:
        add(ARBITRARY, "ForgedMetadataError", role, "signed by a stranger", _forge(role))
    for role in ("snapshot", "targets"):
        add(ARBITRARY, "ForgedMetadataError", role, "put in its place alone", _forge_alone(role))
    add(ARBITRARY, "ForgedFileError", "bundle", "one bit changed", _swap_bytes(f"{WANTED}.edgekit"))
    add(ARBITRARY, "ForgedFileError", "signature", "one bit changed", _swap_bytes(f"{WANTED}.edgekit.minisig"))
    add(ARBITRARY, "BadSignatureError", "model", "replaced", _inside(_set("model.tflite", b"x" * 500)))
    add(ARBITRARY, "BadSignatureError", "labels", "replaced", _inside(_set("labels.txt", b"dog\ncat\n")))
    add(ARBITRARY, "BadSignatureError", "manifest", "replaced", _inside(_manifest(security_epoch=9)))
    wrong_model = _signed_inside(_set("model.tflite", b"x" * 500), _own_signer)
    add(ARBITRARY, "DigestMismatchError", "model", "not the manifest's", wrong_model)
    for file in _MATCH:
        add(ENDLESS, "EndlessDataError", file, "no length", _trick(file, endless=True))
        add(ENDLESS, "EndlessDataError", file, "says so", _trick(file, endless=True, declared=1 << 40))
    add(ENDLESS, "EndlessDataError", "targets", "a bundle of a terabyte", _too_large)
    add(EXTRANEOUS, "ExtraneousFileError", "targets", "others may sign", _delegate)
    add(EXTRANEOUS, "ExtraneousFileError", "snapshot", "lists more", _list_more)
    extra = _signed_inside(_set("install.sh", b"#!/bin/sh\n"), _own_signer)
    add(EXTRANEOUS, "BundleFormatError", "bundle", "holds more than its manifest lists", extra)
    add(FAST_FORWARD, "FastForwardError", "root", "the next but one", _root_leap)
    add(FAST_FORWARD, "FastForwardError", "root", "two million", _root_millions)
    add(FAST_FORWARD, "FastForwardError", "timestamp", "two million", lambda m: _edit(m, "timestamp", _leap) and None)
    add(FAST_FORWARD, "FastForwardError", "snapshot", "two million", _snapshot_leap)
    add(FAST_FORWARD, "FastForwardError", "targets", "two million", _targets_leap)
    for role in METADATA:
        add(FREEZE, "FreezeError", role, "expired", _expired(role))
    for file in _MATCH:
        add(MIRROR, "RepositoryUnreachableError", file, "code 503", _trick(file, code=503))
        elsewhere = _trick(file, code=302, location="http://127.0.0.1:9/")
        add(MIRROR, "MissingFileError", file, "sent elsewhere", elsewhere)
        if file != "root":  # There a missing one means that there is none newer.
            add(MIRROR, "MissingFileError", file, "not there", _trick(file, code=404))
        name = "ForgedFileError" if file in ("bundle", "signature") else "DamagedMetadataError"
        add(MIRROR, "PartialFileError" if name == "ForgedFileError" else name, file, "a hotel's page", _garbage(file))
    add(MIX, "MixAndMatchError", "snapshot", "of another moment", _mixed_snapshot)
    add(MIX, "MixAndMatchError", "targets", "of another moment", _mixed_targets)
    add(MIX, "ForgedFileError", "bundle", "another release's bytes", _swapped_files)
    add(MIX, "ForgedFileError", "signature", "another release's signature", _swapped_signatures)
    add(ROLLBACK, "RollbackError", "root", "the first again", _first_root_again)
    add(ROLLBACK, "RollbackError", "timestamp", "older", _old_timestamp)
    add(ROLLBACK, "RollbackError", "snapshot", "older", _old_snapshot)
    add(ROLLBACK, "RollbackError", "targets", "older", _old_targets)
    add(ROLLBACK, "SecurityEpochError", "bundle", "below the epoch", _low_epoch, epoch=3)
    for file in _MATCH:
        add(SLOW, "SlowRetrievalError", file, "one byte at a time", _trick(file, drip_s=0.2))
        add(SLOW, "SlowRetrievalError", file, "headers too", _trick(file, headers_drip_s=0.2))
    add(SLOW, "SlowRetrievalError", "bundle", "one byte a connection", _trick("bundle", drip_s=0.6, cut_at=1))
    add(THEFT, "ForgedMetadataError", "root", "the online key signs it", _forge("root", _online))
    add(THEFT, "ForgedMetadataError", "targets", "the online key signs it", _forge("targets", _online))
    add(THEFT, "ForgedMetadataError", "timestamp", "an online key of before", _old_key(ONLINE, "timestamp"))
    add(THEFT, "ForgedMetadataError", "snapshot", "an online key of before", _old_key(ONLINE, "snapshot"))
    add(THEFT, "ForgedMetadataError", "targets", "a targets key of before", _old_key(TARGETS, "targets"))
    add(THEFT, "ForgedMetadataError", "root", "a root key of before", _old_key(ROOT, "root"))
    add(THEFT, "DamagedMetadataError", "targets", "a path in the place of a hash", _path_for_hash)
    strange = _signed_inside(_set("model.tflite", b"x" * 500), _other_signer)
    add(THEFT, "UntrustedKeyError", "model", "all keys of the repository", strange)
    add(THEFT, "UntrustedKeyError", "bundle", "a key that this board does not hold", _revoked)
    add(WRONG, "WrongSoftwareError", "bundle", "another release under its name", _other_bundle)
    add(WRONG, "BadSignatureError", "signature", "another release's", _other_signature)
    add(WRONG, "UnknownReleaseError", "targets", "no longer offered", _nothing_offered)
    labels = _signed_inside(_set("labels.txt", b"cat\n"), _own_signer)
    add(WRONG, "DigestMismatchError", "labels", "not the manifest's", labels)
    newer = _signed_inside(_manifest(requires={"runtime": "99.0.0"}), _own_signer)
    add(WRONG, "RuntimeTooOldError", "manifest", "for a newer runtime", newer)
    for file in _MATCH:
        add(DROP, "RequestDroppedError", file, "no answer", _trick(file, drop=True))
        add(PARTIAL, "PartialFileError", file, "half of it", _trick(file, cut_at=0))
    for file in ("bundle", "signature"):
        add(FLOOD, "FloodError", file, "one byte for each request", _one_byte_at_a_time(file))
    return table
