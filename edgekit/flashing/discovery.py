"""Boards on this network, found by mDNS. What they say is a stranger's word: checked, shown, never trusted."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgekit.errors import MissingPackageError, UsageError
from edgekit.flashing.announcement import SERVICE_TYPE
from edgekit_device.contract.ids import check_id

if TYPE_CHECKING:
    from zeroconf import Zeroconf

_TYPE = f"{SERVICE_TYPE}.local."
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
# A network has few boards; a flood of names is an attack.
MOST = 1000
_ASK_MS = 2000


@dataclass(frozen=True)
class FoundBoard:
    """One board that answered.

    Attributes:
        device: Its id; empty where it says none that may be one.
        site: Id of its site; the same.
        host: Its name on this network, e.g. ``porch.local``.
        addresses: Its addresses.
        port: Where its SSH server listens.
    """

    device: str
    site: str
    host: str
    addresses: tuple[str, ...]
    port: int

    @property
    def target(self) -> str:
        """What to give `edgekit flash`; put your user on the board before it: ``ssh://USER@HOST``."""
        return f"ssh://{self.host}" + ("" if self.port == 22 else f":{self.port}")


def find_boards(seconds: float = 3.0, interfaces: Sequence[str] | None = None) -> list[FoundBoard]:
    """Ask the network for boards.

    Args:
        seconds: How long to listen.
        interfaces: Addresses of this machine's interfaces to ask on; all by default.

    Raises:
        MissingPackageError: zeroconf is not installed.
        UsageError: This machine does not let anybody ask.
    """
    try:
        from zeroconf import InterfaceChoice, ServiceBrowser, Zeroconf
    except ImportError as cause:
        raise MissingPackageError("zeroconf", "finding boards", "pip install 'edgekit[flash]'") from cause
    names: dict[str, None] = {}
    lock = threading.Lock()

    class Listener:
        """Keeps the names of what answers."""

        def add_service(self, zeroconf: Zeroconf, kind: str, name: str) -> None:
            with lock:
                if len(names) < MOST:
                    names[name] = None

        def update_service(self, zeroconf: Zeroconf, kind: str, name: str) -> None:
            self.add_service(zeroconf, kind, name)

        def remove_service(self, zeroconf: Zeroconf, kind: str, name: str) -> None:
            with lock:
                names.pop(name, None)

    try:
        network = Zeroconf(interfaces=list(interfaces) if interfaces else InterfaceChoice.All)
    except OSError as cause:
        raise UsageError(f"this machine cannot ask the network by mDNS ({cause}); is it connected?") from cause
    with network:
        ServiceBrowser(network, _TYPE, Listener())  # type: ignore[arg-type]
        time.sleep(seconds)
        with lock:
            answered = list(names)
        infos = [network.get_service_info(_TYPE, name, _ASK_MS) for name in answered]
    found = [_board(info) for info in infos if info is not None]
    return sorted((board for board in found if board is not None), key=lambda b: (b.site, b.device, b.host))


def _board(info: Any) -> FoundBoard | None:
    host = str(info.server or "").rstrip(".")
    port = info.port
    if not _HOST.fullmatch(host) or not isinstance(port, int) or not 0 < port < 65_536:
        return None
    said: Mapping[str, str] = {
        key.decode("ascii", "replace"): (value or b"").decode("ascii", "replace")
        for key, value in (info.properties or {}).items()
    }
    return FoundBoard(_id(said.get("id")), _id(said.get("site")), host, tuple(info.parsed_addresses()), port)


def _id(text: str | None) -> str:
    try:
        return check_id("id", text or "")
    except UsageError:
        return ""
