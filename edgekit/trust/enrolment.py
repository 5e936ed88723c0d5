"""How a board becomes a member, and stays one: a one-time token, then its own key.

The key is made on the board and never leaves it. The first time a token speaks for it, which lives 15 minutes and
works once; from then on the key does, so a certificate that has ended can be renewed, and a lost answer does no harm.
What is refused is refused in the same words, whatever was wrong. No network here: documents in, documents out.
"""

from __future__ import annotations

import base64
import collections
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edgekit.errors import AlreadyEnrolledError, EnrolmentRefusedError
from edgekit.trust import authority
from edgekit.trust.dynamic_security import Account, hash_password, new_password
from edgekit.trust.registry import REVOKED, TOKEN_S
from edgekit.trust.rules import BOARD
from edgekit_device.contract.documents import SCHEMA, Fields
from edgekit_device.contract.enrolment import Invitation, renewal_text
from edgekit_device.contract.errors import UsageError

if TYPE_CHECKING:
    from edgekit.trust.fleet_folder import Fleet

_CHALLENGE_S, _MOST_CHALLENGES = 60.0, 10_000
_AGAIN = "make a new token on the host: edgekit fleet enroll SITE.DEVICE"


class Enrolment:
    """The host's side; safe for several threads.

    Args:
        fleet: Whose boards.
        admit: Told of each account that was just written, with its password in clear: a running broker
            must learn it. True where somebody else may hold the account until now.
        clock: Seconds since 1970.
    """

    def __init__(
        self,
        fleet: Fleet,
        admit: Callable[[Account, str, bool], None] = lambda account, password, replaced: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._fleet, self._admit, self._clock = fleet, admit, clock
        self._lock = threading.Lock()
        self._challenges: collections.OrderedDict[str, tuple[str, float]] = collections.OrderedDict()

    def invite(self, name: str, *, again: bool = False, by: str = "?", hours: float | None = None) -> Invitation:
        """Make a one-time token for a board.

        Args:
            name: ``SITE.DEVICE``.
            again: Also for a board that is a member or was revoked; its old key and password end with the token.
            by: Who asks, for the audit log.
            hours: How long it is good; a quarter of an hour by default. A card on its way to a board needs longer.

        Raises:
            AlreadyEnrolledError: It is a member or was revoked, and `again` was not said.
            UsageError: Not two ids.
        """
        site, device = authority.check_board_name(name)
        held = self._fleet.registry.find(name)
        if held is not None and not again:
            raise AlreadyEnrolledError(name, held.state)
        number, secret = self._fleet.registry.offer(
            name, self._clock(), by, TOKEN_S if hours is None else int(hours * 3600)
        )
        settings = self._fleet.settings
        pin = authority.fingerprint(self._fleet.authority.certificate)
        return Invitation(settings.hosts[0], settings.enroll_port, site, device, number, secret, pin)

    def enroll(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """A board presents its token and its request.

        Raises:
            FieldError: A field is missing or mistyped.
            CertificateRequestError: The request is not one that is signed here.
            EnrolmentRefusedError: The token is unknown, used, too old, or another board's.
        """
        read = Fields("enrolment", request)
        name = self.check_name(read.text("site", limit=63), read.text("device", limit=63))
        number, secret = read.text("id", limit=64), read.text("secret", limit=128)
        wanted = authority.check_request(read.text("csr", limit=authority.MAX_CSR_BYTES).encode(), name)
        if not self._fleet.registry.spend(number, secret, name, self._clock()):
            raise EnrolmentRefusedError("this token is not valid: used, too old, or for another board", _AGAIN)
        return self._accept(name, wanted, replaced=True)

    def challenge(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """What a board must sign to renew; anybody may ask, and learns nothing by it."""
        name = Fields("challenge", request).text("name", limit=127)
        nonce = secrets.token_urlsafe(32)
        with self._lock:
            self._challenges[nonce] = (name, time.monotonic() + _CHALLENGE_S)
            while len(self._challenges) > _MOST_CHALLENGES:
                self._challenges.popitem(last=False)
        return {"schema": SCHEMA, "nonce": nonce}

    def renew(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """A member asks for a fresh certificate and password; its key answers for it, whether or not it has expired.

        Raises:
            FieldError: A field is missing or mistyped.
            CertificateRequestError: The request is not one that is signed here.
            EnrolmentRefusedError: Not a member, revoked, another key, or a challenge that is old or used.
        """
        read = Fields("renewal", request)
        name = self.check_name(read.text("site", limit=63), read.text("device", limit=63))
        nonce, csr = read.text("nonce", limit=128), read.text("csr", limit=authority.MAX_CSR_BYTES)
        signature = read.text("signature", limit=512)
        wanted = authority.check_request(csr.encode(), name)
        with self._lock:
            asked, until = self._challenges.pop(nonce, ("", 0.0))
        member = self._fleet.registry.find(name)
        fresh = asked == name and time.monotonic() <= until
        known = member is not None and member.state != REVOKED and member.public_key == wanted.public_key
        if not (fresh and known and _signed(wanted.public_key, signature, renewal_text(name, nonce, csr))):
            raise EnrolmentRefusedError("this renewal is not accepted", f"see: edgekit fleet list; or {_AGAIN} --again")
        return self._accept(name, wanted, replaced=False)

    def accept(self, name: str, wanted: authority.Request) -> dict[str, Any]:
        """Make a board a member that a person admitted; the same answer as to a token.

        Args:
            name: ``SITE.DEVICE``, checked.
            wanted: Its request, checked for this name.
        """
        return self._accept(name, wanted, replaced=True)

    def _accept(self, name: str, wanted: authority.Request, *, replaced: bool) -> dict[str, Any]:
        now_s = self._clock()
        ca, settings = self._fleet.authority, self._fleet.settings
        certificate = authority.issue_board(ca, wanted, name, datetime.fromtimestamp(now_s, UTC))
        password = new_password()
        site, device = authority.check_board_name(name)
        account = Account(name, BOARD, site, device, hash_password(password))
        until_s = int(authority.expiry(certificate).timestamp())
        # A renewal is nobody's act: boards renew by themselves, and a hostile one could fill the audit log with it.
        self._fleet.registry.put(account, wanted.public_key, until_s, now_s, "board enrolled" if replaced else "")
        self._admit(account, password, replaced)
        return {
            "schema": SCHEMA,
            "user": name,
            "password": password,
            "certificate": certificate.decode(),
            "authority": ca.certificate.decode(),
            "broker": f"mqtts://{settings.url_host}:{settings.port}",
            "enroll": f"https://{settings.url_host}:{settings.enroll_port}",
            "at_s": int(now_s),
        }

    @staticmethod
    def check_name(site: str, device: str) -> str:
        """``SITE.DEVICE``.

        Raises:
            EnrolmentRefusedError: One of them is no id.
        """
        try:
            authority.check_board_name(f"{site}.{device}")
        except UsageError as cause:
            raise EnrolmentRefusedError("site or device is not an id", "use a-z, 0-9 and '-'") from cause
        return f"{site}.{device}"


def _signed(public_key: bytes, signature: str, text: bytes) -> bool:
    key = serialization.load_der_public_key(public_key)
    try:
        raw = base64.b64decode(signature, validate=True)
        if not isinstance(key, ec.EllipticCurvePublicKey):
            return False
        key.verify(raw, text, ec.ECDSA(hashes.SHA256()))
    except (ValueError, InvalidSignature):
        return False
    return True
