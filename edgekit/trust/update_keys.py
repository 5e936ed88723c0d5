"""The keys of the update repository that stay offline: root and targets, as python-tuf signs with them.

PKCS 8 PEM of Ed25519, which securesystemslib's CryptoSigner reads (``file2:PATH``); encrypted where a passphrase is
given. They are made once and never leave the fleet folder but in a backup.
"""

from __future__ import annotations

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

ROLES = ("root", "targets")


def new_update_key(passphrase: str | None) -> tuple[bytes, bytes]:
    """Make one pair.

    Args:
        passphrase: Encrypts the secret half; None leaves it to the file's permissions.

    Returns:
        (secret, public), both PEM.
    """
    key = ed25519.Ed25519PrivateKey.generate()
    how: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        how = serialization.BestAvailableEncryption(passphrase.encode())
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)
    return secret, public_half(key)


def public_half(key: ed25519.Ed25519PrivateKey) -> bytes:
    """The public half, PEM."""
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
