"""The Update Framework on the board: python-tuf's client with our transport, our clock and our names for what is wrong.

python-tuf verifies; here is decided with what time, how the bytes come, and what a refusal is called. It is imported
where it is used: the supervisor never needs it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from tuf.api import exceptions as tuf_errors
from tuf.api.metadata import Metadata as Signed
from tuf.ngclient import Updater, UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface

from edgekit_device.disk import replace_file
from edgekit_device.ota.errors import (
    DamagedMetadataError,
    ExtraneousFileError,
    FastForwardError,
    MissingFileError,
    OverTheAirError,
    UnknownReleaseError,
)
from edgekit_device.ota.parts import Wanted
from edgekit_device.ota.refusals import MAX_LEAP, Shown, refusal
from edgekit_device.ota.transport import Transport, name_of

if TYPE_CHECKING:
    from tuf.api.metadata import TargetFile

    from edgekit_device.trusted_time import Moment

AT = "x-edgekit-at-s"
"""In targets, which are signed offline: when that was, s since 1970. It raises the floor of a board without a clock."""
HASHES = {"sha256": 64, "sha512": 128}
"""What a file may be named by, the first that it has, and how many hex digits that is."""
_MOST_ROOTS = 512


class Now(NamedTuple):
    """What time it is, as far as this board knows.

    Attributes:
        moment: Wall clock and floor.
        synced: Whether the wall clock is known to be set by the network.
    """

    moment: Moment
    synced: bool = False


class Metadata:
    """What a repository says, as far as it can be trusted.

    Args:
        urls: Of the metadata and of the files, each ending in a slash.
        folder: Where trusted metadata is kept from one time to the next.
        transport: For the requests.
        now: What is known of the time.
        root: The first root; None goes on from what the folder holds.

    Raises:
        OverTheAirError: The root is none.
    """

    def __init__(
        self,
        urls: tuple[str, str],
        folder: Path,
        transport: Transport,
        now: Now,
        root: bytes | None,
    ) -> None:
        self._targets_url, self._now = urls[1], now
        self._fetcher = _Fetcher(transport, folder)
        self._updater: _Client = self._named(lambda: _Client(str(folder), urls[0], self._fetcher, root))
        self._updater.judge_by(now.moment)

    def refresh(self) -> None:
        """Learn what the repository offers now.

        Raises:
            OverTheAirError: Its class names the attack or the trouble.
        """
        self._named(self._updater.refresh)

    def find(self, path: str) -> Wanted:
        """A file that it offers.

        Args:
            path: Of the target.

        Raises:
            UnknownReleaseError: It offers none of that name.
            OverTheAirError: Its class names the attack or the trouble.
        """
        found: TargetFile | None = self._named(lambda: self._updater.get_targetinfo(path))
        if found is None:
            raise UnknownReleaseError(
                path, "the fleet's repository does not offer it; publish it: edgekit fleet publish"
            )
        algorithm = next((name for name in HASHES if name in found.hashes), None)
        if algorithm is None:
            raise UnknownReleaseError(path, f"the repository names it without {' or '.join(HASHES)}; publish it again")
        digest = found.hashes[algorithm]
        # It becomes a file's name here: whoever signed it, it must be a hash and no path.
        if not re.fullmatch(f"[0-9a-f]{{{HASHES[algorithm]}}}", digest, re.ASCII):
            raise DamagedMetadataError("targets.json", f"names {name_of(path)} by a {algorithm} that is none")
        folder, slash, name = path.rpartition("/")
        prefixed = f"{digest}.{name}" if self._updater.consistent else name
        return Wanted(f"{self._targets_url}{quote(folder)}{slash}{quote(prefixed)}", found.length, digest, algorithm)

    def must_be_plain(self) -> None:
        """Refuse what no repository of this project has: roles that others sign for, lists of other files.

        Raises:
            ExtraneousFileError: It has some.
        """
        for file in self._updater.extraneous():
            raise ExtraneousFileError(file, "names others to sign, or files that no update of this project has")

    def _genuine(self) -> bool | None:
        """Whether what came last is signed by the keys of its role, whatever else is wrong with it."""
        client = getattr(self, "_updater", None)
        return client.signed_by_its_role(self._fetcher.shown.role, self._fetcher.data) if client else None

    @property
    def signed_at_s(self) -> float | None:
        """When the files were signed for the last time, offline; None where that is not said."""
        said = self._updater.targets_field(AT)
        return float(said) if isinstance(said, int | float) and not isinstance(said, bool) else None

    def _named(self, action: Callable[[], Any]) -> Any:
        """Do something with python-tuf; what it refuses comes out under our names."""
        try:
            return action()
        except (tuf_errors.RepositoryError, tuf_errors.DownloadError) as cause:
            own = cause.__cause__
            if isinstance(own, OverTheAirError):
                raise own from None
            shown = self._fetcher.shown._replace(genuine=self._genuine())
            if isinstance(cause, tuf_errors.ExpiredMetadataError) and "root.json" in str(cause):
                # Said when the timestamp is looked at: an expired root may still lead to a newer one.
                shown = Shown("root", expires=self._updater.root_ends)
            raise refusal(cause, shown, self._now.moment, synced=self._now.synced) from cause


class _Client(Updater):
    """python-tuf's workflow; what it writes survives a power cut, and what time it is comes from us."""

    def __init__(self, folder: str, url: str, fetcher: _Fetcher, root: bytes | None) -> None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        config = UpdaterConfig(max_root_rotations=_MOST_ROOTS)
        super().__init__(folder, url, fetcher=fetcher, config=config, bootstrap=root)

    def judge_by(self, moment: Moment) -> None:
        """Take this for now: the wall clock may say 1970."""
        self._trusted_set.reference_time = datetime.fromtimestamp(moment.judged_s, UTC)

    @property
    def consistent(self) -> bool:
        """Whether names of files begin with their hash."""
        return bool(self._trusted_set.root.consistent_snapshot)

    @property
    def root_ends(self) -> str:
        """When the newest root that is known expires."""
        return self._trusted_set.root.expires.isoformat()

    def targets_field(self, name: str) -> object:
        """A field of targets that TUF does not know."""
        return self._trusted_set.targets.unrecognized_fields.get(name)

    def extraneous(self) -> list[str]:
        """Files that say more than a repository of this project does."""
        found = [] if self._trusted_set.targets.delegations is None else ["targets.json"]
        return found + ([] if set(self._trusted_set.snapshot.meta) == {"targets.json"} else ["snapshot.json"])

    def signed_by_its_role(self, role: str, data: bytes) -> bool | None:
        """Whether a top-level role's keys signed this; None where it cannot be read."""
        try:
            found: Any = Signed.from_bytes(data)
            self._trusted_set.root.verify_delegate(role, found.signed_bytes, found.signatures)
        except tuf_errors.UnsignedMetadataError:
            return False
        except (tuf_errors.RepositoryError, ValueError):
            return None
        return True

    def _persist_file(self, filename: str, data: bytes) -> None:
        replace_file(Path(filename), data)


class _Fetcher(FetcherInterface):
    """Metadata through our transport; remembers what was shown last, for naming what is wrong with it."""

    def __init__(self, transport: Transport, folder: Path) -> None:
        self._transport, self._folder = transport, folder
        self.shown, self.data = Shown("root"), b""

    def _fetch(self, url: str) -> Iterator[bytes]:
        raise NotImplementedError("every file comes whole, by download_bytes")

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """A file of metadata."""
        number, role = _role(name_of(url))
        held = _version(self._read(role))
        self.shown, self.data = Shown(role, asked=number, held=held), b""
        try:
            data = self._transport.read(url, max_length)
        except MissingFileError as missing:
            raise tuf_errors.DownloadHTTPError(str(missing), missing.code) from missing
        got = _version(data)
        self.shown, self.data = Shown(role, asked=number, held=held, got=got, expires=_expires(data)), data
        known = number if role == "root" else held
        if got is not None and got - (known or 0) > MAX_LEAP:
            problem = f"its version leaps from {held or 0} to {got}; the keys of the role may be stolen"
            raise FastForwardError(f"{role}.json", problem)
        return data

    def _read(self, role: str) -> bytes:
        try:
            return (self._folder / f"{quote(role, '')}.json").read_bytes()
        except OSError:
            return b""


def _role(name: str) -> tuple[int | None, str]:
    """``3.targets.json`` is (3, "targets"), ``timestamp.json`` is (None, "timestamp")."""
    stem = name.removesuffix(".json")
    number, dot, role = stem.partition(".")
    return (int(number), role) if dot and number.isdigit() and len(number) < 19 else (None, stem)


def _signed(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)["signed"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _version(data: bytes) -> int | None:
    found = _signed(data).get("version")
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def _expires(data: bytes) -> str | None:
    found = _signed(data).get("expires")
    return found[:40] if isinstance(found, str) else None
