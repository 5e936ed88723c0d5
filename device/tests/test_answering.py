"""What a board says when the host asks: three things, one at a time, few a minute, nothing secret."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit_device.answering import MOST_A_MINUTE, NO_PICTURES, Answering, Desk
from edgekit_device.contract.asking import (
    MAX_ANSWER_BYTES,
    MAX_LINE,
    MAX_LINES,
    MAX_PICTURE_BYTES,
    Answer,
    Request,
)
from edgekit_device.contract.errors import ContractError, FieldError
from edgekit_device.log_ring import LogRing
from edgekit_device.preview_picture import Caption
from edgekit_device.redaction import HIDDEN, redact
from edgekit_device.snapshot import Snapshot, picture
from edgekit_device.sources.frame import Frame


class Room:
    """An answering board without a broker: what it sends and notes is kept."""

    def __init__(self, **more: Any) -> None:
        self.sent: list[Answer] = []
        self.noted: list[tuple[str, str]] = []
        self.asked_worker: list[str] = []
        self.log = LogRing(lambda text: None)
        parts: dict[str, Any] = {"ask_worker": self._ask_worker, **more}
        self.answering = Answering(
            Desk(self.log, lambda d: self.sent.append(Answer.from_bytes(d)), lambda *n: self.noted.append(n), **parts)
        )

    def _ask_worker(self, number: str) -> bool:
        self.asked_worker.append(number)
        return True

    def ask(self, what: str, now_s: float = 0.0, number: int = 1) -> None:
        self.answering.hear(Request(f"{number:032x}", what), now_s)

    def until(self, done: Callable[[], bool]) -> None:
        end_s = time.monotonic() + 60
        while not done() and time.monotonic() < end_s:
            self.answering.tick(time.monotonic())
            time.sleep(0.02)


SECRETS = (
    "rtsp://admin:hunter2@10.0.0.7/live",
    "mqtts://home.porch:hunter2@fleet.local:8883",
    "password: hunter2",
    'password="hunter2 and more hunter2"',
    "http://127.0.0.1:8088/?token=hunter2",
    "Authorization: Bearer hunter2.hunter2",
    "https://fleet.local:8884/#1.home.porch.0a1b.hunter2.00",
    "api_key=hunter2&x=1",
    "the secret is hunter2",
    "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----",
    "-----BEGIN EC PRIVATE KEY-----\nhunter2 cut short",
)


@pytest.mark.parametrize("text", SECRETS)
def test_no_secret_leaves_the_board_in_a_text(text: str) -> None:
    assert "hunter2" not in redact(f"before {text} after")
    assert HIDDEN in redact(text)


def test_random_text_is_hidden_and_what_a_person_needs_is_not() -> None:
    import secrets

    for _ in range(2000):
        token = secrets.token_urlsafe(32)
        assert token not in redact(f"it says {token} here"), token
    kept = (
        "model_ready: lite0-1.0.0 on xnnpack (ai_edge_litert 2.3.0, 2 threads); golden images within 0.0039",
        "sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "mqtts://fleet.local:8883: Connection refused; is the broker up? check --broker",
        "/var/lib/edgekit/identity/credentials.json: cannot be written (Permission denied)",
        "camera_missing: /dev/video0: no such device; 2026-11-22T10:00:05.120Z",
    )
    for text in kept:
        assert redact(text) == text


def test_what_the_board_knows_as_secret_is_hidden_whatever_it_looks_like() -> None:
    assert redact("opened with tulip", ("tulip",)) == f"opened with {HIDDEN}"


def test_the_log_is_the_last_lines_without_secrets_and_always_fits() -> None:
    room = Room(secrets=("tulip",))
    for number in range(3 * MAX_LINES):
        room.log(f"{number} tulip \x1b[31m" + "\N{GRINNING FACE}" * 2000)
    room.ask("logs")
    (answer,) = room.sent
    assert answer.outcome == "done"
    assert answer.lines[-1].text.startswith(f"{3 * MAX_LINES - 1} {HIDDEN}  [31m")
    assert all(len(line.text) <= MAX_LINE and line.text.isprintable() for line in answer.lines)
    assert len(answer.to_bytes()) < MAX_ANSWER_BYTES
    assert "tulip" not in answer.to_bytes().decode()


def test_every_answer_leaves_the_boards_own_word_of_it() -> None:
    room = Room()
    room.ask("logs")
    room.ask("picture", number=2)
    assert room.noted == [("asked", "logs: done"), ("asked", "picture: refused")]


def test_a_board_whose_owner_did_not_say_so_gives_no_picture_and_does_not_bother_its_worker() -> None:
    room = Room()
    room.ask("picture")
    assert (room.sent[0].outcome, room.sent[0].reason) == ("refused", NO_PICTURES)
    assert room.asked_worker == []


def test_one_request_at_a_time_and_the_same_one_twice_is_one() -> None:
    room = Room(pictures=True)
    room.ask("picture", number=1)
    room.ask("picture", number=1)
    room.ask("logs", number=2)
    assert room.asked_worker == [f"{1:032x}"]
    assert [(a.number[-1], a.outcome) for a in room.sent] == [("2", "refused")]


def test_beyond_a_few_a_minute_nothing_is_said() -> None:
    room = Room()
    for number in range(50):
        room.ask("logs", now_s=number * 0.5, number=number)
    assert len(room.sent) == MOST_A_MINUTE
    room.ask("logs", now_s=61.0, number=99)
    assert len(room.sent) == MOST_A_MINUTE + 1


def test_a_worker_that_never_answers_is_given_up_and_its_late_picture_forgotten() -> None:
    room = Room(pictures=True)
    room.ask("picture", now_s=100.0)
    room.answering.tick(103.0)
    assert room.sent == []
    room.answering.tick(107.0)
    assert room.sent[0].outcome == "failed"
    room.answering.hear_picture({"id": f"{1:032x}", "jpeg": "AAAA", "reason": None})
    assert len(room.sent) == 1


@pytest.mark.parametrize("jpeg", [None, "", "!!", 7, "A" * 4 * MAX_PICTURE_BYTES])
def test_what_a_broken_worker_calls_a_picture_is_not_sent_on(jpeg: Any) -> None:
    room = Room(pictures=True)
    room.ask("picture")
    room.answering.hear_picture({"id": f"{1:032x}", "jpeg": jpeg, "reason": None})
    assert (room.sent[0].outcome, room.sent[0].picture) == ("failed", None)


def test_the_doctor_answers_from_a_process_of_its_own(tmp_path: Path) -> None:
    room = Room(root=tmp_path)
    room.ask("doctor", now_s=time.monotonic())
    room.until(lambda: bool(room.sent))
    (answer,) = room.sent
    assert answer.outcome == "done", answer.reason
    assert {"python", "disk", "broker"} <= {finding.check for finding in answer.findings}


def test_a_doctor_that_says_nonsense_or_hangs_is_a_reason_and_no_process_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "python"
    monkeypatch.setattr(sys, "executable", str(program))
    for body in ("echo nonsense", "yes '{\"findings\": [' ", "exec sleep 1000"):
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o755)
        monkeypatch.setattr("edgekit_device.answering._DOCTOR_S", 0.5 if "sleep" in body else 20.0)
        room = Room()
        room.ask("doctor", now_s=time.monotonic())
        process = room.answering._doctor._process  # type: ignore[union-attr]
        room.until(lambda room=room: bool(room.sent))
        assert room.sent[0].outcome == "failed"
        assert process.poll() is not None


@pytest.mark.parametrize(
    "document",
    [
        {"what": "shell"}, {"what": "/etc/shadow"}, {"what": "logs; reboot"}, {"what": ["logs"]}, {"what": None},
        {"id": "../../x"}, {"id": "Z" * 32}, {"id": 7}, {"id": "0" * 33}, {"what": "LOGS"}, {"what": "logs\0"},
    ],
    ids=str,
)  # fmt: skip
def test_a_request_names_one_of_three_words_and_nothing_else(document: dict[str, Any]) -> None:
    with pytest.raises(FieldError):
        Request.from_bytes(json.dumps({"schema": 1, "id": "0" * 32, "what": "logs", **document}).encode())


@pytest.mark.parametrize(
    "change",
    [
        {"picture": "AAAA"}, {"picture": "/9j/ /9k="}, {"lines": [["now", "x"]]}, {"lines": [["x"]]},
        {"lines": [["2026-11-22T10:00:05.120Z", "x" * 500]]}, {"findings": [{"check": "x"}]},
        {"findings": [{"check": "x", "state": "<b>", "detail": "", "remedy": None}]}, {"outcome": "perhaps"},
        {"reason": "x" * 2000}, {"lines": [["2026-11-22T10:00:05.120Z", "x"]] * 201}, {"big": "x" * 250_000},
    ],
    ids=lambda change: str(change)[:40],
)  # fmt: skip
def test_an_answer_beyond_its_bounds_is_refused(change: dict[str, Any]) -> None:
    good = json.loads(Answer("0" * 32, "logs", "2026-11-22T10:00:05.120Z").to_bytes())
    with pytest.raises(ContractError):
        Answer.from_bytes(json.dumps({**good, **change}).encode())


def frame(height: int, width: int, order: str = "BGR") -> Frame:
    shape = (height, width) if order == "GRAY" else (height, width, 3)
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    return Frame(noise if order != "GRAY" else noise[..., None], order, time.monotonic(), 1)


@pytest.mark.parametrize("size", [(2160, 3840), (4000, 100), (100, 4000), (8, 8), (1, 1), (480, 640)])
@pytest.mark.parametrize("order", ["BGR", "RGB", "GRAY"])
def test_a_picture_is_small_whatever_the_camera_is_and_leaves_the_frame_alone(
    size: tuple[int, int], order: str
) -> None:
    made = frame(*size, order)
    before = made.raw.copy()
    jpeg = picture(made.raw, order, Caption("tabby", 0.9))
    assert jpeg is not None
    assert len(jpeg) <= MAX_PICTURE_BYTES
    assert Answer.from_bytes(Answer("0" * 32, "picture", "2026-11-22T10:00:05.120Z", picture=jpeg).to_bytes())
    assert np.array_equal(made.raw, before)


def test_a_worker_that_was_not_allowed_to_draws_no_picture() -> None:
    said: list[dict[str, Any]] = []
    snapshot = Snapshot(lambda kind, **values: said.append({"kind": kind, **values}))
    snapshot.take("7")
    assert not snapshot.wanted
    assert (said[0]["jpeg"], said[0]["id"]) == (None, "7")


def test_a_frozen_camera_is_a_reason_and_no_old_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit_device.snapshot.WAIT_S", 0.2)
    said: list[dict[str, Any]] = []
    snapshot = Snapshot(lambda kind, **values: said.append(values), allowed=True, trouble=lambda: "camera_frozen")
    snapshot.take("7")
    end_s = time.monotonic() + 20
    while not said and time.monotonic() < end_s:
        time.sleep(0.02)
    assert said[0]["jpeg"] is None
    assert "camera_frozen" in said[0]["reason"]
