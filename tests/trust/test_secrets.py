"""Secrets are in files of 0600 and nowhere else: no argument, no output, no log, no error. Gate E6's short form."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.trust.conftest import need_mosquitto
from tests.worlds.secrecy import Canaries, arguments_of, listeners, scan
from tests.worlds.trusted_fleet import World, eventually, found_fleet

PHRASE = "c4n4ry passphrase of the operator"


def test_no_verb_prints_a_secret_and_no_argument_or_log_holds_one(home: Path, tmp_path: Path) -> None:
    """Every verb on both sides, by its own command, with everything it says and everything that runs looked through."""
    need_mosquitto()
    phrase = tmp_path / "phrase"
    phrase.write_text(PHRASE)
    fleet = found_fleet(home / "fleet")
    said: list[bytes] = []

    def run(*words: str, module: str = "edgekit", code: int = 0, feed: bytes = b"") -> bytes:
        done = subprocess.run(
            [sys.executable, "-m", module, *words], input=feed, capture_output=True, env=dict(os.environ), timeout=60
        )
        assert done.returncode == code, done.stderr
        said.append(done.stdout + done.stderr)
        return done.stdout

    broker = subprocess.Popen(
        [sys.executable, "-m", "edgekit", "fleet", "broker", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert broker.stdout
        assert b"mqtts://" in broker.stdout.readline()
        board, token = tmp_path / "board", tmp_path / "token"
        run("fleet", "enroll", "home.porch", "-o", str(token))
        run("enroll", str(token), "--root", str(board), "--json", module="edgekit_device")
        run("enroll", "--root", str(board), module="edgekit_device", code=1, feed=token.read_bytes())
        run("fleet", "enroll", "home.porch", code=1)
        run("fleet", "list", "--json")
        run("fleet", "rotate", "home.porch")
        run("fleet", "revoke", "home.porch")
        run("fleet", "broker", "--print")
        run("fleet", "init", "--json")
        run("fleet", "backup", str(tmp_path / "b"), "--passphrase-file", str(phrase))
        run("fleet", "restore", str(tmp_path / "b"), code=1)
        canaries = Canaries.of(fleet, board, token)
        canaries.add(PHRASE)
        assert len(canaries.all) >= 7
        running = arguments_of(broker.pid)
        assert any("mosquitto" in words for words in running)
        for text in [*(text.encode() for text in running), *said]:
            assert canaries.found_in(text) == []
    finally:
        broker.send_signal(signal.SIGTERM)
        out, err = broker.communicate(timeout=20)
    logs = [path.read_bytes() for path in (fleet.folder / "broker").glob("*.log*")]
    assert logs
    for text in (out, err, *logs):
        assert canaries.found_in(text) == []
    # The canaries can be found where they belong, or nothing would have been proved.
    assert canaries.found_in(b"".join(p.read_bytes() for p in board.rglob("*") if p.is_file()))


def test_an_open_port_is_tls_and_asks_who_is_there(world: World) -> None:
    broker = world.service.broker
    assert broker is not None
    assert broker.pid
    ports = listeners(broker.pid) | listeners(os.getpid())
    settings = world.fleet.settings
    assert {settings.port, settings.enroll_port} <= ports
    for port in (settings.port, settings.enroll_port):
        assert scan("127.0.0.1", port, world.fleet.authority_file) == []


def test_the_enrolment_service_answers_nothing_without_a_token_and_outlives_rubbish(world: World) -> None:
    import http.client
    import ssl

    context = ssl.create_default_context(cafile=str(world.fleet.authority_file))

    def ask(verb: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
        link = http.client.HTTPSConnection("127.0.0.1", world.fleet.settings.enroll_port, context=context, timeout=5)
        try:
            link.request(verb, path, body, headers)
            answer = link.getresponse()
            return answer.status, answer.read()
        finally:
            link.close()

    assert ask("GET", "/")[0] == 404
    assert ask("GET", "/v1/authority")[1] == world.fleet.authority_file.read_bytes()
    for body in (b"", b"{}", b"[]", b"\xff", b'{"schema":1}', b'{"schema":2}', b'{"schema":1,"site":"+","device":"#"}'):
        code, said = ask("POST", "/v1/enroll", body)
        assert code in (400, 403), said
        assert b"password" not in said
    assert ask("POST", "/v1/renew", b"x" * 20_000)[0] == 413
    assert ask("DELETE", "/v1/enroll")[0] == 501
    # Silence, and a handshake that never comes, hold nobody else up.
    silent = [socket.create_connection(("127.0.0.1", world.fleet.settings.enroll_port)) for _ in range(8)]
    began = time.monotonic()
    assert ask("GET", "/v1/authority")[0] == 200
    assert time.monotonic() - began < 5
    for link in silent:
        link.close()
    assert world.enroll("home.porch")


def test_the_signing_key_is_not_read_by_the_service(world: World, tmp_path: Path) -> None:
    """Neither the broker's process nor the collector's has a use for it; a board never gets it."""
    store, _ = world.enroll("home.porch")
    key = (tmp_path / "config" / "keys" / "edgekit.key").read_bytes()
    secret = key.splitlines()[1]
    for path in [*store.folder.rglob("*"), *(world.fleet.folder / "broker").iterdir()]:
        assert secret not in path.read_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_broker_ends_with_its_parent(home: Path) -> None:
    need_mosquitto()
    found_fleet(home / "fleet")
    service = subprocess.Popen(
        [sys.executable, "-m", "edgekit", "fleet", "broker"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert service.stdout
    assert service.stdout.readline()
    children = [int(c) for c in Path(f"/proc/{service.pid}/task/{service.pid}/children").read_text().split()]
    assert children
    service.kill()
    service.communicate()
    assert eventually(lambda: not any(Path(f"/proc/{child}").exists() for child in children), 20.0)
