"""The fleet's own mosquitto: who gets in, what is cut and when, and what a restart keeps."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import threading
import time
from pathlib import Path

import pytest

from edgekit.errors import MissingPackageError, PortTakenError
from edgekit.fleet.access import broker_address
from edgekit.fleet.operation import Duty, collect
from edgekit.fleet.proof import prove
from edgekit.trust import mosquitto
from edgekit.trust.fleet_folder import Fleet
from edgekit.trust.founding import add_collector
from edgekit.trust.mosquitto import ACCOUNTS, Mosquitto
from edgekit.trust.registry import REVOKED, ROTATING
from edgekit_device.contract.errors import CredentialsError
from edgekit_device.contract.telemetry import Status
from edgekit_device.contract.topics import TELEMETRY
from edgekit_device.diagnosis.broker import broker as examine_broker
from edgekit_device.enrolling import renew
from edgekit_device.identity import BoardAccess, Identity
from edgekit_device.publish.broker_url import BrokerAddress
from edgekit_device.publish.mqtt import Mqtt
from edgekit_device.publish.options import MqttOptions
from edgekit_device.publish.session import Session
from edgekit_device.renewing import member_access
from tests.trust.conftest import need_mosquitto
from tests.worlds import rights
from tests.worlds.peer import V311, Peer
from tests.worlds.readings import BOOT, reading
from tests.worlds.trusted_fleet import World, eventually, trusted_fleet


def peer(world: World, identity: Identity, **more: object) -> Peer:
    port, authority = world.fleet.settings.port, world.fleet.authority_file
    return Peer(port, authority, identity.name, identity.password, **more)  # type: ignore[arg-type]


def test_nobody_reaches_anothers_topics_whatever_they_try(world: World) -> None:
    """Gate E5 with fewer boards; the whole of it is tools/gates/e5.py."""
    cells = rights.run(world, rights.identities(world, 1))
    assert [cell for cell in cells if cell.expected != cell.happened] == []
    happened = [cell for cell in cells if cell.happened]
    # The observer can see what happens, or it would see nothing wrong either.
    assert {cell.verb for cell in happened if cell.own} == {"publish", "retain", "will", "subscribe"}
    assert not [cell for cell in happened if cell.version == V311]


def test_a_refused_message_is_told_and_the_connection_stays(world: World) -> None:
    _, identity = world.enroll("home.porch")
    board = peer(world, identity)
    assert board.publish("edgekit/v1/home/barn/telemetry", b"x") == "Not authorized"
    assert board.publish("edgekit/v1/home/porch/telemetry", b"x", retain=True) == "Not authorized"
    assert board.publish("edgekit/v1/home/porch/telemetry", b"x") != "Not authorized"
    board.close()


def test_plain_text_and_another_authority_get_nowhere(world: World, tmp_path: Path) -> None:
    port = world.fleet.settings.port
    with socket.create_connection(("127.0.0.1", port)) as plain:
        plain.sendall(bytes([0x10, 13, 0, 4]) + b"MQTT" + bytes([5, 2, 0, 10, 0, 0, 0]))
        plain.settimeout(5)
        try:
            answer = plain.recv(16)
        except ConnectionResetError:
            answer = b""
        assert answer[:1] != b"\x20"
    with pytest.raises(ssl.SSLCertVerificationError), socket.create_connection(("127.0.0.1", port)) as link:
        ssl.create_default_context().wrap_socket(link, server_hostname="127.0.0.1")


def test_a_revoked_board_is_cut_and_stays_out(world: World) -> None:
    store, identity = world.enroll("home.porch")
    board, other = peer(world, identity), peer(world, world.enroll("home.barn")[1])
    assert board.connected
    world.fleet.registry.set_state("home.porch", REVOKED, time.time())
    # The gate's figure is 60 s; a look at the registry each second makes it one or two.
    assert board.until(lambda: board.lost, 60.0)
    assert peer(world, identity).refusal == "Not authorized"
    assert other.connected
    with pytest.raises(Exception, match="not accepted"):
        renew(store)
    other.close()


def test_a_renewal_voids_the_old_password_at_once(world: World) -> None:
    store, identity = world.enroll("home.porch")
    board = peer(world, identity)
    fresh = renew(store)
    assert fresh.password != identity.password
    # mosquitto cuts whoever is connected with a password that has changed; the board reconnects with the new one.
    assert board.until(lambda: board.lost, 20.0)
    assert peer(world, identity).refusal == "Not authorized"
    again = peer(world, fresh)
    assert again.connected
    again.close()


def test_a_rotated_board_is_cut_and_comes_back_with_a_renewal(world: World) -> None:
    store, identity = world.enroll("home.porch")
    board = peer(world, identity)
    world.fleet.registry.set_state("home.porch", ROTATING, time.time())
    assert board.until(lambda: board.lost, 60.0)
    assert peer(world, identity).refusal == "Not authorized"
    back = peer(world, renew(store))
    assert back.connected
    back.close()


def test_a_new_enrolment_throws_off_whoever_holds_the_old_one(world: World) -> None:
    _, old = world.enroll("home.porch")
    board = peer(world, old)
    from edgekit_device.enrolling import join

    fresh = join(world.invite("home.porch", again=True), world.board("home.porch"))
    assert board.until(lambda: board.lost, 20.0)
    assert peer(world, old).refusal == "Not authorized"
    back = peer(world, fresh)
    assert back.connected
    back.close()


def test_accounts_survive_the_broker_and_a_killed_one_is_started_again(world: World) -> None:
    _, identity = world.enroll("home.porch")
    broker = world.service.broker
    assert broker is not None
    assert broker.pid
    before = broker.pid
    os.kill(before, signal.SIGKILL)
    assert eventually(lambda: broker.alive and broker.pid != before and peer(world, identity).connected, 60.0)


def test_the_collectors_proof_runs_with_its_own_accounts(world: World) -> None:
    address = broker_address(f"mqtts://127.0.0.1:{world.fleet.settings.port}")
    assert address.access is not None
    assert address.access.password not in repr(address)
    prove(address, shared=True)
    collector = add_collector(world.fleet, "second")
    assert eventually(
        lambda: all(account.name in (world.service.broker.folder / ACCOUNTS).read_text() for account in collector)  # type: ignore[union-attr]
    )


def test_every_secret_of_the_running_broker_is_private(world: World) -> None:
    world.enroll("home.porch")
    folder = world.fleet.folder / "broker"
    readable = {path.name for path in folder.iterdir() if path.stat().st_mode & 0o077 and path.suffix != ".so"}
    # mosquitto writes its memory itself; the fleet folder above it is 0700.
    assert readable <= {"mosquitto.db", ACCOUNTS}
    assert world.fleet.folder.stat().st_mode & 0o077 == 0


def test_where_a_certificate_is_asked_for_none_gets_in_without(tmp_path: Path) -> None:
    need_mosquitto()
    with trusted_fleet(tmp_path, require_certificate=True) as world:
        store, identity = world.enroll("home.porch")
        assert not peer(world, identity).connected
        with_one = Peer(
            world.fleet.settings.port, world.fleet.authority_file, identity.name, identity.password, identity=store.pair
        )
        assert with_one.connected
        with_one.close()
        prove(broker_address(f"mqtts://127.0.0.1:{world.fleet.settings.port}"), shared=False)


class _Nobody:
    def on_connected(self, window: int | None) -> None: ...
    def on_message(self, topic: str, payload: bytes) -> None: ...
    def on_published(self, packet: int, refusal: str | None) -> None: ...
    def on_subscribed(self, packet: int, refusals: object) -> None: ...


def test_the_boards_own_session_gets_in_and_says_why_when_it_does_not(world: World) -> None:
    store, identity = world.enroll("home.porch")
    refused: list[bool] = []
    access = BoardAccess(store, lambda: refused.append(True))
    here, there = socket.socketpair()

    def why() -> str | None:
        session = Session(identity.address, identity.name, ("edgekit/v1/home/porch/status", b""), access, _Nobody())
        found = session.connect(here)
        until = time.monotonic() + 10
        while found is None and not session._up and time.monotonic() < until:
            found = session.turn(0.1, here)
        session.disconnect()
        session.close()
        return found

    assert why() is None
    world.fleet.registry.set_state("home.porch", REVOKED, time.time())
    assert eventually(lambda: why() is not None)
    assert "revoked on the host" in str(why())
    assert refused
    here.close()
    there.close()


def test_without_mosquitto_the_apt_line_is_named(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mosquitto, "find_mosquitto", lambda: None)
    with pytest.raises(MissingPackageError, match="apt install mosquitto"):
        Mosquitto(fleet).start()


def test_a_taken_port_is_named(fleet: Fleet) -> None:
    need_mosquitto()
    with socket.create_server(("127.0.0.1", fleet.settings.port)), pytest.raises(PortTakenError):
        Mosquitto(fleet).start()


def test_an_account_is_told_to_no_broker_without_tls(world: World) -> None:
    address = BrokerAddress("192.0.2.1", 1883, tls=False, access=broker_address("mqtts://127.0.0.1").access)
    with pytest.raises(Exception, match="not sent without TLS"):
        prove(address, shared=False)


def test_the_doctor_of_an_enrolled_board_reaches_its_broker(world: World) -> None:
    store, identity = world.enroll("home.porch")
    root = store.folder.parents[3]
    assert examine_broker(identity.broker, root=root).state == "ok"
    elsewhere = examine_broker(identity.broker, root=root / "nowhere")
    assert elsewhere.state == "fail"
    assert "unknown authority" in elsewhere.detail


def test_a_board_with_another_name_in_its_settings_is_told_so(world: World) -> None:
    store, identity = world.enroll("home.porch")
    root = store.folder.parents[3]
    with pytest.raises(CredentialsError, match=r"enrolled as home\.porch"):
        member_access(root, "home", "barn", identity.address, lambda line: None)


def test_readings_of_a_member_reach_the_store_and_its_acks_reach_it(world: World, tmp_path: Path) -> None:
    """Board and collector as they run, over TLS, each with its own account: nothing that is needed is refused."""
    store, identity = world.enroll("home.porch")
    address = broker_address(f"mqtts://127.0.0.1:{world.fleet.settings.port}")
    stop, seen = threading.Event(), []
    database = f"sqlite:///{tmp_path / 'fleet.db'}"
    duty = Duty(name="one", ack_s=0.2, batch_s=0.1)
    collector = threading.Thread(target=collect, args=(address, database, duty, stop, seen.append, 0.2), daemon=True)
    collector.start()
    will = Status("offline", BOOT, "toy-1.0.0", None, "connection_lost").to_bytes()
    options = MqttOptions(access=BoardAccess(store), delay_s=lambda attempt: 0.1)
    board = Mqtt(identity.address, "home", "porch", will, options)
    try:
        board.start(Status("online", BOOT, "toy-1.0.0", "xnnpack").to_bytes())
        assert eventually(lambda: board.state().connected), board.state()
        assert eventually(lambda: seen)
        for number in range(20):
            board.send(TELEMETRY, reading(number).to_bytes())
        assert eventually(lambda: seen[-1].stored >= 20), seen[-1]
        # Only an ack empties a board's memory.
        assert eventually(lambda: not board._courier._delivery.memory), board.state()
        assert not [notice for notice in board.heard() if getattr(notice, "kind", "").endswith("refused")]
        assert seen[-1].problem is None
    finally:
        board.close(Status("stopped", BOOT, "toy-1.0.0", None).to_bytes())
        stop.set()
        collector.join(20)
