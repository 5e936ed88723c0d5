"""Where the preview page is served, and who may ask for it. Standard library only: the supervisor decides it."""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from edgekit_device.contract.addresses import url_host
from edgekit_device.contract.errors import UsageError

TOKEN_VARIABLE = "EDGEKIT_PREVIEW_TOKEN"  # noqa: S105 - the name of a variable, not a secret.
_TOKEN_BYTES = 16
_LOCAL_NAMES = ("localhost",)


@dataclass(frozen=True)
class PreviewAddress:
    """A preview page.

    Attributes:
        host: Address to listen on; an IP address or ``localhost``.
        port: TCP port; 0, in tests only, lets the system choose.
        token: What a request must carry; None on loopback, where only this machine's users can ask.
    """

    host: str
    port: int
    token: str | None

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host in _LOCAL_NAMES or ipaddress.ip_address(self.host).is_loopback

    @property
    def url(self) -> str:
        """What to type into a browser."""
        host = socket.gethostname() if self.host in ("0.0.0.0", "::") else self.host  # noqa: S104 - compared only.
        return f"http://{url_host(host)}:{self.port}/" + (f"?token={self.token}" if self.token else "")

    def allows_host(self, header: str | None) -> bool:
        """Whether a Host header may ask.

        A web page that rebinds its own DNS name to this board still sends that name here; an IP address in the
        header cannot be rebound, and the board's own names are known.
        """
        name = _host_of(header or "")
        if not name:
            return False
        own = socket.gethostname().lower()
        names = {*_LOCAL_NAMES} if self.is_loopback else {*_LOCAL_NAMES, own, own.split(".")[0] + ".local"}
        if name in names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback if self.is_loopback else True

    def allows_token(self, token: str) -> bool:
        """Whether a token is the right one, compared in constant time."""
        return self.token is None or hmac.compare_digest(token.encode(), self.token.encode())


def _host_of(header: str) -> str:
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.rpartition(":")[0].lower() if ":" in header else header.lower()


def preview_address(text: str, environ: Mapping[str, str]) -> PreviewAddress:
    """Read ``HOST:PORT``, ``:PORT`` or ``PORT``; without a host it is loopback.

    Beyond loopback the page has a token: the one in the environment, so that a bookmark lasts, or a new one.

    Raises:
        UsageError: Not of that form.
    """
    host, _, port = text.rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    try:
        if host not in _LOCAL_NAMES:
            ipaddress.ip_address(host)
        number = int(port)
        if not 1 <= number <= 65535:
            raise ValueError
    except ValueError as cause:
        raise UsageError(
            f"unknown preview address {text!r}; write 127.0.0.1:8088 for this machine only, or 0.0.0.0:8088"
        ) from cause
    open_address = PreviewAddress(host, number, None)
    if open_address.is_loopback:
        return open_address
    return PreviewAddress(host, number, environ.get(TOKEN_VARIABLE) or secrets.token_urlsafe(_TOKEN_BYTES))
