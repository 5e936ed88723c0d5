"""A board's identity on its disk: who it is, its password, its key, and the authority it trusts. Both files are 0600.

``credentials.json`` is the identity; ``board.pem`` holds key and certificate in the form that TLS reads. Each is
replaced in one step, and a pair that a power cut has parted is mended by the next renewal: the key stays the same.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgekit_device.contract.documents import SCHEMA, Fields, dump, load
from edgekit_device.contract.errors import ContractError, CredentialsError, UsageError
from edgekit_device.contract.ids import check_id, client_name
from edgekit_device.publish.access import Access
from edgekit_device.publish.broker_url import BrokerAddress, parse_broker_url
from edgekit_device.trusted_time import TrustedTime

# Below what systemd lets the service write: it renews both files itself, and /etc is read-only to it.
STATE = "var/lib/edgekit"
PLACE = f"{STATE}/identity"
CREDENTIALS, PAIR, LAST_SEEN = "credentials.json", "board.pem", "last-seen"
BOARD_USER = "edgekit"
_MAX_BYTES = 64 << 10


@dataclass(frozen=True)
class Identity:
    """Who this board is in its fleet.

    Attributes:
        site: Id of the site.
        device: Id of the board.
        password: At the broker.
        broker: ``mqtts://HOST:PORT``: the only one that is told the password.
        enroll: ``https://HOST:PORT``, where it is renewed.
        authority: Certificate of the fleet's authority, PEM.
    """

    site: str
    device: str
    password: str = field(repr=False)
    broker: str
    enroll: str
    authority: str = field(repr=False)

    @property
    def address(self) -> BrokerAddress:
        """Of the broker."""
        return parse_broker_url(self.broker)

    @property
    def name(self) -> str:
        """User name and client id."""
        return client_name(self.site, self.device)

    def to_bytes(self) -> bytes:
        """The file."""
        return dump({"schema": SCHEMA, **self.__dict__})


def identity_from(values: Mapping[str, Any]) -> Identity:
    """Check what a file or the fleet's host states. It is data: ids, two addresses, a password, a certificate.

    Raises:
        FieldError: A field is missing or mistyped.
        UsageError: An id or an address is none.
    """
    read = Fields("credentials", values)
    found = Identity(
        site=check_id("site", read.text("site", limit=63)),
        device=check_id("device", read.text("device", limit=63)),
        password=read.text("password", limit=256),
        broker=read.text("broker", limit=512),
        enroll=read.text("enroll", limit=512),
        authority=read.text("authority", limit=16 << 10),
    )
    if not found.address.tls:
        raise UsageError("the broker's address is not mqtts://")
    if not found.enroll.startswith("https://"):
        raise UsageError("the host's address is not https://")
    return found


class IdentityStore:
    """Where a board keeps its identity.

    Args:
        root: Folder that stands for the board's ``/``.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self.folder = root / PLACE
        self.credentials, self.pair = self.folder / CREDENTIALS, self.folder / PAIR
        self.times = TrustedTime(root / STATE / LAST_SEEN)

    @property
    def exists(self) -> bool:
        """Whether this board was enrolled."""
        return self.credentials.exists()

    def read(self) -> Identity:
        """The identity.

        Raises:
            CredentialsError: Missing, damaged, or others can read it.
        """
        data = self._secret(self.credentials)
        try:
            return identity_from(load("credentials", data))
        except (ContractError, UsageError) as cause:
            raise CredentialsError(str(self.credentials), f"is damaged ({cause}); enrol this board again") from cause

    def read_pair(self) -> bytes:
        """Key and certificate, PEM.

        Raises:
            CredentialsError: Missing, or others can read it.
        """
        return self._secret(self.pair)

    def write(self, identity: Identity, key: bytes, certificate: bytes) -> None:
        """Keep an identity; the file that makes the board a member comes last.

        Args:
            identity: Checked.
            key: PEM.
            certificate: PEM.

        Raises:
            CredentialsError: The disk refuses.
        """
        self._write(self.pair, certificate + key)
        self._write(self.credentials, identity.to_bytes())

    def _secret(self, path: Path) -> bytes:
        try:
            with path.open("rb") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                if mode & 0o077:
                    problem = f"others may read this secret (mode {mode:04o}); close it: chmod 600 {path}"
                    raise CredentialsError(str(path), problem)
                return file.read(_MAX_BYTES)
        except OSError as cause:
            problem = f"cannot be read ({cause.strerror}); enrol this board: edgekit-device enroll"
            raise CredentialsError(str(path), problem) from cause

    def _write(self, path: Path, data: bytes) -> None:
        fresh = path.with_name(f".{path.name}.new")
        try:
            for folder in (self._root / STATE, path.parent):
                if not folder.is_dir():
                    folder.mkdir(parents=True, mode=0o700)
                    self._give_to_board(folder)
            with contextlib.suppress(FileNotFoundError):
                fresh.unlink()
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                self._give_to_board(file.fileno())
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
            place = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(place)
            finally:
                os.close(place)
        except OSError as cause:
            raise CredentialsError(str(path), f"cannot be written ({cause.strerror}); try again with sudo") from cause

    def _give_to_board(self, file: int | Path) -> None:
        """The service runs as a user of its own, which must be able to read and renew what root wrote."""
        if os.geteuid() != 0 or self._root != Path("/"):
            return
        with contextlib.suppress(KeyError):
            user = pwd.getpwnam(BOARD_USER)
            os.chown(file, user.pw_uid, user.pw_gid)


class BoardAccess:
    """The access of a running board, read anew for each connection.

    Args:
        store: Where it lies.
        on_refused: Told when the broker does not accept it.
    """

    def __init__(self, store: IdentityStore, on_refused: Callable[[], None] = lambda: None) -> None:
        self._store, self._on_refused = store, on_refused

    def read(self) -> Access:
        """The access as it is now.

        Raises:
            CredentialsError: It cannot be used.
        """
        found = self._store.read()
        return Access(found.name, found.password, found.authority, self._store.pair, self._store.times)

    def refused(self) -> None:
        """The broker did not accept it: perhaps it was changed there, which a renewal mends."""
        self._on_refused()


def access_for(root: Path, site: str, device: str, broker: BrokerAddress) -> IdentityStore | None:
    """The identity to use at a broker; None where the board is not a member, or the broker is another.

    Raises:
        CredentialsError: The board is enrolled under another name than its settings have.
    """
    store = IdentityStore(root)
    if not store.exists:
        return None
    found = store.read()
    if found.address != broker:
        return None
    if (found.site, found.device) != (site, device):
        problem = f"this board is enrolled as {found.name}, its settings say {site}.{device}; "
        raise CredentialsError(str(store.credentials), problem + "set site and id in device.toml, or enrol it again")
    return store
