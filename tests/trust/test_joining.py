"""A board without a token asks to join: a person decides, and nobody in between or in a hurry gets anything."""

from __future__ import annotations

import json
import secrets
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgekit.errors import EdgeKitError, EnrolmentRefusedError
from edgekit.trust.enrolment import Enrolment
from edgekit.trust.enrolment_server import EnrolmentServer
from edgekit.trust.fleet_folder import Fleet
from edgekit.trust.joining import MOST_A_MINUTE, MOST_OF_ONE_ADDRESS, MOST_WAITING, OPEN_S, Joining
from edgekit_device.cli import main
from edgekit_device.contract.enrolment import join_code, join_commitment, proof_of
from edgekit_device.contract.errors import ContractError, EnrolmentError, UsageError
from edgekit_device.identity import IdentityStore
from edgekit_device.joining import Wish, host_url, join_by_asking
from tests.worlds.replays import Requester
from tests.worlds.trusted_fleet import eventually, found_fleet


class Clock:
    """Monotonic seconds that a test moves."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def joining(fleet: Fleet, clock: Clock) -> Joining:
    made = Joining(fleet, Enrolment(fleet), monotonic=clock)
    made.open()
    return made


class Applicant:
    """A board's side, step by step."""

    def __init__(self, joining: Joining, name: str = "home.porch", address: str = "192.0.2.7") -> None:
        self.joining, self.board, self.address = joining, Requester(name), address
        self.csr, self.own, self.secret = self.board.csr(), secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        self.said: dict[str, Any] = {}

    def ask(self, **more: Any) -> Applicant:
        request = {"schema": 1, "commitment": join_commitment(self.own, self.csr), **more}
        self.said = self.joining.ask(request, self.address)
        return self

    def reveal(self, **more: Any) -> Applicant:
        site, device = self.board.site, self.board.device
        known = {"schema": 1, "id": self.said["id"], "number": self.own, "site": site, "device": device}
        self.joining.reveal({**known, "csr": self.csr, "proof": proof_of(self.secret), **more})
        return self

    def collect(self, **more: Any) -> dict[str, Any]:
        return self.joining.collect({"schema": 1, "id": self.said["id"], "proof": self.secret, **more})

    @property
    def code(self) -> str:
        return join_code(self.joining.pin, self.csr, self.own, self.said["number"])


def decided(joining: Joining, *, admit: bool = True) -> str:
    (asking,) = joining.waiting()
    return joining.decide(asking.number, asking.code, admit=admit)


def test_a_board_that_a_person_admits_becomes_a_member_with_its_own_key_and_once(
    fleet: Fleet, joining: Joining
) -> None:
    board = Applicant(joining).ask().reveal()
    assert board.collect() == {"schema": 1, "state": "waiting"}
    (asking,) = joining.waiting()
    assert (asking.name, asking.code, asking.address, asking.known) == ("home.porch", board.code, "192.0.2.7", False)
    assert fleet.registry.find("home.porch") is None
    assert decided(joining) == "home.porch"
    answer = board.collect()
    assert (answer["user"], answer["state"]) == ("home.porch", "admitted")
    member = fleet.registry.find("home.porch")
    assert member is not None
    for _ in range(100):
        with pytest.raises(EnrolmentRefusedError):
            board.collect()


def test_a_refused_board_gets_a_refusal_and_nothing_else(fleet: Fleet, joining: Joining) -> None:
    board = Applicant(joining).ask().reveal()
    decided(joining, admit=False)
    with pytest.raises(EnrolmentRefusedError, match="refused"):
        board.collect()
    assert fleet.registry.find("home.porch") is None


def test_nobody_may_ask_before_a_person_has_opened_it_nor_after_a_quarter_of_an_hour(
    fleet: Fleet, clock: Clock
) -> None:
    joining = Joining(fleet, Enrolment(fleet), monotonic=clock)
    with pytest.raises(EnrolmentRefusedError, match="may not ask"):
        Applicant(joining).ask()
    joining.open()
    board = Applicant(joining).ask().reveal()
    clock.now_s += OPEN_S + 1
    with pytest.raises(EnrolmentRefusedError, match="may not ask"):
        Applicant(joining).ask()
    with pytest.raises(EnrolmentRefusedError):
        board.collect()
    joining.open()
    Applicant(joining).ask().reveal()
    joining.close()
    assert joining.waiting() == []


def test_the_list_is_bounded_in_all_for_an_address_and_in_time(joining: Joining, clock: Clock) -> None:
    for number in range(MOST_OF_ONE_ADDRESS):
        Applicant(joining, f"home.b{number}", "203.0.113.1").ask().reveal()
    with pytest.raises(EnrolmentRefusedError, match="too many"):
        Applicant(joining, "home.more", "203.0.113.1").ask()
    asked = MOST_OF_ONE_ADDRESS
    for number in range(1000):
        try:
            Applicant(joining, f"home.c{number}", f"198.51.100.{number % 250}").ask()
            asked += 1
        except EnrolmentRefusedError:
            clock.now_s += 0.01
    assert asked <= MOST_A_MINUTE
    assert len(joining._places) <= MOST_WAITING
    # Those that asked and never showed a request make room within a minute; a person saw none of them.
    assert len(joining.waiting()) == MOST_OF_ONE_ADDRESS
    clock.now_s += 61
    Applicant(joining, "home.late", "198.51.100.9").ask().reveal()


@pytest.mark.parametrize(
    "change",
    [
        {"number": "another"}, {"id": "0" * 32}, {"site": "../x"}, {"device": "<b>"}, {"device": "barn"},
        {"csr": ""}, {"csr": "x" * 9000}, {"csr": "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n"}, {"site": None},
        {"proof": 7}, {"number": None}, {"proof": "x" * 100},
    ],
    ids=str,
)  # fmt: skip
def test_a_hostile_reveal_shows_nothing_to_a_person(joining: Joining, change: dict[str, Any]) -> None:
    board = Applicant(joining).ask()
    with pytest.raises((ContractError, EdgeKitError)):
        board.reveal(**change)
    assert joining.waiting() == []
    board.reveal()
    assert len(joining.waiting()) == 1


def test_a_board_cannot_show_another_key_than_it_bound_itself_to(joining: Joining) -> None:
    board = Applicant(joining).ask()
    with pytest.raises(EnrolmentRefusedError):
        board.reveal(csr=Requester("home.porch").csr())
    board.reveal()
    with pytest.raises(EnrolmentRefusedError):
        board.reveal()


def test_only_whoever_asked_collects(joining: Joining) -> None:
    board = Applicant(joining).ask().reveal()
    decided(joining)
    for proof in ("", "x", proof_of(board.secret), "x" * 2000):
        with pytest.raises((EnrolmentRefusedError, ContractError)):
            board.collect(proof=proof)
    assert board.collect()["state"] == "admitted"


def test_a_decision_is_about_the_digits_that_the_person_saw(joining: Joining) -> None:
    Applicant(joining).ask().reveal()
    (asking,) = joining.waiting()
    for number, code in ((asking.number, "0000-0000"), ("0" * 32, asking.code), (asking.number, "")):
        with pytest.raises(EnrolmentRefusedError):
            joining.decide(number, code, admit=True)
    assert len(joining.waiting()) == 1


def test_a_name_that_is_taken_is_not_given_away(fleet: Fleet, joining: Joining) -> None:
    enrolment, held = joining._enrolment, Requester("home.porch")
    enrolment.enroll(held.enrolment(enrolment.invite("home.porch")))
    before = fleet.registry.find("home.porch")
    thief = Applicant(joining).ask().reveal()
    (asking,) = joining.waiting()
    assert asking.known
    with pytest.raises(EnrolmentRefusedError, match="member already"):
        joining.decide(asking.number, asking.code, admit=True)
    assert thief.collect() == {"schema": 1, "state": "waiting"}
    assert fleet.registry.find("home.porch") == before


def test_of_two_boards_that_want_one_name_one_comes_in(joining: Joining) -> None:
    first, second = (Applicant(joining, address=f"192.0.2.{n}").ask().reveal() for n in (1, 2))
    one, two = joining.waiting()
    joining.decide(one.number, one.code, admit=True)
    with pytest.raises(EnrolmentRefusedError, match="member already"):
        joining.decide(two.number, two.code, admit=True)
    assert first.collect()["state"] == "admitted"
    assert second.collect()["state"] == "waiting"


def test_somebody_in_between_makes_the_digits_differ(fleet: Fleet, joining: Joining, tmp_path: Path) -> None:
    """Whoever plays the host to the board has another authority, or another request: he can do no third thing."""
    other = Joining(found_fleet(tmp_path / "other"), Enrolment(fleet))
    other.open()
    seen = []
    for _ in range(20):
        board, middle = Applicant(other), Applicant(joining)
        board.ask().reveal()
        middle.ask().reveal()
        (asking,) = joining.waiting()
        seen.append(asking.code == board.code)
        joining.decide(asking.number, asking.code, admit=False)
        with pytest.raises(EnrolmentRefusedError):
            middle.collect()
        (theirs,) = other.waiting()
        other.decide(theirs.number, theirs.code, admit=False)
        with pytest.raises(EnrolmentRefusedError):
            board.collect()
    assert not any(seen)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Fleet, Joining]]:
    fleet = found_fleet(tmp_path / "served")
    enrolment = Enrolment(fleet)
    joining = Joining(fleet, enrolment)
    server = EnrolmentServer(fleet, enrolment, joining=joining)
    server.start()
    yield fleet, joining
    server.stop()


def url(fleet: Fleet) -> str:
    return f"https://127.0.0.1:{fleet.settings.enroll_port}"


def test_over_https_a_board_asks_shows_its_digits_and_is_let_in(served: tuple[Fleet, Joining], tmp_path: Path) -> None:
    fleet, joining = served
    joining.open()
    codes: list[str] = []
    board = IdentityStore(tmp_path / "board")
    found: list[Any] = []
    wish = Wish(url(fleet), "home", "porch")
    thread = threading.Thread(
        target=lambda: found.append(join_by_asking(wish, board, lambda code: codes.append(code) or True, 0.1))
    )
    thread.start()
    assert eventually(lambda: codes)
    assert not board.exists
    (asking,) = joining.waiting()
    assert asking.code == codes[0]
    joining.decide(asking.number, asking.code, admit=True)
    thread.join(20)
    assert found[0].name == "home.porch"
    assert board.read().name == "home.porch"
    member = fleet.registry.find("home.porch")
    assert member is not None
    assert fleet.registry.acts()[-1].what == "board enrolled"


def test_a_board_keeps_nothing_when_the_digits_differ_the_host_is_another_or_nobody_decides(
    served: tuple[Fleet, Joining], tmp_path: Path
) -> None:
    fleet, joining = served
    board = IdentityStore(tmp_path / "board")
    with pytest.raises(EnrolmentError, match="may not ask"):
        join_by_asking(Wish(url(fleet), "home", "porch"), board, lambda code: True)
    joining.open()
    with pytest.raises(EnrolmentError, match="digits differ"):
        join_by_asking(Wish(url(fleet), "home", "porch"), board, lambda code: False)
    with pytest.raises(EnrolmentError, match="another fleet's host"):
        join_by_asking(Wish(url(fleet), "home", "porch", "0" * 64), board, lambda code: True)
    with pytest.raises(EnrolmentError, match="nobody decided"):
        join_by_asking(Wish(url(fleet), "home", "barn", joining.pin), board, lambda code: True, 0.05, 0.2)
    assert not board.exists


def test_the_verb_needs_somebody_to_compare_digits_or_the_pin(
    served: tuple[Fleet, Joining], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet, joining = served
    joining.open()
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False)
    monkeypatch.setattr("edgekit_device.joining._POLL_S", 0.1)
    words = ["enroll", "--ask", url(fleet), "--site", "home", "--id", "shed", "--root", str(tmp_path / "root")]
    assert main(words) == 2
    assert "--pin" in capsys.readouterr().err
    done: list[int] = []
    thread = threading.Thread(target=lambda: done.append(main([*words, "--pin", joining.pin])))
    thread.start()
    assert eventually(joining.waiting)
    decided(joining)
    thread.join(30)
    assert done == [0]
    assert "enrolled as home.shed" in capsys.readouterr().out
    assert 'id = "shed"' in (tmp_path / "root/etc/edgekit/device.toml").read_text()


@pytest.mark.parametrize(
    "text", ["", "http://host", "https://user@host", "https://host/path", "https://host/#1.a.b", "h:x"]
)
def test_what_is_no_host_is_said_so(text: str) -> None:
    with pytest.raises(UsageError):
        host_url(text)


def test_hostile_bodies_end_in_a_refusal_and_never_in_a_500(served: tuple[Fleet, Joining]) -> None:
    import ssl
    import urllib.error

    fleet, joining = served
    joining.open()
    context = ssl.create_default_context(cadata=fleet.authority.certificate.decode())
    bodies = [
        b"", b"{", b"[]", b"null", b'{"schema":1}', b'{"schema":2,"commitment":"x"}', b'{"schema":1,"commitment":null}',
        b'{"schema":1,"commitment":"' + b"x" * 15_000 + b'"}', b"[" * 16_000, b"\xff\xfe", b"x" * 17_000,
        json.dumps({"schema": 1, "id": "0" * 32, "number": "x", "site": "home", "device": "porch", "csr": "x",
                    "proof": "x"}).encode(),
    ]  # fmt: skip
    codes = set()
    for path in ("/v1/join", "/v1/join/reveal", "/v1/join/collect"):
        for body in bodies:
            request = urllib.request.Request(url(fleet) + path, data=body, method="POST")
            try:
                with urllib.request.urlopen(request, timeout=20, context=context) as answer:
                    codes.add(answer.status)
            except urllib.error.HTTPError as error:
                codes.add(error.code)
                error.close()
    assert codes <= {400, 403, 413}
    assert joining.waiting() == []
