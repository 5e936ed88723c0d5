"""Gate E9, first half: what was said once to enrol or renew is said again, a hundred times, and never accepted."""

from __future__ import annotations

import base64
import concurrent.futures
import time
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edgekit.errors import EnrolmentRefusedError, FleetError
from edgekit.trust.enrolment import Enrolment
from edgekit.trust.fleet_folder import Fleet
from edgekit.trust.registry import TOKEN_S
from edgekit_device.contract.enrolment import Invitation, renewal_text


class Requester:
    """A board's key, and what it asks with it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.site, _, self.device = name.partition(".")
        self.key = ec.generate_private_key(ec.SECP256R1())

    def csr(self, name: str | None = None) -> str:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name or self.name)])
        made = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(self.key, hashes.SHA256())
        return made.public_bytes(serialization.Encoding.PEM).decode()

    def enrolment(self, invitation: Invitation, **other: Any) -> dict[str, Any]:
        known = {"schema": 1, "site": self.site, "device": self.device, "csr": self.csr()}
        return {**known, "id": invitation.number, "secret": invitation.secret, **other}

    def renewal(self, nonce: str, **other: Any) -> dict[str, Any]:
        csr = self.csr()
        signature = self.key.sign(renewal_text(self.name, nonce, csr), ec.ECDSA(hashes.SHA256()))
        known = {"schema": 1, "site": self.site, "device": self.device, "csr": csr, "nonce": nonce}
        return {**known, "signature": base64.b64encode(signature).decode(), **other}


def replay(fleet: Fleet, count: int) -> dict[str, int]:
    """Replay a used token and a used renewal, alone and at once, each `count` times; and race for one token.

    Returns:
        How many of each were accepted; ``race`` should be 1, everything else 0.
    """
    enrolment, board = Enrolment(fleet), Requester("home.porch")
    found = {"token": 0, "token_other_key": 0, "renewal": 0, "late_token": 0, "race": 0}
    used = board.enrolment(enrolment.invite("home.porch"))
    enrolment.enroll(used)
    renewal = board.renewal(enrolment.challenge({"schema": 1, "name": "home.porch"})["nonce"])
    enrolment.renew(renewal)
    thief = Requester("home.porch")
    for _ in range(count):
        found["token"] += accepted(lambda: enrolment.enroll(used))
        found["token_other_key"] += accepted(lambda: enrolment.enroll({**used, "csr": thief.csr()}))
        found["renewal"] += accepted(lambda: enrolment.renew(renewal))
    old = enrolment.invite("home.late")
    later = Enrolment(fleet, clock=lambda: time.time() + TOKEN_S + 1)
    late = Requester("home.late")
    for _ in range(count):
        found["late_token"] += accepted(lambda: later.enroll(late.enrolment(old)))
    fresh = enrolment.invite("home.race")
    racers = [Requester("home.race").enrolment(fresh) for _ in range(min(count, 16))]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found["race"] = sum(pool.map(lambda request: accepted(lambda: enrolment.enroll(request)), racers))
    return found


def accepted(ask: Any) -> int:
    """1 if it was, 0 if it was refused by name."""
    try:
        ask()
    except EnrolmentRefusedError:
        return 0
    except FleetError:
        return 0
    return 1
