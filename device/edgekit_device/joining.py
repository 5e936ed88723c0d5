"""`edgekit-device enroll --ask HOST:PORT`: a board without a token asks to join, and a person lets it.

The fleet is not known beforehand here, as it is with a token. What makes up for it are eight digits that board and host
show: they are the same only if nobody stands in between, and the board keeps nothing before somebody has said so.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric import ec

from edgekit_device.contract.addresses import url_host
from edgekit_device.contract.documents import SCHEMA, Fields
from edgekit_device.contract.enrolment import (
    COLLECT_PATH,
    JOIN_PATH,
    REVEAL_PATH,
    join_code,
    join_commitment,
    proof_of,
)
from edgekit_device.contract.errors import ContractError, EnrolmentError, UsageError
from edgekit_device.contract.ids import check_id, client_name
from edgekit_device.enrolling import Host, fetch_authority, keep_identity, request_text, tell, write_settings
from edgekit_device.identity import Identity, IdentityStore
from edgekit_device.settings import load_settings

_POLL_S, _PATIENCE_S = 2.0, 15 * 60.0
_PORT = 8884


@dataclass(frozen=True)
class Wish:
    """Which board wants to join which host.

    Attributes:
        url: ``https://HOST:PORT`` of the host's enrolment.
        pin: SHA-256 of the fleet's authority, hex, where the board knows it; then nobody need compare digits here.
    """

    url: str
    site: str
    device: str
    pin: str | None = None


def ask(args: argparse.Namespace) -> int:
    """The verb's other form: ask, wait, become a member, write device.toml.

    Raises:
        UsageError: The host is no address, or nobody can compare the digits.
        EnrolmentError: The host refused, or somebody here did.
        CredentialsError: The identity cannot be written.
    """
    root = Path(args.root)
    settings = load_settings(root / "etc/edgekit/device.toml")
    site, device = check_id("site", args.site or settings.site), check_id("id", args.id or settings.id)
    wish = Wish(host_url(args.ask), site, device, args.pin)
    if wish.pin is None and not sys.stdin.isatty():
        raise UsageError(
            "there is no terminal to compare the digits at; give --pin, which the dashboard's Enrol page shows"
        )
    identity = join_by_asking(wish, IdentityStore(root), _confirmed if wish.pin is None else _shown)
    tell(identity, write_settings(root, identity), as_json=args.json)
    return 0


def host_url(text: str) -> str:
    """``https://HOST:PORT`` of what a person typed.

    Raises:
        UsageError: It is no host.
    """
    try:
        parts = urlsplit(text if "://" in text else f"https://{text}")
        host, port = parts.hostname, parts.port or _PORT
    except ValueError:
        host, port = None, 0
    if not host or parts.scheme != "https" or parts.username or parts.path not in ("", "/") or parts.fragment:
        raise UsageError(f"--ask {text[:80]!r}: write HOST or HOST:PORT of the fleet's host; a token needs no --ask")
    return f"https://{url_host(host)}:{port}"


def join_by_asking(
    wish: Wish,
    store: IdentityStore,
    confirm: Callable[[str], bool],
    poll_s: float = _POLL_S,
    patience_s: float = _PATIENCE_S,
) -> Identity:
    """Become a member once a person has let this board in.

    Args:
        wish: Who, and where.
        store: Where the identity is kept.
        confirm: Shows the digits; False if the person here says that the host shows others.
        poll_s: Between two questions how it stands.
        patience_s: How long to wait for that person.

    Raises:
        EnrolmentError: The host is another than `pin` says, or refuses; or nobody decided in time.
        CredentialsError: The identity cannot be written.
    """
    authority, pin = fetch_authority(wish.url)
    if wish.pin is not None and pin != wish.pin.strip().lower():
        raise EnrolmentError(wish.url, "this is another fleet's host than --pin names, or somebody in between")
    key = ec.generate_private_key(ec.SECP256R1())
    csr = request_text(key, client_name(wish.site, wish.device))
    own, secret = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    host = Host(wish.url, authority, store)
    said = host.ask(JOIN_PATH, {"schema": SCHEMA, "commitment": join_commitment(own, csr)})
    try:
        read = Fields("answer", said)
        number, theirs = read.text("id", limit=64), read.text("number", limit=64)
    except ContractError as cause:
        raise EnrolmentError(wish.url, "what answers is not a fleet's host") from cause
    shown = {"schema": SCHEMA, "id": number, "number": own, "site": wish.site, "device": wish.device}
    host.ask(REVEAL_PATH, {**shown, "csr": csr, "proof": proof_of(secret)})
    if not confirm(join_code(pin, csr, own, theirs)):
        raise EnrolmentError(wish.url, "the digits differ: somebody stands between this board and that host")
    answer = _admitted(host, {"schema": SCHEMA, "id": number, "proof": secret}, poll_s, patience_s)
    return keep_identity(answer, host, store, key, wish.site, wish.device)


def _admitted(host: Host, question: dict[str, Any], poll_s: float, patience_s: float) -> dict[str, Any]:
    until_s = time.monotonic() + patience_s
    while time.monotonic() < until_s:
        answer = host.ask(COLLECT_PATH, question)
        if answer.get("state") != "waiting":
            return answer
        time.sleep(poll_s)
    raise EnrolmentError(host.url, "nobody decided in time; ask again")


def _shown(code: str) -> bool:
    sys.stderr.write(f"edgekit-device: the Enrol page shows {code}; waiting for somebody to admit this board\n")
    sys.stderr.flush()
    return True


def _confirmed(code: str) -> bool:
    sys.stderr.write(f"\n    {code}\n\nThe dashboard's Enrol page must show the same digits. ")
    sys.stderr.flush()
    return input("Does it? [yes/no] ").strip().lower() in ("y", "yes")
