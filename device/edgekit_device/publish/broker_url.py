"""The broker's address as one word: ``mqtt://host:port``, or ``mqtts://`` for TLS."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from edgekit_device.contract.addresses import url_host
from edgekit_device.contract.errors import UsageError

if TYPE_CHECKING:
    from edgekit_device.publish.access import Access

PORTS = {"mqtt": 1883, "mqtts": 8883}
_EXAMPLE = "write it like mqtt://127.0.0.1:1883, or mqtts://broker.example.org for TLS"


class BrokerAddress(NamedTuple):
    """Where a broker listens.

    Attributes:
        host: Name or address, IPv6 without brackets.
        port: TCP port.
        tls: Whether the connection is encrypted.
        access: As whom a program of the host presents itself there; no part of the URL.
    """

    host: str
    port: int
    tls: bool
    access: Access | None = None

    @property
    def url(self) -> str:
        """The address in the form that `parse_broker_url` reads."""
        return f"{'mqtts' if self.tls else 'mqtt'}://{url_host(self.host)}:{self.port}"


def parse_broker_url(url: str) -> BrokerAddress:
    """Take a broker's URL apart.

    Args:
        url: ``mqtt://HOST[:PORT]`` (1883) or ``mqtts://HOST[:PORT]`` (8883).

    Raises:
        UsageError: Another scheme, no host, a port out of range, or anything a broker's URL does not have.
            A password is never taken from a URL: it would show in process lists and logs.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as cause:
        raise UsageError(f"broker URL {_shown(url)}: {cause}; {_EXAMPLE}") from cause
    if parts.scheme not in PORTS:
        raise UsageError(f"broker URL {_shown(url)}: it must start with mqtt:// or mqtts://; {_EXAMPLE}")
    if "@" in parts.netloc:
        raise UsageError(f"broker URL {_shown(url)}: a user or password does not belong in a URL; {_EXAMPLE}")
    if not host or not host.isprintable() or " " in host:
        raise UsageError(f"broker URL {_shown(url)}: it names no host; {_EXAMPLE}")
    if port == 0:
        raise UsageError(f"broker URL {_shown(url)}: port 0 cannot be reached; {_EXAMPLE}")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise UsageError(f"broker URL {_shown(url)}: nothing may follow the port; {_EXAMPLE}")
    return BrokerAddress(host, port or PORTS[parts.scheme], parts.scheme == "mqtts")


def _shown(url: str) -> str:
    """The URL for a message, without what might be a password."""
    scheme, mark, rest = url[:200].rpartition("@")
    return repr(f"{scheme.partition('://')[0]}://***@{rest}" if mark else rest)
