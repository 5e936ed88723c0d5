"""A board's identity: private on the disk, silent in every text, and TLS that says what is wrong without a clock."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edgekit_device.cli import main
from edgekit_device.contract.errors import CredentialsError, FieldError, UsageError
from edgekit_device.identity import PLACE, BoardAccess, Identity, IdentityStore, access_for, identity_from
from edgekit_device.publish.access import Access
from edgekit_device.publish.broker_url import BrokerAddress, parse_broker_url
from edgekit_device.publish.session import Session
from edgekit_device.publish.tls import client_context, words_of
from edgekit_device.trusted_time import BUILD_S, TrustedTime
from edgekit_device.units import unit_text

DAY_S = 86_400
SECRET = "c4n4ry-of-a-password"
NOW = datetime.datetime.fromtimestamp(BUILD_S, datetime.UTC) + datetime.timedelta(days=100)


def certificate(
    name: str, signer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None, begins: int = -1, ends: int = 10
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """Valid from and to so many days from NOW."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer, by = (signer[0].subject, signer[1]) if signer else (subject, key)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + datetime.timedelta(days=begins))
        .not_valid_after(NOW + datetime.timedelta(days=ends))
        .add_extension(x509.BasicConstraints(ca=signer is None, path_length=None), critical=True)
        .add_extension(address, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False)
        .add_extension(
            x509.KeyUsage(True, False, False, False, False, signer is None, signer is None, False, False), critical=True
        )
        .sign(by, hashes.SHA256())
    )
    return made, key


def pem(part: x509.Certificate) -> str:
    return part.public_bytes(serialization.Encoding.PEM).decode()


AUTHORITY = certificate("authority", None, -1000, 3000)
OTHER = certificate("other", None, -1000, 3000)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., int]]:
    """A TLS server with a given certificate; gives its port."""
    listeners = []

    def start(made: tuple[x509.Certificate, ec.EllipticCurvePrivateKey]) -> int:
        file = tmp_path / f"server{len(listeners)}.pem"
        private = made[1].private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        file.write_bytes(pem(made[0]).encode() + private)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def run() -> None:
            while True:
                try:
                    link, _ = listener.accept()
                except OSError:
                    return
                try:
                    with link, context.wrap_socket(link, server_side=True) as secure:
                        heard.append(secure.recv(4096))
                except OSError:
                    continue

        threading.Thread(target=run, daemon=True).start()
        return int(listener.getsockname()[1])

    heard: list[bytes] = []
    start.heard = heard  # type: ignore[attr-defined]
    yield start
    for listener in listeners:
        # Closing alone leaves a thread in accept().
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def clock(days_from_now: float, state: str = "synced") -> TrustedTime:
    return TrustedTime(None, lambda: state, lambda: NOW.timestamp() + days_from_now * DAY_S)


def at(wall_s: float, state: str) -> TrustedTime:
    return TrustedTime(None, lambda: state, lambda: wall_s)


def shake(port: int, times: TrustedTime, host: str = "127.0.0.1", authority: str = "") -> str | None:
    """Why a handshake fails, in words; None if it does not."""
    context = client_context(authority or pem(AUTHORITY[0]), times=times)
    try:
        with socket.create_connection(("127.0.0.1", port)) as link, context.wrap_socket(link, server_hostname=host):
            return None
    except OSError as error:
        return words_of(error, host)


def test_a_good_certificate_is_accepted(serve: Callable[..., int]) -> None:
    assert shake(serve(certificate("broker", AUTHORITY)), clock(0)) is None


def test_an_expired_certificate_is_named_with_its_date(serve: Callable[..., int]) -> None:
    said = shake(serve(certificate("broker", AUTHORITY, -20, -5)), clock(0))
    assert said
    assert "expired on" in said
    assert "this machine's clock says" in said


def test_another_name_is_named(serve: Callable[..., int]) -> None:
    said = shake(serve(certificate("broker", AUTHORITY)), clock(0), host="broker.example.org")
    assert said
    assert "not for broker.example.org" in said


def test_an_unknown_authority_is_named(serve: Callable[..., int]) -> None:
    said = shake(serve(certificate("broker", OTHER)), clock(0))
    assert said
    assert "unknown authority" in said
    assert "edgekit-device enroll" in said


@pytest.mark.parametrize("wall_s", [0, 978_307_200, 2_147_483_648, 4_291_747_200], ids=["1970", "2001", "2038", "2106"])
def test_a_board_whose_clock_is_wrong_still_reaches_its_broker(serve: Callable[..., int], wall_s: float) -> None:
    assert shake(serve(certificate("broker", AUTHORITY, 0, 300)), at(wall_s, "unsynced")) is None


@pytest.mark.parametrize("wall_s", [0, 978_307_200])
def test_a_clock_that_was_set_back_revives_nothing(serve: Callable[..., int], wall_s: float) -> None:
    port = serve(certificate("broker", AUTHORITY, -900, -200))
    for state in ("synced", "unsynced", "unknown"):
        said = shake(port, at(wall_s, state))
        assert said
        assert "expired" in said
        assert "is not right" in said


def test_what_was_seen_later_than_the_build_counts(serve: Callable[..., int], tmp_path: Path) -> None:
    port, file = serve(certificate("broker", AUTHORITY, -90, 10)), tmp_path / "var" / "last-seen"
    board = TrustedTime(file, lambda: "unsynced", lambda: 0.0)
    assert shake(port, board) is None
    board.saw(NOW.timestamp() + 50 * DAY_S)
    assert "expired" in str(shake(port, board))
    again = TrustedTime(file, lambda: "unsynced", lambda: 0.0)
    assert "expired" in str(shake(port, again))


def test_the_floor_never_sinks_and_believes_no_absurd_time(tmp_path: Path) -> None:
    times = TrustedTime(tmp_path / "last-seen", lambda: "unsynced", lambda: 0.0)
    for seconds in (0, -5, BUILD_S - 1, BUILD_S + 200 * 365 * DAY_S, float("inf"), float("nan")):
        times.saw(seconds)
        assert times.now().floor_s == BUILD_S


def test_a_certificate_of_tomorrow_is_refused_by_a_right_clock(serve: Callable[..., int]) -> None:
    said = shake(serve(certificate("broker", AUTHORITY, 1, 10)), clock(0))
    assert said
    assert "begins on" in said
    assert "set the clock" in said


class _Nobody:
    def on_connected(self, window: int | None) -> None: ...
    def on_message(self, topic: str, payload: bytes) -> None: ...
    def on_published(self, packet: int, refusal: str | None) -> None: ...
    def on_subscribed(self, packet: int, refusals: object) -> None: ...


class _Source:
    def __init__(self, access: Access) -> None:
        self._access = access

    def read(self) -> Access:
        return self._access

    def refused(self) -> None: ...


@pytest.mark.parametrize("case", ["expired", "unknown", "good"])
def test_the_password_leaves_only_after_everything_is_checked(serve: Callable[..., int], case: str) -> None:
    made = {
        "expired": certificate("b", AUTHORITY, -9, -5),
        "unknown": certificate("b", OTHER),
        "good": certificate("b", AUTHORITY),
    }
    port, here = serve(made[case]), socket.socketpair()
    access = Access("home.porch", SECRET, pem(AUTHORITY[0]), times=clock(0))
    session = Session(BrokerAddress("127.0.0.1", port, True), "home.porch", ("t", b""), _Source(access), _Nobody())
    reason = session.connect(here[0])
    until = time.monotonic() + 5
    while reason is None and not serve.heard and time.monotonic() < until:  # type: ignore[attr-defined]
        session.turn(0.05, here[0])
    session.close()
    for end in here:
        end.close()
    assert (SECRET.encode() in b"".join(serve.heard)) == (case == "good")  # type: ignore[attr-defined]
    assert SECRET not in str(reason)


def identity() -> Identity:
    return Identity("home", "porch", SECRET, "mqtts://127.0.0.1:8883", "https://127.0.0.1:8884", pem(AUTHORITY[0]))


def stored(root: Path) -> IdentityStore:
    store = IdentityStore(root)
    private = AUTHORITY[1].private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    store.write(identity(), private, pem(AUTHORITY[0]).encode())
    return store


def test_an_identity_reads_back_from_files_that_only_the_owner_reads(tmp_path: Path) -> None:
    store = stored(tmp_path)
    assert store.read() == identity()
    assert {stat.S_IMODE(path.stat().st_mode) for path in store.folder.iterdir()} == {0o600}
    store.credentials.chmod(0o640)
    with pytest.raises(CredentialsError, match="chmod 600"):
        store.read()


def test_the_password_is_in_no_text_of_its_holders(tmp_path: Path) -> None:
    access = BoardAccess(stored(tmp_path)).read()
    assert access.password == SECRET
    assert SECRET not in f"{identity()!r}{access!r}{access}{BrokerAddress('h', 1, True, access)!r}"


@pytest.mark.parametrize("damage", [b"", b"{}", b"[]", b"\xff", b'{"schema":1,"password":"' + SECRET.encode() + b'"}'])
def test_a_damaged_identity_is_named_without_what_it_holds(tmp_path: Path, damage: bytes) -> None:
    store = stored(tmp_path)
    store.credentials.write_bytes(damage)
    with pytest.raises(CredentialsError, match="enrol this board again") as said:
        store.read()
    assert SECRET not in str(said.value)


def test_the_password_is_for_the_fleets_own_broker(tmp_path: Path) -> None:
    stored(tmp_path)
    assert access_for(tmp_path, "home", "porch", parse_broker_url("mqtts://other.example.org")) is None
    assert access_for(tmp_path, "home", "porch", parse_broker_url("mqtt://127.0.0.1:8883")) is None
    assert access_for(tmp_path, "home", "porch", parse_broker_url("mqtts://127.0.0.1:8883")) is not None
    with pytest.raises(CredentialsError, match=r"enrolled as home\.porch"):
        access_for(tmp_path, "home", "barn", parse_broker_url("mqtts://127.0.0.1:8883"))


@pytest.mark.parametrize(
    "change",
    [{"broker": "mqtt://h"}, {"broker": "mqtts://u:p@h"}, {"enroll": "http://h"}, {"site": "a/b"}, {"device": "+"},
     {"password": 1}, {"broker": "file:///etc/passwd"}],
)  # fmt: skip
def test_what_a_host_gives_is_checked_field_by_field(change: dict[str, object]) -> None:
    with pytest.raises((UsageError, FieldError)):
        identity_from({**identity().__dict__, **change})


def test_a_token_in_an_argument_is_refused_and_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["enroll", f"https://127.0.0.1:1/#1.home.porch.0.{SECRET}.{'0' * 64}"]) == 2
    said = capsys.readouterr()
    assert "standard input" in said.err
    assert SECRET not in said.err + said.out


def test_the_service_may_write_where_its_identity_is_renewed() -> None:
    unit = unit_text()
    assert "ProtectSystem=strict" in unit
    assert "StateDirectory=edgekit" in unit
    assert PLACE.startswith("var/lib/edgekit/")
