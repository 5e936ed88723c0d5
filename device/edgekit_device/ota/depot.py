"""One visit to the fleet's repository: learn what it offers, have files here that are as it says.

/etc/edgekit/updates/root.json     the first root; whoever wrote it decides whom this board believes
/var/lib/edgekit/updates/metadata  what is trusted, from one visit to the next
/var/lib/edgekit/updates/parts     files on their way
/var/lib/edgekit/updates/last-signed  the latest time that offline keys have vouched for
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from edgekit_device import health
from edgekit_device.contract.errors import EdgeKitError
from edgekit_device.disk import make_folders
from edgekit_device.identity import IdentityStore
from edgekit_device.ota.errors import EndlessDataError, NotPreparedError
from edgekit_device.ota.parts import Parts, Wanted
from edgekit_device.ota.transport import Limits, Transport
from edgekit_device.publish.tls import client_context
from edgekit_device.settings import check_updates_url
from edgekit_device.trusted_time import TrustedTime

if TYPE_CHECKING:
    import ssl

ROOT_JSON = "etc/edgekit/updates/root.json"
STATE = "var/lib/edgekit/updates"
_MAX_ROOT_BYTES = 512_000
BUNDLES, RUNTIMES = "bundles", "runtimes"


def unprepared(root: Path, url: str | None) -> str | None:
    """Why a board cannot update over the air as it is set up, with the remedy; None if it can."""
    if url is None:
        return 'device.toml names no repository; set updates = "https://HOST:PORT/updates/"'
    if not (root / ROOT_JSON).is_file():
        return f"{root / ROOT_JSON} is missing: nobody said whom to believe; copy the fleet's root.json there"
    if importlib.util.find_spec("tuf") is None:
        return "the package tuf is missing; install it with: pip install 'edgekit-device[ota]'"
    return None


class Depot:
    """A visit.

    Args:
        root: Folder that stands for the board's ``/``.
        url: Of the repository.
        limits: Of each transfer.

    Raises:
        NotPreparedError: The board is not set up for it.
        OverTheAirError: The first root is none.
    """

    def __init__(self, root: Path, url: str, limits: Limits | None = None) -> None:
        from edgekit_device.ota.metadata import Metadata, Now

        why = unprepared(root, url)
        if why:
            raise NotPreparedError("updates", why)
        self.state = root / STATE
        self.transport = Transport(limits, _context(root, url))
        self.parts = Parts(self.state / "parts")
        self._times = TrustedTime(self.state / "last-signed")
        base = check_updates_url(url)
        try:
            first = (root / ROOT_JSON).read_bytes()[:_MAX_ROOT_BYTES]
            make_folders(self.state / "metadata", 0o700)
        except OSError as cause:
            raise NotPreparedError(str(cause.filename or root), cause.strerror or str(cause)) from cause
        now = Now(self._times.now(), health.clock() == "synced")
        places = (f"{base}metadata/", f"{base}targets/")
        self._metadata = Metadata(places, self.state / "metadata", self.transport, now, first)

    def refresh(self) -> None:
        """Learn what is offered now.

        Raises:
            OverTheAirError: Its class names the attack or the trouble.
        """
        self._metadata.refresh()
        self._metadata.must_be_plain()
        signed_at_s = self._metadata.signed_at_s
        if signed_at_s is not None:
            self._times.saw(signed_at_s)

    def find(self, path: str, most_bytes: int) -> Wanted:
        """What is offered under a name.

        Args:
            path: Of the target, such as ``bundles/lite0-1.0.0.edgekit``.
            most_bytes: More is no such file, whoever signed it.

        Raises:
            UnknownReleaseError: Nothing is.
            EndlessDataError: It is larger than that.
        """
        wanted = self._metadata.find(path)
        if wanted.length > most_bytes:
            raise EndlessDataError(path, f"is {wanted.length} bytes long, at most {most_bytes} may be")
        return wanted

    def fetch(self, wanted: Wanted, progress: Callable[[int], None] = lambda _: None) -> Path:
        """Have a file here.

        Raises:
            OverTheAirError: Its class names the attack or the trouble.
            SlotError: The disk refuses.
        """
        return self.parts.fetch(wanted, self.transport, progress)


def _context(root: Path, url: str) -> ssl.SSLContext | None:
    """The fleet's own authority at the fleet's own host; anywhere else what the system trusts."""
    parts = urlsplit(url)
    if parts.scheme != "https":
        return None
    store = IdentityStore(root)
    try:
        held = store.read() if store.exists else None
    except EdgeKitError as cause:
        raise NotPreparedError("updates", str(cause)) from cause
    if held is None or parts.hostname not in (held.address.host, urlsplit(held.enroll).hostname):
        return client_context()
    return client_context(held.authority, times=store.times)
