"""Boards that ask to join without a token: a bounded list of those who wait, and a person who admits or refuses.

Closed until a person opens it, for a quarter of an hour. Nothing is given to a board before it was admitted, and then
once. The eight digits that both sides show bind the board's request to this fleet's authority (see the contract).
"""

from __future__ import annotations

import collections
import hmac
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from edgekit.errors import EnrolmentRefusedError
from edgekit.trust import authority
from edgekit_device.contract.documents import SCHEMA, Fields
from edgekit_device.contract.enrolment import join_code, join_commitment, proof_of

if TYPE_CHECKING:
    from edgekit.trust.enrolment import Enrolment
    from edgekit.trust.fleet_folder import Fleet

OPEN_S = 15 * 60.0
MOST_WAITING, MOST_OF_ONE_ADDRESS = 32, 4
MOST_A_MINUTE, _MINUTE_S = 30, 60.0
# A board that asked has so long to show its request; one that waits is forgotten after a while.
_REVEAL_S, _WAIT_S = 60.0, OPEN_S
_CLOSED = "boards may not ask to join now"
_OPEN_IT = "open it on the dashboard's Enrol page, or make a token: edgekit fleet enroll SITE.DEVICE"
_AGAIN = "ask again: edgekit-device enroll --ask HOST:PORT"
WAITING, ADMITTED, REFUSED = "waiting", "admitted", "refused"


class Asking(NamedTuple):
    """A board that wants to join, as a person sees it.

    Attributes:
        number: Names the asking.
        name: ``SITE.DEVICE``, as the board calls itself; nobody has checked it.
        code: Eight digits, which the board shows as well.
        address: Where it asks from.
        since_s: Seconds since 1970.
        known: A member or a revoked board has this name: it cannot be admitted here.
    """

    number: str
    name: str
    code: str
    address: str
    since_s: float
    known: bool


@dataclass
class _Place:
    """One row of the list."""

    address: str
    commitment: str
    host_number: str
    since_s: float
    until_s: float
    name: str = ""
    code: str = ""
    wanted: authority.Request | None = None
    proof: str = ""
    state: str = ""


class Joining:
    """The list; safe for several threads.

    Args:
        fleet: Whose.
        enrolment: What makes an admitted board a member.
        clock: Seconds since 1970.
        monotonic: Seconds.
    """

    def __init__(
        self,
        fleet: Fleet,
        enrolment: Enrolment,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fleet, self._enrolment, self._clock, self._monotonic = fleet, enrolment, clock, monotonic
        self._lock = threading.Lock()
        self._open_until_s = float("-inf")
        self._places: dict[str, _Place] = {}
        self._times: collections.deque[float] = collections.deque(maxlen=MOST_A_MINUTE)

    # -- a person --------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Let boards ask for a while."""
        with self._lock:
            self._open_until_s = self._monotonic() + OPEN_S

    def close(self) -> None:
        """Let no more boards ask, and forget who waits."""
        with self._lock:
            self._open_until_s = float("-inf")
            self._places.clear()

    @property
    def open_s(self) -> float:
        """For how many more seconds boards may ask; 0 while they may not."""
        with self._lock:
            return max(0.0, self._open_until_s - self._monotonic())

    @property
    def pin(self) -> str:
        """SHA-256 of this fleet's authority, hex: a board that is told it needs no digits."""
        return authority.fingerprint(self._fleet.authority.certificate)

    @property
    def place(self) -> str:
        """``HOST:PORT`` where boards ask."""
        settings = self._fleet.settings
        return f"{settings.url_host}:{settings.enroll_port}"

    def waiting(self) -> list[Asking]:
        """Who waits, the first who came first."""
        with self._lock:
            self._forget()
            found = [(number, place) for number, place in self._places.items() if place.state == WAITING]
        members = self._fleet.registry.find
        return [
            Asking(number, p.name, p.code, p.address, p.since_s, members(p.name) is not None) for number, p in found
        ]

    def decide(self, number: str, code: str, *, admit: bool) -> str:
        """Admit a board, or refuse it.

        Args:
            number: Of the asking.
            code: The digits that the person saw.
            admit: Whether it may come in.

        Returns:
            The board's name.

        Raises:
            EnrolmentRefusedError: It does not wait any more, its digits are others, or its name is taken.
        """
        with self._lock:
            self._forget()
            place = self._places.get(number)
            if place is None or place.state != WAITING or not hmac.compare_digest(place.code.encode(), code.encode()):
                raise EnrolmentRefusedError("this board does not wait any more", _AGAIN)
            # Under the lock: of two boards that ask for one name, one comes in.
            others = (p for p in self._places.values() if p is not place and p.state == ADMITTED)
            taken = self._fleet.registry.find(place.name) is not None or any(p.name == place.name for p in others)
            if admit and taken:
                raise EnrolmentRefusedError(
                    f"{place.name} is a member already or was revoked",
                    f"make a token for it: edgekit fleet enroll {place.name} --again",
                )
            place.state = ADMITTED if admit else REFUSED
            return place.name

    # -- a board ---------------------------------------------------------------------------------------------

    def ask(self, request: Mapping[str, Any], address: str) -> dict[str, Any]:
        """First word of a board: a commitment to what it will show.

        Raises:
            FieldError: A field is missing or mistyped.
            EnrolmentRefusedError: Boards may not ask now, or too many do.
        """
        commitment = Fields("join", request).text("commitment", limit=64)
        now_s = self._monotonic()
        with self._lock:
            self._forget()
            if now_s >= self._open_until_s:
                raise EnrolmentRefusedError(_CLOSED, _OPEN_IT)
            often = len(self._times) == MOST_A_MINUTE and now_s - self._times[0] < _MINUTE_S
            held = sum(place.address == address for place in self._places.values())
            if often or len(self._places) >= MOST_WAITING or held >= MOST_OF_ONE_ADDRESS:
                raise EnrolmentRefusedError("too many boards ask", "wait a few minutes, or use a token")
            self._times.append(now_s)
            number, host_number = secrets.token_hex(16), secrets.token_urlsafe(32)
            self._places[number] = _Place(address, commitment, host_number, self._clock(), now_s + _REVEAL_S)
        return {"schema": SCHEMA, "id": number, "number": host_number}

    def reveal(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The board shows its name, its number and its request; from now on a person sees it.

        Raises:
            FieldError: A field is missing or mistyped.
            CertificateRequestError: The request is not one that is signed here.
            EnrolmentRefusedError: It never asked, or this is not what it had bound itself to.
        """
        read = Fields("join", request)
        number, own = read.text("id", limit=64), read.text("number", limit=64)
        name = self._enrolment.check_name(read.text("site", limit=63), read.text("device", limit=63))
        csr, proof = read.text("csr", limit=authority.MAX_CSR_BYTES), read.text("proof", limit=64)
        wanted = authority.check_request(csr.encode(), name)
        pin = authority.fingerprint(self._fleet.authority.certificate)
        with self._lock:
            self._forget()
            place = self._places.get(number)
            bound = place is not None and hmac.compare_digest(
                place.commitment.encode(), join_commitment(own, csr).encode()
            )
            if place is None or place.state or not bound:
                raise EnrolmentRefusedError("this board did not ask, or for something else", _AGAIN)
            place.name, place.wanted, place.proof, place.state = name, wanted, proof, WAITING
            place.code = join_code(pin, csr, own, place.host_number)
            place.until_s = self._monotonic() + _WAIT_S
        return {"schema": SCHEMA, "state": WAITING}

    def collect(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """A board asks how it stands; once admitted it gets its identity, once.

        Raises:
            FieldError: A field is missing or mistyped.
            EnrolmentRefusedError: It does not wait, or was refused.
        """
        read = Fields("join", request)
        number, proof = read.text("id", limit=64), read.text("proof", limit=128)
        with self._lock:
            self._forget()
            place = self._places.get(number)
            known = place.proof if place is not None else ""
            right = hmac.compare_digest(known.encode(), proof_of(proof).encode())
            if place is None or place.wanted is None or not right:
                raise EnrolmentRefusedError("this board does not wait any more", _AGAIN)
            if place.state == WAITING:
                return {"schema": SCHEMA, "state": WAITING}
            del self._places[number]
        if place.state == REFUSED:
            raise EnrolmentRefusedError("somebody refused this board", _AGAIN)
        # Its name may have become a member's by a token in the meantime; that one is not thrown out.
        if self._fleet.registry.find(place.name) is not None:
            raise EnrolmentRefusedError("this board does not wait any more", _AGAIN)
        return {**self._enrolment.accept(place.name, place.wanted), "state": ADMITTED}

    def _forget(self) -> None:
        now_s = self._monotonic()
        for number in [number for number, place in self._places.items() if place.until_s < now_s]:
            del self._places[number]
