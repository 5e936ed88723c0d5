"""A board is asked over MQTT, and answers: a real service, a real broker, the host's own verb and page."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit.cli import main
from edgekit.fleet import audit
from edgekit.fleet.access import broker_address
from edgekit.fleet.asking import AskedTooOftenError, Asker, BoardSilentError
from edgekit.fleet.batch import BoardKey
from edgekit.fleet.broker import EmbeddedBroker
from edgekit.fleet.collector import Collector, CollectorOptions
from edgekit.fleet.database import sqlite_url
from edgekit.fleet.store import Store
from edgekit_device.contract.asking import Answer, Line, Request
from edgekit_device.contract.errors import BrokerUnreachableError
from edgekit_device.contract.topics import REQUEST
from edgekit_device.enrolling import join, write_settings
from edgekit_device.identity import IdentityStore
from tests.worlds.boards import HonestBoard, eventually
from tests.worlds.services import free_port
from tests.worlds.speaker import Speaker
from tests.worlds.trial_board import Board
from tests.worlds.trusted_fleet import trusted_fleet

PORCH = BoardKey("home", "porch")
AT = "2026-11-22T10:00:05.120Z"


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    made = Board(tmp_path)
    made.committed()
    yield made
    made.end()


def connected(board: Board) -> None:
    """Wait until it serves, and its broker has heard of it."""
    board.wait_reading("toy-1.0.0", 90)
    assert eventually(lambda: any(way["sent"] for way in board.status()["outlets"] if "qtt" in way["name"]), 60)


@pytest.fixture
def asker(broker: EmbeddedBroker) -> Iterator[Asker]:
    made = Asker(broker.address)
    yield made
    made.close()


def test_a_boards_log_doctor_and_picture_come_over_mqtt(broker: EmbeddedBroker, board: Board, asker: Asker) -> None:
    settings = f'site = "home"\nid = "porch"\nbroker = "{broker.url}"\npictures = true\n'
    (board.root / "etc/edgekit/device.toml").write_text(settings)
    board.start()
    connected(board)
    log = asker.ask(PORCH, "logs")
    assert any(line.text.startswith("model_ready: toy-1.0.0") for line in log.lines)
    shot = asker.ask(PORCH, "picture")
    assert shot.picture is not None, shot.reason
    assert len(shot.picture) > 1000
    doctor = asker.ask(PORCH, "doctor")
    assert doctor.outcome == "done", doctor.reason
    assert any(f.check == "broker" and "MQTT 5" in f.detail for f in doctor.findings)
    board.wait("asked: doctor: done")
    # Serving went on meanwhile, and the picture lies nowhere on the board.
    assert board.wait_reading("toy-1.0.0")["fps"] > 0
    assert not [path for path in board.root.rglob("*") if path.suffix in (".jpg", ".jpeg")]


def test_pictures_are_off_until_device_toml_says_otherwise(broker: EmbeddedBroker, board: Board, asker: Asker) -> None:
    settings = board.root / "etc/edgekit/device.toml"
    for words, outcome in (("", "refused"), ("pictures = false\n", "refused"), ("pictures = true\n", "done")):
        settings.write_text(f'site = "home"\nid = "porch"\nbroker = "{broker.url}"\n{words}')
        board.start()
        connected(board)
        answer = asker.ask(PORCH, "picture")
        assert answer.outcome == outcome, answer.reason
        assert (answer.picture is not None) == (outcome == "done")
        board.end()


def test_a_board_behind_tls_and_accounts_is_asked_by_verb_and_the_asking_is_noted(
    tmp_path: Path, mosquitto_tool: str, capsys: pytest.CaptureFixture[str], board: Board
) -> None:
    store_file = tmp_path / "fleet.db"
    with trusted_fleet(tmp_path / "fleet") as world:
        identity = join(world.invite("home.porch"), IdentityStore(board.root))
        write_settings(board.root, identity)
        url = f"mqtts://127.0.0.1:{world.fleet.settings.port}"
        options = CollectorOptions(client_id="edgekit-collector-test")
        with Store(sqlite_url(store_file)) as store, Collector(broker_address(url), store, options):
            board.start()
            connected(board)
            words = ["fleet", "logs", "home.porch", "--no-doctor", "--broker", url, "--store", str(store_file)]
            assert main(words) == 0
            assert "model_ready: toy-1.0.0" in capsys.readouterr().out
            assert main([*words, "--json"]) == 0
            found = json.loads(capsys.readouterr().out)
            assert found["logs"]["outcome"] == "done"
            entry = audit.entries(store)[0]
            assert (entry.what, entry.target, entry.outcome) == ("logs asked for", "home.porch", "done")
            assert entry.who.endswith("(command line)")

            def asked() -> bool:
                with store.reading() as connection:
                    kinds = connection.exec_driver_sql("select kind from events").scalars().all()
                return kinds.count("asked") == 2

            assert eventually(asked, 60)
            # Neither log nor answer went into the store.
            assert store.summary().rejected == 0


def test_without_a_store_to_note_it_in_nobody_is_asked(
    broker: EmbeddedBroker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    speaker = Speaker(broker, lambda request: [])
    words = ["fleet", "logs", "home.porch", "--broker", broker.url, "--store", str(tmp_path / "no.db")]
    assert main(words) == 2
    assert "no such store" in capsys.readouterr().err
    assert speaker.heard == []
    speaker.close()


def test_a_board_that_is_silent_is_an_error_with_its_usual_causes_and_is_noted(
    broker: EmbeddedBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("edgekit.fleet.asking", fromlist=["WAIT_S"]).WAIT_S, "logs", 0.3)
    with Store(sqlite_url(tmp_path / "fleet.db")) as store:
        words = ["fleet", "logs", "home.porch", "--broker", broker.url, "--store", str(tmp_path / "fleet.db")]
        assert main(words) == 1
        assert "home.porch: no answer" in capsys.readouterr().err
        assert "no answer" in audit.entries(store)[0].outcome


def test_only_the_answer_to_this_very_question_counts(broker: EmbeddedBroker, asker: Asker) -> None:
    def answers(request: Request) -> list[bytes]:
        good = Answer(request.number, request.what, AT, lines=(Line(AT, "right"),))
        return [
            b"nonsense",
            b"",
            Answer("f" * 32, "logs", AT, lines=(Line(AT, "somebody else's"),)).to_bytes(),
            Answer(request.number, "picture", AT, lines=(Line(AT, "another thing"),)).to_bytes(),
            json.dumps({**json.loads(good.to_bytes()), "pad": "x" * 210_000}).encode(),
            good.to_bytes(),
        ]

    speaker = Speaker(broker, answers)
    for _ in range(3):
        assert [line.text for line in asker.ask(PORCH, "logs").lines] == ["right"]
    speaker.close()


def test_a_board_is_asked_once_at_a_time_and_an_old_answer_is_no_answer(broker: EmbeddedBroker, asker: Asker) -> None:
    speaker = Speaker(broker, lambda request: [])
    errors: list[Exception] = []

    def ask() -> None:
        try:
            asker.ask(PORCH, "logs", 3.0)
        except BoardSilentError as error:
            errors.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    assert eventually(lambda: speaker.heard)
    with pytest.raises(AskedTooOftenError):
        asker.ask(PORCH, "logs", 3.0)
    thread.join()
    assert len(errors) == 1
    speaker.say(Answer(speaker.heard[0].number, "logs", AT).to_bytes())
    with pytest.raises(BoardSilentError):
        asker.ask(PORCH, "logs", 0.5)
    speaker.close()


def test_a_broker_that_comes_back_is_used_again_and_one_that_is_away_is_said(tmp_path: Path) -> None:
    port = free_port()
    with pytest.raises(BrokerUnreachableError):
        Asker(broker_address(f"mqtt://127.0.0.1:{port}")).ask(PORCH, "logs")
    with EmbeddedBroker(port) as first:
        asker = Asker(first.address)
        with pytest.raises(BoardSilentError):
            asker.ask(PORCH, "logs", 0.2)
    with EmbeddedBroker(port) as second:
        speaker = Speaker(second, lambda request: [Answer(request.number, request.what, AT).to_bytes()])
        until = time.monotonic() + 60
        while True:
            try:
                assert asker.ask(PORCH, "logs", 5.0).outcome == "done"
                break
            except Exception:
                if time.monotonic() > until:
                    raise
                time.sleep(0.2)
        speaker.close()
    asker.close()


def test_a_request_is_never_kept_for_a_board_that_was_away(broker: EmbeddedBroker, asker: Asker) -> None:
    with pytest.raises(BoardSilentError):
        asker.ask(PORCH, "logs", 0.3)
    heard: list[bytes] = []
    with HonestBoard(broker.address) as late:
        late.listen(REQUEST, heard.append)
        late.make(0)
        time.sleep(0.5)
    assert heard == []
