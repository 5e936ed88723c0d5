"""Open a bundle: signature first, then structure, then every digest; nothing is ever extracted.

A bundle is opened once and read whole. The bytes that were hashed are the bytes that are used, so nobody can
change a file between check and use.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit_device.contract.archive import read_archive
from edgekit_device.contract.errors import (
    BadSignatureError,
    BundleFormatError,
    NoTrustedKeyError,
    UnsignedBundleError,
    UntrustedKeyError,
    UsageError,
)
from edgekit_device.contract.file_table import MAX_BUNDLE_BYTES, check_file
from edgekit_device.contract.manifest import LABELS, MAX_ENTRIES, NAME, Manifest
from edgekit_device.requirements import check_requirements

if TYPE_CHECKING:
    import minisign

BOARD_KEYS = Path("/etc/edgekit/keys")
MAX_BOARD_KEYS = 2
MAX_SIGNATURE_BYTES = 4096


def user_public_key() -> Path:
    """Where `edgekit` keeps the public half of the user's own signing key."""
    home = os.environ.get("EDGEKIT_CONFIG_HOME")
    base = Path(home) if home else Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "edgekit"
    return base / "keys" / "edgekit.pub"


@dataclass(frozen=True)
class Bundle:
    """A bundle whose signature and digests hold.

    Attributes:
        manifest: What it says about itself.
        files: Content by entry name, exactly the entries the manifest lists.
        sha256: Digest of the whole file, hex.
        key_id: Id of the key that signed it, as minisign prints it.
    """

    manifest: Manifest
    files: Mapping[str, bytes]
    sha256: str
    key_id: str

    @property
    def labels(self) -> tuple[str, ...]:
        """One label per class."""
        return tuple(self.files[LABELS].decode("utf-8").splitlines())

    def model(self, role: str = "cpu") -> bytes:
        """The model file of one role."""
        return self.files[self.manifest.models[role]]


def trusted_keys(pubkey: Path | None = None, *, board_keys: Path = BOARD_KEYS) -> tuple[Path, ...]:
    """Which public keys count on this machine.

    The one named on the command line; else the board's, at most two; else the user's own.

    Raises:
        NoTrustedKeyError: There is none.
    """
    if pubkey is not None:
        if not pubkey.is_file():
            raise NoTrustedKeyError([str(pubkey)])
        return (pubkey,)
    own = user_public_key()
    found = tuple(sorted(board_keys.glob("*.pub")))[:MAX_BOARD_KEYS] if board_keys.is_dir() else ()
    if not found and own.is_file():
        found = (own,)
    if not found:
        raise NoTrustedKeyError([f"{board_keys}/*.pub", str(own)])
    return found


def key_label(key: minisign.PublicKey) -> str:
    """A key's id as minisign prints it: 16 hex digits, most significant first."""
    return bytes(key._keynum_pk.key_id)[::-1].hex().upper()


def check_signature(data: bytes, signature: bytes, path: str, keys: Sequence[Path]) -> str:
    """Check a prehashed minisign signature over whole bytes.

    Args:
        data: The signed bytes.
        signature: Content of the .minisig file.
        path: What to call the bundle in errors.
        keys: Files of the trusted public keys.

    Returns:
        The id of the key that signed.

    Raises:
        BadSignatureError: The signature is malformed, not prehashed, or does not match the bytes.
        UntrustedKeyError: It was made by another key.
    """
    # Imported here: the worker parses bundles too, and has no use for a crypto library's memory.
    import minisign

    try:
        parsed = minisign.Signature.from_bytes(signature)
    except (minisign.Error, ValueError) as cause:
        raise BadSignatureError(path, f"its signature file is not a minisign signature ({cause})") from cause
    if not parsed.is_prehashed():
        raise BadSignatureError(path, "its signature is of minisign's old kind that is not prehashed")
    known = {}
    for file in keys:
        try:
            key = minisign.PublicKey.from_file(file)
        except (minisign.Error, OSError, ValueError) as cause:
            raise UsageError(f"{file}: not a minisign public key ({cause})") from cause
        known[key_label(key)] = key
    signer = bytes(parsed._key_id)[::-1].hex().upper()
    if signer not in known:
        raise UntrustedKeyError(path, signer, known)
    try:
        known[signer].verify(data, parsed)
    except minisign.VerifyError as cause:
        raise BadSignatureError(path, "its signature does not match its bytes") from cause
    return signer


def parse_bundle(data: bytes, path: str, key_id: str) -> Bundle:
    """Check structure and digests of bytes whose signature was checked before.

    Raises:
        BundleFormatError: Not the one zip layout, or entries and manifest differ.
        DigestMismatchError: A file is not the one the manifest names.
        FieldError: The manifest breaks the contract.
    """
    entries = read_archive(data, path, max_entries=MAX_ENTRIES)
    if NAME not in entries:
        raise BundleFormatError(path, f"holds no {NAME}")
    manifest = Manifest.from_bytes(bytes(entries.pop(NAME)))
    if set(entries) != set(manifest.files):
        odd = ", ".join(sorted(set(entries) ^ set(manifest.files))[:3])
        raise BundleFormatError(path, f"its entries are not the ones its manifest lists ({odd})")
    files = {}
    for name, expected in manifest.files.items():
        content = bytes(entries[name])
        check_file(content, expected, f"{path}:{name}")
        files[name] = content
    bundle = Bundle(manifest, files, hashlib.sha256(data).hexdigest(), key_id)
    try:
        count = len(bundle.labels)
    except UnicodeDecodeError as cause:
        raise BundleFormatError(path, f"its {LABELS} is not UTF-8") from cause
    if count != manifest.classes:
        raise BundleFormatError(path, f"its {LABELS} has {count} lines for {manifest.classes} classes")
    return bundle


def read_file(path: Path, limit: int) -> bytes:
    """Read a file whole, through one open file.

    Raises:
        BundleFormatError: It cannot be read, is not a regular file, or is larger than `limit` bytes.
    """
    try:
        # O_NONBLOCK: a named pipe laid in the way must not hang the reader.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            about = os.fstat(file.fileno())
            if not stat.S_ISREG(about.st_mode):
                raise BundleFormatError(str(path), "is not a regular file")
            if about.st_size > limit:
                raise BundleFormatError(str(path), f"is {about.st_size} bytes, over the limit of {limit}")
            data = file.read(limit + 1)
    except OSError as cause:
        raise BundleFormatError(str(path), f"cannot be read ({cause.strerror})") from cause
    if len(data) > limit:
        raise BundleFormatError(str(path), f"is over the limit of {limit} bytes")
    return data


def open_bundle(path: Path, keys: Sequence[Path]) -> tuple[Bundle, bytes]:
    """Read and check a bundle and the signature beside it.

    Args:
        path: The ``.edgekit`` file; its signature is ``path + ".minisig"``.
        keys: Files of the trusted public keys.

    Returns:
        (the bundle, its raw bytes).

    Raises:
        BundleError: Anything about it is not as signed, or it requires a newer runtime; the class says what.
        ContractError: It is as signed, and breaks the contract.
    """
    bundle, data, _ = open_signed(path, keys)
    check_requirements(bundle.manifest)
    return bundle, data


def open_signed(path: Path, keys: Sequence[Path]) -> tuple[Bundle, bytes, bytes]:
    """The same without asking whether this runtime may run it.

    Returns:
        (the bundle, its raw bytes, the content of its signature file).
    """
    data, signature, key_id = read_signed(path, keys)
    return parse_bundle(data, str(path), key_id), data, signature


def read_signed(path: Path, keys: Sequence[Path]) -> tuple[bytes, bytes, str]:
    """Read a file and the signature beside it, and check the one by the other; what is in it is not looked at.

    Returns:
        (its bytes, the content of its signature file, the id of the key that signed).

    Raises:
        BundleError: It cannot be read, is too large, or is not as signed.
    """
    data = read_file(path, MAX_BUNDLE_BYTES)
    beside = path.with_name(path.name + ".minisig")
    if not beside.is_file():
        raise UnsignedBundleError(str(path))
    signature = read_file(beside, MAX_SIGNATURE_BYTES)
    return data, signature, check_signature(data, signature, str(path), keys)
