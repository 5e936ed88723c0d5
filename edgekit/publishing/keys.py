"""The keys of the repository: root and targets offline, one online. Ed25519, PKCS 8 PEM, as `fleet init` makes them.

FLEET/updates/root.key, targets.key    sign what is offered; belong off the machine that boards reach
FLEET/updates/online.key               signs every day that this is still the newest; stays on it
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from edgekit.artefacts import write_atomically
from edgekit.publishing.errors import UpdateKeyError
from edgekit_device.bundle import user_public_key

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner

ROOT, TARGETS, ONLINE = "root", "targets", "online"
OFFLINE = (ROOT, TARGETS)
_MAX_BYTES = 1 << 14


def keys_folder() -> Path:
    """``~/.config/edgekit/fleet/updates``, or below EDGEKIT_CONFIG_HOME."""
    return user_public_key().parent.parent / "fleet" / "updates"


class UpdateKeys:
    """The keys in a folder; one that is missing is made when it is first needed.

    Args:
        folder: `keys_folder()` by default; a stick, if the offline keys are kept on one.
        passphrase: Of the offline keys.
        online: Folder of the online key, if it is another.
    """

    def __init__(self, folder: Path | None = None, passphrase: str | None = None, online: Path | None = None) -> None:
        self.folder = folder or keys_folder()
        self._online = online or self.folder
        self._passphrase = passphrase

    def path(self, name: str) -> Path:
        """Of the secret half."""
        return (self._online if name == ONLINE else self.folder) / f"{name}.key"

    def has(self, name: str) -> bool:
        """Whether it is here."""
        return self.path(name).is_file()

    def signer(self, name: str) -> CryptoSigner:
        """What signs.

        Raises:
            UpdateKeyError: The key is missing, locked or open to others.
        """
        path = self.path(name)
        try:
            with path.open("rb") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                if mode & 0o077:
                    problem = f"others may read this secret (mode {mode:04o}); close it: chmod 600 {path}"
                    raise UpdateKeyError(str(path), problem)
                data = file.read(_MAX_BYTES)
        except OSError as cause:
            remedy = "bring the key back, or name its folder with --keys"
            raise UpdateKeyError(str(path), f"cannot be read ({cause.strerror}); {remedy}") from cause
        locked = b"ENCRYPTED" in data
        if locked and not self._passphrase:
            raise UpdateKeyError(str(path), "is locked; give --passphrase-file FILE, or set EDGEKIT_KEY_PASSPHRASE")
        word = self._passphrase.encode() if locked and self._passphrase else None
        try:
            key = serialization.load_pem_private_key(data, word)
        except (ValueError, TypeError) as cause:
            raise UpdateKeyError(str(path), "is no key, or the passphrase is not its own") from cause
        if not isinstance(key, ed25519.Ed25519PrivateKey):
            raise UpdateKeyError(str(path), "is not an Ed25519 key")
        return _signer(key)

    def ensure(self, name: str) -> CryptoSigner:
        """What signs; its key is made now if there is none."""
        return self.signer(name) if self.has(name) else self.make(name)

    def make(self, name: str) -> CryptoSigner:
        """Make a key in place of the one that is there, which is kept as ``NAME.key.old`` until the next time."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        key = ed25519.Ed25519PrivateKey.generate()
        how: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if self._passphrase and name in OFFLINE:
            how = serialization.BestAvailableEncryption(self._passphrase.encode())
        if path.exists():
            write_atomically(path.with_name(f"{path.name}.old"), path.read_bytes(), mode=0o600)
        data = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)
        write_atomically(path, data, mode=0o600)
        return _signer(key)

    def previous(self, name: str) -> UpdateKeys | None:
        """The keys as they were before `make`; None if there was none."""
        return _Old(self, name) if self.path(name).with_name(f"{name}.key.old").is_file() else None


class _Old(UpdateKeys):
    def __init__(self, now: UpdateKeys, name: str) -> None:
        super().__init__(now.folder, now._passphrase, now._online)
        self._name = name

    def path(self, name: str) -> Path:
        found = super().path(name)
        return found.with_name(f"{found.name}.old") if name == self._name else found


def _signer(key: ed25519.Ed25519PrivateKey) -> CryptoSigner:
    from securesystemslib.signer import CryptoSigner, SSlibKey

    return CryptoSigner(key, SSlibKey.from_crypto(key.public_key()))
