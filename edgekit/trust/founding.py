"""Founding a fleet: one step that may be cut anywhere and is finished by running it again.

What is there stays as it is; what follows from a file is made again from it; the settings come last.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from edgekit.artefacts import write_atomically
from edgekit.errors import FleetFileError, LockedKeyError
from edgekit.trust import authority, keys
from edgekit.trust.dynamic_security import Account, hash_password, new_password
from edgekit.trust.fleet_folder import (
    ADMINISTRATOR_NAME,
    AUTHORITY,
    REGISTRY,
    SETTINGS,
    Fleet,
    read_secret,
    write_broker,
)
from edgekit.trust.fleet_settings import FleetSettings
from edgekit.trust.registry import Registry
from edgekit.trust.rules import ADMINISTRATOR, COLLECTOR, COLLECTOR_PURPOSES
from edgekit.trust.update_keys import ROLES, new_update_key, public_half

LOCAL_COLLECTOR = "local"


def init(
    folder: Path | None = None,
    settings: FleetSettings | None = None,
    passphrase: str | None = None,
    now: datetime | None = None,
) -> tuple[Fleet, list[str]]:
    """Make a fleet, or finish one whose making was cut; what is there stays as it is.

    Args:
        folder: `fleet_folder()` by default.
        settings: For a new fleet.
        passphrase: Protects the update keys, and the signing key if there is none yet.
        now: When certificates begin.

    Returns:
        (the fleet, what was made now).

    Raises:
        FleetFileError: A file that is there cannot be used.
    """
    fleet, made = Fleet(folder), []
    now = now or datetime.now(UTC)
    with _locked(fleet.folder):
        known = (fleet.folder / SETTINGS).exists()
        wanted = fleet.settings if known else settings or FleetSettings()
        if not (fleet.folder / AUTHORITY).exists():
            ca = authority.new_authority(f"EdgeKit fleet {wanted.name}", now)
            write_atomically(fleet.folder / AUTHORITY, ca.key + ca.certificate, mode=0o600)
            made.append("certificate authority")
        ca = fleet.authority
        if not fleet.authority_file.exists() or fleet.authority_file.read_bytes() != ca.certificate:
            write_atomically(fleet.authority_file, ca.certificate)
        if not fleet.broker_file.exists():
            write_broker(fleet.broker_file, ca, wanted.names, now)
            made.append("broker certificate")
        made += _update_keys(fleet.folder / "updates", passphrase)
        signing = keys.keys_folder()
        if not (signing / keys.SECRET_NAME).exists():
            keys.new_keys(signing, passphrase=passphrase)
            made.append("signing key")
        made += _host_accounts(fleet)
        if wanted.require_certificate:
            fleet.host_certificate(now)
        if not known:
            # Last: a folder with settings is a whole one.
            write_atomically(fleet.folder / SETTINGS, wanted.to_toml().encode())
            made.append("settings")
    return fleet, made


def add_collector(fleet: Fleet, name: str, *, fresh: bool = False) -> list[Account]:
    """An account for a collector, one user name for each of its connections, under one password.

    Two connections of one user name would throw each other off: the user name is the client id.

    Args:
        fleet: Whose.
        name: Of the collector.
        fresh: Make another password even if there is one.
    """
    accounts = [f"collector.{name}.{purpose}" for purpose in COLLECTOR_PURPOSES]
    return _ensure(fleet, f"collector-{name}", f"collector.{name}", accounts, COLLECTOR, fresh=fresh)


def _host_accounts(fleet: Fleet) -> list[str]:
    before = fleet.account_file(ADMINISTRATOR_NAME).exists()
    _ensure(fleet, ADMINISTRATOR_NAME, ADMINISTRATOR_NAME, [ADMINISTRATOR_NAME], ADMINISTRATOR)
    add_collector(fleet, LOCAL_COLLECTOR)
    return [] if before else ["administrator and collector accounts"]


def _ensure(fleet: Fleet, file: str, user: str, names: list[str], role: str, *, fresh: bool = False) -> list[Account]:
    path = fleet.account_file(file)
    if fresh or not path.exists():
        # With the authority, so that one file is all that a collector elsewhere needs.
        ca = fleet.authority.certificate.decode()
        document = {"schema": 1, "user": user, "password": new_password(), "authority": ca}
        path.parent.mkdir(mode=0o700, exist_ok=True)
        write_atomically(path, json.dumps(document, indent=1).encode() + b"\n", mode=0o600)
    password = fleet.account(file).password
    registry = Registry(fleet.folder / REGISTRY)
    found = []
    for name in names:
        held = registry.find(name)
        if held and held.account.enabled and hash_password(password, held.account.hashed.salt) == held.account.hashed:
            found.append(held.account)
            continue
        account = Account(name, role, "", "", hash_password(password))
        registry.put(account, None, None, time.time())
        found.append(account)
    return found


def _update_keys(folder: Path, passphrase: str | None) -> list[str]:
    made = []
    for role in ROLES:
        secret, public = folder / f"{role}.key", folder / f"{role}.pub"
        if not secret.exists():
            private, shown = new_update_key(passphrase)
            # The secret half first: the public one follows from it.
            write_atomically(secret, private, mode=0o600)
            write_atomically(public, shown)
            made.append(f"update key {role}")
        elif not public.exists():
            write_atomically(public, _public_of(secret, passphrase))
    return made


def _public_of(secret: Path, passphrase: str | None) -> bytes:
    data = read_secret(secret)
    try:
        key = serialization.load_pem_private_key(data, passphrase.encode() if passphrase else None)
    except TypeError as cause:
        raise LockedKeyError(str(secret), "a passphrase is missing or needless", keys.PASSPHRASE_ENV) from cause
    except ValueError as cause:
        raise LockedKeyError(str(secret), "the passphrase is not this key's", keys.PASSPHRASE_ENV) from cause
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise FleetFileError(str(secret), "is not an Ed25519 key")
    return public_half(key)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time makes or completes a fleet; the folder's mode is set before anything is in it."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.fchmod(descriptor, 0o700)
        yield
    finally:
        os.close(descriptor)
