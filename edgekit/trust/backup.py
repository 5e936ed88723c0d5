"""A fleet in one file, and back: what cannot be made again if the disk dies.

A tar of a fixed list of names, encrypted where a passphrase is given (scrypt, AES-GCM). A restore takes only those
names, whole and checked, into a folder that is not there yet.
"""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import tempfile
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from edgekit.artefacts import sync_folder, write_atomically
from edgekit.errors import FleetBackupError, FleetFileError
from edgekit.trust import keys
from edgekit.trust.fleet_folder import AUTHORITY, BROKER, REGISTRY, SETTINGS, Fleet, fleet_folder

_MAGIC = b"EDGEKIT FLEET 1\n"
_SALT, _NONCE = 16, 12
_SCRYPT_N, _SCRYPT_R = 1 << 16, 8
_MAX_BYTES = 256 << 20
_SIGNING = "keys/"
# Without one of these a fleet is none; the rest is what the folders hold.
_NEEDED = (
    SETTINGS,
    AUTHORITY,
    BROKER,
    REGISTRY,
    "accounts/administrator.json",
    "updates/root.key",
    "updates/targets.key",
)
_FOLDERS = ("accounts", "updates")


def backup(fleet: Fleet, output: Path, passphrase: str | None = None) -> list[str]:
    """Write everything that makes the fleet: settings, authority, accounts, members, update and signing keys.

    Args:
        fleet: Which.
        output: The file, 0600; one that is there is replaced in one step.
        passphrase: Encrypts it; None leaves it to the file's permissions.

    Returns:
        The names in it.

    Raises:
        FleetMissingError: There is no whole fleet.
        FleetBackupError: The file cannot be written.
    """
    fleet.must_exist()
    found = {name: (fleet.folder / name).read_bytes() for name in (SETTINGS, AUTHORITY, BROKER)}
    for folder in _FOLDERS:
        for path in sorted((fleet.folder / folder).iterdir()):
            if path.is_file() and not path.name.startswith("."):
                found[f"{folder}/{path.name}"] = path.read_bytes()
    with tempfile.TemporaryDirectory(prefix="edgekit-backup-") as place:
        copy = Path(place) / "members.db"
        fleet.registry.copy_to(copy)
        found[REGISTRY] = copy.read_bytes()
    for name in (keys.SECRET_NAME, keys.PUBLIC_NAME):
        path = keys.keys_folder() / name
        if path.exists():
            found[_SIGNING + name] = path.read_bytes()
    data = _pack(found)
    try:
        write_atomically(output, _lock(data, passphrase) if passphrase else data, mode=0o600)
    except OSError as cause:
        raise FleetBackupError(str(output), f"cannot be written ({cause.strerror})") from cause
    return sorted(found)


def restore(source: Path, folder: Path | None = None, passphrase: str | None = None) -> Fleet:
    """Make the fleet folder from a backup, whole or not at all.

    Args:
        source: What `backup` wrote.
        folder: `fleet_folder()` by default; must not hold a fleet.
        passphrase: As it was given to `backup`.

    Raises:
        FleetBackupError: A fleet is there already, another signing key is, or the file is not a whole backup.
    """
    folder = folder or fleet_folder()
    if folder.exists() and any(folder.iterdir()):
        raise FleetBackupError(str(folder), "something lies there already; move it away first")
    found = _read(source, passphrase)
    signing = {name.removeprefix(_SIGNING): data for name, data in found.items() if name.startswith(_SIGNING)}
    for name, data in signing.items():
        path = keys.keys_folder() / name
        if path.exists() and path.read_bytes() != data:
            raise FleetBackupError(str(path), "is another signing key than the backup's; move it away first")
    folder.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        for name, data in found.items():
            if not name.startswith(_SIGNING):
                public = name.endswith((".pub", ".toml"))
                write_atomically(staged / name, data, mode=0o644 if public else 0o600)
        ca = Fleet(staged).authority
        write_atomically(staged / "ca" / "authority.pem", ca.certificate)
        for name, data in signing.items():
            keys.keys_folder().mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomically(keys.keys_folder() / name, data, mode=0o600 if name == keys.SECRET_NAME else 0o644)
        staged.chmod(0o700)
        if folder.exists():
            folder.rmdir()
        staged.rename(folder)
        sync_folder(folder.parent)
    except FleetFileError as cause:
        raise FleetBackupError(str(source), f"its content is damaged ({cause.problem})") from cause
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return Fleet(folder)


def _pack(found: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in sorted(found.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o600
            archive.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def _read(source: Path, passphrase: str | None) -> dict[str, bytes]:
    try:
        if source.stat().st_size > _MAX_BYTES:
            raise FleetBackupError(str(source), f"is larger than {_MAX_BYTES >> 20} MiB: no backup of a fleet")
        data = source.read_bytes()
    except OSError as cause:
        raise FleetBackupError(str(source), f"cannot be read ({cause.strerror})") from cause
    if data.startswith(_MAGIC):
        data = _unlock(data, passphrase, source)
    if not data or len(data) % tarfile.RECORDSIZE:
        # The end of an archive is filling; a copy that was cut there would read as a whole one.
        raise FleetBackupError(str(source), "is not a backup of a fleet, or was cut short")
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            for entry in archive:
                content = archive.extractfile(entry) if entry.isreg() else None
                if content is None or not _is_ours(entry.name) or entry.name in found:
                    raise FleetBackupError(str(source), f"holds {entry.name[:80]!r}, which no backup has")
                found[entry.name] = content.read(entry.size)
    except (tarfile.TarError, EOFError, ValueError) as cause:
        raise FleetBackupError(str(source), f"is not a backup of a fleet, or a damaged one ({cause})") from cause
    missing = [name for name in _NEEDED if name not in found]
    if missing:
        raise FleetBackupError(str(source), f"is not whole: {missing[0]} is missing")
    return found


def _is_ours(name: str) -> bool:
    if name in (SETTINGS, AUTHORITY, BROKER, REGISTRY):
        return True
    folder, slash, file = name.partition("/")
    plain = file.replace("-", "").replace(".", "").isalnum() and not file.startswith(".")
    return (
        bool(slash)
        and plain
        and (folder in _FOLDERS or name in (_SIGNING + keys.SECRET_NAME, _SIGNING + keys.PUBLIC_NAME))
    )


def _lock(data: bytes, passphrase: str) -> bytes:
    salt, nonce = os.urandom(_SALT), os.urandom(_NONCE)
    return _MAGIC + salt + nonce + AESGCM(_stretched(passphrase, salt)).encrypt(nonce, data, _MAGIC)


def _unlock(data: bytes, passphrase: str | None, source: Path) -> bytes:
    if not passphrase:
        raise FleetBackupError(str(source), f"is encrypted; give its passphrase in {keys.PASSPHRASE_ENV}_FILE")
    salt, nonce, rest = (data[len(_MAGIC) :][a:b] for a, b in ((0, 16), (16, 28), (28, None)))
    try:
        return AESGCM(_stretched(passphrase, salt)).decrypt(nonce, rest, _MAGIC)
    except (InvalidTag, ValueError) as cause:
        raise FleetBackupError(str(source), "the passphrase is not this backup's, or the file is damaged") from cause


def _stretched(passphrase: str, salt: bytes) -> bytes:
    return Scrypt(salt=salt, length=32, n=_SCRYPT_N, r=_SCRYPT_R, p=1).derive(passphrase.encode())
