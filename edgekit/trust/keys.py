"""The Ed25519 keys that sign bundles, in minisign's file format.

A pair is made at first use, whole or not at all. Debian's `minisign` reads and writes the same files. The secret
half never appears in a message, a log line or a repr.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import minisign

from edgekit.artefacts import write_atomically
from edgekit.errors import InsecureKeyError, KeyExistsError, KeyFormatError, LockedKeyError, LostKeyError
from edgekit_device.bundle import key_label, user_public_key

SECRET_NAME = "edgekit.key"  # noqa: S105 - a file name
PUBLIC_NAME = "edgekit.pub"
PASSPHRASE_ENV = "EDGEKIT_KEY_PASSPHRASE"  # noqa: S105 - the variable's name
_MAX_KEY_BYTES = 4096


@dataclass(frozen=True)
class SigningKey:
    """A secret key, unlocked.

    Attributes:
        path: Its file.
        key_id: As minisign prints it: 16 hex digits, most significant first.
    """

    path: Path
    key_id: str
    _secret: Any = field(repr=False, compare=False)

    @property
    def public_path(self) -> Path:
        """The file of the public half, beside the secret one."""
        return self.path.with_suffix(".pub")

    @property
    def public_bytes(self) -> bytes:
        """The public half as a minisign file."""
        return _public_file(self._secret.get_public_key())

    def sign(self, data: bytes, comment: str) -> bytes:
        """Sign bytes, prehashed; the same bytes from the same inputs.

        Ed25519 is deterministic, and the trusted comment carries no time, so nothing in the result varies.

        Args:
            data: What is signed.
            comment: Signed as well, and printed by `minisign -V`; printable ASCII.

        Returns:
            The content of the .minisig file.
        """
        return _file_bytes(
            self._secret.sign(data, prehash=True, untrusted_comment="signature by edgekit", trusted_comment=comment)
        )


def keys_folder() -> Path:
    """``~/.config/edgekit/keys``, or below EDGEKIT_CONFIG_HOME: the rule that the device follows too."""
    return user_public_key().parent


def new_keys(folder: Path, *, passphrase: str | None = None) -> SigningKey:
    """Make a pair: edgekit.key (0600) and edgekit.pub in a folder of mode 0700.

    Args:
        folder: Made if it is missing.
        passphrase: Protects the secret key; None leaves it to the file's permissions.

    Raises:
        KeyExistsError: A key is there already.
    """
    with _locked(folder):
        for name in (SECRET_NAME, PUBLIC_NAME):
            if (folder / name).exists():
                raise KeyExistsError(str(folder / name))
        return _make(folder, passphrase)


def passphrase_for(path: Path) -> str:
    """The passphrase that the environment names.

    Raises:
        LockedKeyError: It names none.
    """
    found = _passphrase_from_environment(path)
    if not found:
        raise LockedKeyError(str(path), "a protected key needs a passphrase", PASSPHRASE_ENV)
    return found


def load_or_create(folder: Path | None = None, *, passphrase: str | None = None) -> SigningKey:
    """The user's own key; made now if there is none.

    Args:
        folder: `keys_folder()` by default.
        passphrase: For a key that is protected; by default what the environment names.

    Raises:
        LostKeyError: Only the public half is there.
        SigningKeyError: The key there cannot be used; the class says why.
    """
    folder = folder or keys_folder()
    with _locked(folder):
        secret, public = folder / SECRET_NAME, folder / PUBLIC_NAME
        if not secret.exists():
            if public.exists():
                raise LostKeyError(str(public), str(secret))
            return _make(folder, None)
        key = load_key(secret, passphrase=passphrase)
        if not public.exists():
            # A power cut between the two files of a pair: the secret half knows the public one.
            write_atomically(public, key.public_bytes)
        return key


def load_key(path: Path, *, passphrase: str | None = None) -> SigningKey:
    """Read a secret key in minisign's format.

    Args:
        path: The secret key's file.
        passphrase: For a key that is protected; by default what the environment names.

    Raises:
        InsecureKeyError: Others can read the file.
        LockedKeyError: The passphrase is missing or wrong.
        KeyFormatError: Not a minisign secret key, or a public key of another pair lies beside it.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o7777
            if mode & 0o077:
                raise InsecureKeyError(str(path), mode)
            secret = minisign.SecretKey.from_bytes(file.read(_MAX_KEY_BYTES))
    except minisign.Error as cause:
        raise KeyFormatError(str(path), f"not a minisign secret key ({cause})") from cause
    except InsecureKeyError:
        raise
    except OSError as cause:
        raise KeyFormatError(str(path), f"cannot be read ({cause.strerror})") from cause
    if secret.is_encrypted():
        _unlock(path, secret, passphrase if passphrase is not None else _passphrase_from_environment(path))
    key = SigningKey(path, key_label(secret.get_public_key()), secret)
    _check_pair(key)
    return key


def _make(folder: Path, passphrase: str | None) -> SigningKey:
    pair = minisign.KeyPair.generate()
    secret, label = pair.secret_key, key_label(pair.public_key)
    if passphrase:
        secret.encrypt(passphrase)
    secret.untrusted_comment = "edgekit secret key, keep it private"
    # The secret half first: a power cut after it loses nothing, for the public half follows from it.
    write_atomically(folder / SECRET_NAME, _file_bytes(secret), mode=0o600)
    write_atomically(folder / PUBLIC_NAME, _public_file(pair.public_key))
    if passphrase:
        secret.decrypt(passphrase)
    return SigningKey(folder / SECRET_NAME, label, secret)


def _public_file(key: Any) -> bytes:
    key.untrusted_comment = f"edgekit public key {key_label(key)}"
    return _file_bytes(key)


def _file_bytes(part: Any) -> bytes:
    return bytes(part) + b"\n"


def _check_pair(key: SigningKey) -> None:
    public = key.public_path
    if not public.is_file():
        return
    try:
        beside = minisign.PublicKey.from_file(public)
    except (minisign.Error, OSError) as cause:
        raise KeyFormatError(str(public), f"not a minisign public key ({cause})") from cause
    if beside != key._secret.get_public_key():
        raise KeyFormatError(str(public), f"is the public half of {key_label(beside)}, not of {key.key_id} beside it")


def _unlock(path: Path, secret: Any, passphrase: str | None) -> None:
    if passphrase is None:
        raise LockedKeyError(str(path), "this secret key is protected by a passphrase", PASSPHRASE_ENV)
    try:
        secret.decrypt(passphrase)
    except minisign.Error as cause:
        raise LockedKeyError(str(path), "the passphrase is not this key's", PASSPHRASE_ENV) from cause


def _passphrase_from_environment(path: Path) -> str | None:
    named = os.environ.get(f"{PASSPHRASE_ENV}_FILE")
    if not named:
        return os.environ.get(PASSPHRASE_ENV)
    try:
        return Path(named).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as cause:
        raise LockedKeyError(str(path), f"the passphrase file {named} cannot be read", PASSPHRASE_ENV) from cause


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time makes or completes a pair; the lock is the folder itself and leaves nothing behind."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
