"""The fleet folder: authority, broker's certificate, accounts, update keys. Made in one step that may be cut anywhere.

A certificate lies in one file with its key, so that no power cut can leave one without the other; what follows from a
file is made again from it. Whoever has this folder is the fleet: it is 0700, its secrets are 0600.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from edgekit.artefacts import write_atomically
from edgekit.errors import FleetFileError, FleetMissingError, InsecureFleetFileError
from edgekit.trust import authority, keys
from edgekit.trust.authority import Pair
from edgekit.trust.fleet_settings import FleetSettings, read_settings
from edgekit.trust.registry import Registry

SETTINGS = "fleet.toml"
AUTHORITY, BROKER = "ca/authority.key", "broker/broker.key"
REGISTRY = "members.db"
ADMINISTRATOR_NAME, LOCAL_COLLECTOR = "administrator", "local"
_MAX_BYTES = 1 << 16
_BEGIN, _END = b"-----BEGIN PRIVATE KEY-----", b"-----END PRIVATE KEY-----"


def fleet_folder() -> Path:
    """``~/.config/edgekit/fleet``, or below EDGEKIT_CONFIG_HOME."""
    return keys.keys_folder().parent / "fleet"


@dataclass(frozen=True)
class HostAccount:
    """An account of the host as its 0600 file holds it.

    Attributes:
        user: User name; a collector's connections append their purpose: ``collector.local.link``.
    """

    user: str
    _password: str

    def __repr__(self) -> str:
        return f"HostAccount({self.user!r})"

    @property
    def password(self) -> str:
        """In clear."""
        return self._password


class Fleet:
    """The files of one fleet, and nothing in memory.

    Args:
        folder: `fleet_folder()` by default.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or fleet_folder()

    @property
    def settings(self) -> FleetSettings:
        """fleet.toml, read now."""
        return read_settings(self.folder / SETTINGS)

    @property
    def authority_file(self) -> Path:
        """The authority's certificate: what boards and collectors trust."""
        return self.folder / "ca" / "authority.pem"

    @property
    def broker_file(self) -> Path:
        """Key, certificate and authority of the broker in one PEM file."""
        return self.folder / BROKER

    @property
    def authority(self) -> Pair:
        """The authority with its key."""
        return _split(self.folder / AUTHORITY)

    @property
    def broker(self) -> Pair:
        """The broker's certificate with its key."""
        return _split(self.broker_file)

    @property
    def registry(self) -> Registry:
        """Who belongs to the fleet."""
        self.must_exist()
        return Registry(self.folder / REGISTRY)

    def account_file(self, name: str) -> Path:
        """Where an account of the host keeps its password."""
        return self.folder / "accounts" / f"{name}.json"

    def account(self, name: str) -> HostAccount:
        """Read an account of the host.

        Raises:
            FleetFileError: Missing or damaged.
            InsecureFleetFileError: Others can read it.
        """
        path = self.account_file(name)
        try:
            values = json.loads(read_secret(path))
            return HostAccount(str(values["user"]), str(values["password"]))
        except (ValueError, KeyError, TypeError) as cause:
            raise FleetFileError(str(path), "is not an account file") from cause

    def must_exist(self) -> None:
        """Raise FleetMissingError where init never finished: the settings are written last."""
        if not (self.folder / SETTINGS).exists():
            raise FleetMissingError(str(self.folder))

    def host_certificate(self, now: datetime | None = None) -> Path:
        """Key and certificate for programs of the host, where the broker asks for one; made when it is needed."""
        now = now or datetime.now(UTC)
        path, ca = self.folder / "accounts" / "host.pem", self.authority
        held = _split(path) if path.exists() else None
        if held and authority.belongs(ca.certificate, held) and not authority.is_due(held.certificate, now):
            return path
        pair = authority.issue_host(ca, "host", now)
        write_atomically(path, pair.certificate + pair.key, mode=0o600)
        return path

    def renew_broker(self, now: datetime | None = None) -> bool:
        """Make the broker's certificate again if it ends soon or names other hosts than fleet.toml; True if so."""
        now = now or datetime.now(UTC)
        settings, ca = self.settings, self.authority
        if self.broker_file.exists():
            held = self.broker
            fits = set(authority.names_of(held.certificate)) == set(settings.names)
            if fits and authority.belongs(ca.certificate, held) and not authority.is_due(held.certificate, now):
                return False
        write_broker(self.broker_file, ca, settings.names, now)
        return True


def read_secret(path: Path) -> bytes:
    """Read a file that only its owner may read.

    Raises:
        InsecureFleetFileError: Others may read it too.
        FleetFileError: Missing or too large.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o7777
            if mode & 0o077:
                raise InsecureFleetFileError(str(path), mode)
            return file.read(_MAX_BYTES)
    except InsecureFleetFileError:
        raise
    except OSError as cause:
        raise FleetFileError(str(path), f"cannot be read ({cause.strerror}); run again: edgekit fleet init") from cause


def write_broker(path: Path, ca: Pair, names: tuple[str, ...], now: datetime) -> None:
    """Make the broker's certificate and key, in one file."""
    pair = authority.issue_broker(ca, names, now)
    # The certificate first: readers of a chain take the first one for the server's own.
    write_atomically(path, pair.certificate + ca.certificate + pair.key, mode=0o600)


def _split(path: Path) -> Pair:
    data = read_secret(path)
    try:
        certificate = x509.load_pem_x509_certificates(data)[0].public_bytes(serialization.Encoding.PEM)
        begin = data.index(b"-----BEGIN PRIVATE KEY-----")
        pair = Pair(
            certificate, data[begin:].partition(b"-----END PRIVATE KEY-----")[0] + b"-----END PRIVATE KEY-----\n"
        )
        authority.fingerprint(pair.certificate)
        serialization.load_pem_private_key(pair.key, None)
    except (ValueError, TypeError, IndexError) as cause:
        raise FleetFileError(str(path), "does not hold a certificate and its key; restore it from a backup") from cause
    return pair
