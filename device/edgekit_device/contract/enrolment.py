"""What host and board say to each other when a board joins a fleet: the token, and the text that a renewal signs."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from typing import NamedTuple
from urllib.parse import urlsplit

from edgekit_device.contract.addresses import url_host
from edgekit_device.contract.errors import UsageError
from edgekit_device.contract.ids import check_id

AUTHORITY_PATH, ENROLL_PATH = "/v1/authority", "/v1/enroll"
CHALLENGE_PATH, RENEW_PATH = "/v1/challenge", "/v1/renew"
JOIN_PATH, REVEAL_PATH, COLLECT_PATH = "/v1/join", "/v1/join/reveal", "/v1/join/collect"
_VERSION = "1"
_PARTS = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_PIN = re.compile(r"[0-9a-f]{64}", re.ASCII)


class Invitation(NamedTuple):
    """A one-time token: where to go, as whom, with what secret, and by what the fleet's authority is known.

    Attributes:
        host: Name or address of the fleet's host.
        port: Of its enrolment service, HTTPS.
        site: Id of the site.
        device: Id of the board.
        number: Names the token; no secret.
        secret: 256 random bits; worth an identity until it is used, and nothing after.
        pin: SHA-256 of the authority's certificate, hex. With it the board needs no clock and no other trust.
    """

    host: str
    port: int
    site: str
    device: str
    number: str
    secret: str
    pin: str

    def __repr__(self) -> str:
        return f"Invitation({self.site}.{self.device} at {self.url})"

    @property
    def url(self) -> str:
        """``https://HOST:PORT``, without anything secret."""
        return f"https://{url_host(self.host)}:{self.port}"

    def to_text(self) -> str:
        """One line that may be copied; what follows ``#`` is never sent as part of an address."""
        return f"{self.url}/#{'.'.join((_VERSION, self.site, self.device, self.number, self.secret, self.pin))}"


def parse_invitation(text: str) -> Invitation:
    """Read a token; what it holds never appears in an error.

    Raises:
        UsageError: It is not one.
    """
    problem = UsageError("this is no enrolment token; make one on the host: edgekit fleet enroll SITE.DEVICE")
    try:
        parts = urlsplit(text.strip())
        host, port = parts.hostname, parts.port
        version, site, device, number, secret, pin = parts.fragment.split(".")
        check_id("site", site)
        check_id("device", device)
        if host and ":" in host:
            ipaddress.ip_address(host)
    except (ValueError, UsageError):
        raise problem from None
    whole = _PARTS.fullmatch(number) and _PARTS.fullmatch(secret) and _PIN.fullmatch(pin)
    if parts.scheme != "https" or not host or not port or version != _VERSION or not whole or "@" in parts.netloc:
        raise problem
    return Invitation(host, port, site, device, number, secret, pin)


def renewal_text(name: str, nonce: str, csr: str) -> bytes:
    """What a board signs with its key to renew: this use, this board, this moment and this request, nothing else.

    Args:
        name: ``<site>.<device>``.
        nonce: The host's challenge.
        csr: The request, PEM.
    """
    digest = hashlib.sha256(csr.encode()).hexdigest()
    return f"edgekit renewal 1\n{name}\n{nonce}\n{digest}\n".encode()


def join_commitment(number: str, csr: str) -> str:
    """What a board sends before it has seen the host's number: it can change neither its own nor its request after.

    Args:
        number: The board's own random number.
        csr: Its request, PEM.
    """
    return hashlib.sha256(f"edgekit join commitment 1\n{number}\n{csr}".encode()).hexdigest()


def proof_of(secret: str) -> str:
    """What a board shows while it waits; later only its secret gets the answer."""
    return hashlib.sha256(f"edgekit join proof 1\n{secret}".encode()).hexdigest()


def join_code(authority_sha256: str, csr: str, board_number: str, host_number: str) -> str:
    """Eight digits that board and host compute each for itself, for a person to compare.

    They are equal only if both speak of one authority and one request. Somebody in between would need keys of his own
    that give the same digits, and may guess once: the board's number is bound before the host's is known.

    Args:
        authority_sha256: Fingerprint of the fleet's authority, hex.
        csr: The board's request, PEM.
        board_number: The board's random number.
        host_number: The host's random number.
    """
    text = f"edgekit join code 1\n{authority_sha256}\n{board_number}\n{host_number}\n{csr}"
    digits = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % 10**8
    return f"{digits // 10**4:04d}-{digits % 10**4:04d}"
