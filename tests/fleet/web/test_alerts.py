"""When a board needs somebody, and who hears of it: judged purely, told once, never as a storm."""

from __future__ import annotations

import http.server
import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgekit.errors import UsageError
from edgekit.fleet import alerts_records as records
from edgekit.fleet.alerts import Alarm, Sender
from edgekit.fleet.alerts_judging import judge, psi
from edgekit.fleet.alerts_rules import FLEET_KIND, KINDS, Outlets, Rules, read_alerts
from edgekit.fleet.alerts_sending import Way, ways
from edgekit.fleet.alerts_state import FLEET, Alert, AlertKey, Ledger, Message, advance, messages
from edgekit.fleet.batch import BoardKey
from edgekit.fleet.broker import EmbeddedBroker
from edgekit.fleet.database import sqlite_url
from edgekit.fleet.store import Store
from edgekit.fleet.web.baselines import Baseline
from edgekit.fleet.web.board_now import BoardNow
from edgekit.fleet.web.tables import settle
from edgekit.fleet.web.wall import Picture
from tests.worlds.boards import eventually
from tests.worlds.services import PostgreSQL

NOW = 1_795_000_000_000
FINE = BoardNow(
    "home", "porch", 1, "online", at_ms=NOW - 2000, received_ms=NOW - 1000, fps=29.8, capture_fps=30.0, p50_ms=12.0,
    release="toy-1.0.0", delegate="edgetpu", temp_c=58.0, label="tabby",
)  # fmt: skip
RULES = Rules()


def kinds(board: BoardNow, rules: Rules = RULES, **more: Any) -> list[str]:
    return [finding.kind for finding in judge(board, rules, NOW, **more)]


TROUBLES: list[tuple[str, dict[str, Any]]] = [
    ("offline", {"state": "offline"}),
    ("offline", {"received_ms": NOW - 200_000}),
    ("camera", {"reason": "camera_missing: no such device"}),
    ("camera", {"fps": 0.0}),
    ("fps_low", {"fps": 12.0}),
    ("hot", {"temp_c": 84.0}),
    ("hot", {"throttled": ("undervoltage",)}),
    ("rung_lost", {"delegate": "xnnpack", "delegate_reason": "edgetpu: library missing"}),
    ("gaps", {"missing": 3}),
    ("outbox_overflow", {"dropped": 9}),
    ("update_failed", {"update_failed": "golden self-test failed"}),
]


@pytest.mark.parametrize(("kind", "changed"), TROUBLES)
def test_each_trouble_is_found_alone_and_can_be_switched_off(kind: str, changed: dict[str, Any]) -> None:
    board = replace(FINE, **changed)
    assert kinds(board) == [kind]
    assert kinds(board, Rules(off=(kind,))) == []


def test_every_kind_has_a_case_here() -> None:
    assert {kind for kind, _ in TROUBLES} | {"label_mix"} == set(KINDS)


def test_a_board_that_is_fine_or_was_stopped_needs_nobody() -> None:
    assert kinds(FINE) == []
    assert kinds(replace(FINE, state="stopped", received_ms=NOW - 10**9, fps=0.0)) == []


def test_a_board_whose_windows_are_long_is_not_called_silent_between_them() -> None:
    assert kinds(replace(FINE, window_s=600.0, received_ms=NOW - 900_000)) == []


def test_fps_is_measured_against_the_bundles_own_bench_where_that_is_slower() -> None:
    slow = replace(FINE, fps=11.0)
    assert kinds(slow, baseline=Baseline(fps=12.0)) == []
    assert kinds(slow, baseline=Baseline(fps=20.0)) == ["fps_low"]
    assert "its bundle's bench" in judge(slow, RULES, NOW, Baseline(fps=20.0))[0].text
    assert kinds(slow, baseline=Baseline(fps=20.0, rung=slow.delegate)) == ["fps_low"]
    held = judge(replace(slow, fps=3.0), RULES, NOW, Baseline(fps=20.0, rung="xnnpack"))
    assert [finding.text for finding in held] == ["3.0 FPS, 10 % of its camera's pace"], "another rung's bench"


def test_a_label_mix_far_from_the_baseline_is_found_once_there_are_enough_frames() -> None:
    baseline = Baseline(mix={"1": 50, "2": 50})
    assert kinds(replace(FINE, mix={"1": 300, "2": 290}), baseline=baseline) == []
    assert kinds(replace(FINE, mix={"3": 590}), baseline=baseline) == ["label_mix"]
    assert kinds(replace(FINE, mix={"3": 90}), baseline=baseline) == []
    assert psi({"1": 10, "2": 10}, {"1": 500, "2": 500}) == pytest.approx(0)
    assert psi({}, {"1": 1}) == 0


def test_at_the_limit_a_board_is_not_hot_and_cool_by_turns() -> None:
    before = frozenset({"hot"})
    assert kinds(replace(FINE, temp_c=77.0)) == []
    assert kinds(replace(FINE, temp_c=77.0), standing_kinds=before) == ["hot"]
    assert kinds(replace(FINE, temp_c=74.0), standing_kinds=before) == []


PORCH = BoardKey("home", "porch")


def step(ledger: Ledger, at_s: float, board: BoardNow | None, problem: str | None = None, rules: Rules = RULES) -> Any:
    found = [(PORCH, finding) for finding in judge(board, rules, NOW)] if board else []
    return advance(ledger, found, problem, rules, NOW + int(at_s * 1000))


def test_trouble_must_hold_before_it_is_told_and_be_gone_before_it_is_over() -> None:
    hot, ledger = replace(FINE, temp_c=90.0), Ledger()
    told = []
    for at_s, board in (
        (0, hot),
        (59, hot),
        (60, hot),
        (61, hot),
        (70, FINE),
        (100, hot),
        (110, FINE),
        (169, FINE),
        (170, FINE),
    ):
        ledger, changes = step(ledger, at_s, board)
        told += [(at_s, change.began) for change in changes]
    assert told == [(60, True), (170, False)]
    assert ledger.standing() == []


def test_trouble_that_passes_is_never_told() -> None:
    ledger, changes = step(Ledger(), 0, replace(FINE, temp_c=90.0))
    ledger, more = step(ledger, 30, FINE)
    assert (changes, more, dict(ledger.alerts)) == ([], [], {})


def test_a_broker_outage_is_one_alert_and_not_a_thousand() -> None:
    boards = [BoardKey("home", f"b{n}") for n in range(1000)]
    gone = judge(replace(FINE, received_ms=NOW - 10**7), RULES, NOW)[0]
    ledger, told = Ledger(), []
    for at_s in range(0, 600, 10):
        # Silence shows minutes after the broker went; the broker is back at 300 and boards within 75 s of it.
        found = [(board, gone) for board in boards] if 120 <= at_s < 375 else []
        problem = "the broker does not answer" if at_s < 300 else None
        ledger, changes = advance(ledger, found, problem, RULES, NOW + at_s * 1000)
        told += [(change.alert.key.board, change.alert.key.kind, change.began) for change in changes]
    assert told == [(FLEET, FLEET_KIND, True), (FLEET, FLEET_KIND, False)]


def test_a_board_that_was_offline_before_the_outage_stays_an_alert() -> None:
    gone = replace(FINE, state="offline")
    ledger, _ = step(Ledger(), 0, gone)
    ledger, _ = step(ledger, 60, gone)
    ledger, changes = step(ledger, 70, gone, problem="the broker does not answer")
    assert changes == []
    assert [alert.key.kind for alert in ledger.standing()] == ["offline"]


def test_half_the_fleet_falling_silent_at_once_is_one_alert_even_if_nobody_said_why(tmp_path: Path) -> None:
    with Store(sqlite_url(tmp_path / "fleet.db")) as store:
        settle(store)
        now = [NOW / 1000]
        alarm = Alarm(store, RULES, now=lambda: now[0])
        boards = {
            BoardKey("home", f"b{n}"): replace(FINE, device=f"b{n}", received_ms=NOW - 500 * n) for n in range(100)
        }
        told: list[Any] = []
        for second in range(0, 600, 5):
            now[0] = NOW / 1000 + second
            told += alarm.step(Picture(1, boards, int(now[0] * 1000)))
        assert [(change.alert.key.kind, change.began) for change in told] == [(FLEET_KIND, True)]


def test_many_boards_with_one_trouble_are_one_message() -> None:
    def alert(number: int, kind: str) -> Alert:
        return Alert(AlertKey(BoardKey("home", f"b{number}"), kind), "warning", "90 °C", NOW, NOW)

    from edgekit.fleet.alerts_state import Change

    changes = [Change(alert(n, "hot"), True) for n in range(40)] + [Change(alert(n, "gaps"), True) for n in range(2)]
    made = messages(changes, digest_over=5)
    assert [(message.title, len(message.alerts)) for message in made] == [
        ("40 boards: hot", 40), ("home/b0: 90 °C", 1), ("home/b1: 90 °C", 1),
    ]  # fmt: skip
    assert made[0].body.splitlines()[-1] == "and 20 more"


def stores(tmp_path: Path, postgres: PostgreSQL) -> Iterator[str]:
    yield sqlite_url(tmp_path / "fleet.db")
    yield postgres.fresh("alerts")


def test_alerts_survive_a_restart_with_what_people_said_of_them(tmp_path: Path, postgres: PostgreSQL) -> None:
    for url in stores(tmp_path, postgres):
        with Store(url) as store:
            settle(store)
            hot = Picture(1, {PORCH: replace(FINE, temp_c=90.0, received_ms=NOW + 5 * 10**6)}, NOW)
            key = AlertKey(PORCH, "hot")
            alarm = Alarm(store, Rules(raise_s={}, clear_s=0), now=lambda: NOW / 1000)
            assert [change.began for change in alarm.step(hot)] == [True]
            assert alarm.acknowledge(key, "olga")
            alarm.silence(key, "olga", 60)
            assert not alarm.acknowledge(AlertKey(PORCH, "gaps"), "olga")

            again = Alarm(store, Rules(raise_s={}, clear_s=0), now=lambda: NOW / 1000)
            assert again.step(hot) == []
            standing = again.standing()[0]
            assert (standing.acknowledged_by, standing.silent_until_ms) == ("olga", NOW + 3_600_000)
            cool = Picture(2, {PORCH: replace(FINE, received_ms=NOW + 5 * 10**6)}, NOW)
            assert [change.began for change in again.step(cool)] == [False]
            assert [alert.key for alert in records.history(store)] == [key]
            assert records.standing(store, NOW) == {}


def test_what_is_silenced_or_acknowledged_is_not_sent(tmp_path: Path) -> None:
    with Store(sqlite_url(tmp_path / "fleet.db")) as store:
        settle(store)
        now = [NOW / 1000]
        alarm = Alarm(store, Rules(raise_s={"gaps": 60}, clear_s=0), now=lambda: now[0])
        sent: list[Message] = []
        alarm.sender.put = sent.append  # type: ignore[method-assign]
        lossy = replace(FINE, missing=2, received_ms=NOW + 10**7)
        alarm.step(Picture(1, {PORCH: lossy}, NOW))
        alarm.silence(AlertKey(PORCH, "gaps"), "olga", 60)
        now[0] += 61
        assert len(alarm.step(Picture(2, {PORCH: lossy}, NOW))) == 1
        assert sent == []
        hot = replace(FINE, temp_c=90.0, received_ms=NOW + 10**7)
        alarm.step(Picture(3, {PORCH: hot}, NOW))
        assert [message.title for message in sent] == ["home/porch: 90 °C, the limit is 80"]
        alarm.acknowledge(AlertKey(PORCH, "hot"), "olga")
        alarm.step(Picture(4, {PORCH: replace(FINE, received_ms=NOW + 10**7)}, NOW))
        assert len(sent) == 1


MESSAGE = Message(True, "hot", (Alert(AlertKey(PORCH, "hot"), "warning", "90 °C\r\nBcc: all@example.org", NOW, NOW),))


@contextmanager
def serving(handler: type[socketserver.BaseRequestHandler]) -> Iterator[int]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_a_webhook_gets_json_and_a_redirect_is_not_followed() -> None:
    got: list[tuple[str, Any]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append((self.path, json.loads(self.rfile.read(int(self.headers["content-length"])))))
            self.send_response(302 if self.path == "/elsewhere" else 204)
            self.send_header("location", "/stolen")
            self.end_headers()

        def log_message(self, *words: Any) -> None:
            pass

    with serving(Handler) as port:
        way = ways(Outlets(webhooks=(f"http://127.0.0.1:{port}/hook",), page="http://page"))[0]
        assert way.name == "webhook 127.0.0.1"
        way.send(MESSAGE)
        with pytest.raises(OSError, match="302"):
            ways(Outlets(webhooks=(f"http://127.0.0.1:{port}/elsewhere",)))[0].send(MESSAGE)
    assert [path for path, _ in got] == ["/hook", "/elsewhere"]
    document = got[0][1]
    assert (document["state"], document["kind"], document["page"]) == ("began", "hot", "http://page")
    assert document["alerts"][0]["device"] == "porch"


def test_mail_goes_out_and_a_board_cannot_add_headers() -> None:
    got: list[bytes] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 ready\r\n")
            body = False
            for line in self.rfile:
                if body:
                    got.append(line)
                    if line == b".\r\n":
                        body = False
                        self.wfile.write(b"250 taken\r\n")
                elif line.upper().startswith(b"DATA"):
                    body = True
                    self.wfile.write(b"354 go on\r\n")
                elif line.upper().startswith(b"QUIT"):
                    self.wfile.write(b"221 bye\r\n")
                    return
                else:
                    self.wfile.write(b"250 fine\r\n")

    with serving(Handler) as port:
        ways(Outlets(mail_to=("a@example.org",), smtp=f"127.0.0.1:{port}"))[0].send(MESSAGE)
    head = b"".join(got).partition(b"\r\n\r\n")[0].decode()
    assert "To: a@example.org" in head
    assert not any(line.startswith("Bcc") for line in head.splitlines())


def test_alerts_go_out_by_mqtt(broker: EmbeddedBroker) -> None:
    from contextlib import ExitStack

    import paho.mqtt.client as paho
    from paho.mqtt.enums import CallbackAPIVersion

    from edgekit.fleet.up import _publisher

    got: list[tuple[str, Any]] = []
    ready = threading.Event()
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.on_subscribe = lambda *_: ready.set()
    client.on_message = lambda c, d, message: got.append((message.topic, json.loads(message.payload)))
    client.connect(broker.address.host, broker.address.port)
    client.subscribe("edgekit/v1/alerts/#", 1)
    client.loop_start()
    assert ready.wait(5)
    with ExitStack() as stack:
        ways(Outlets(), _publisher(broker.address, stack))[-1].send(MESSAGE)
        assert eventually(lambda: got)
    client.disconnect()
    client.loop_stop()
    assert got[0][0] == "edgekit/v1/alerts/hot"
    assert got[0][1]["alerts"][0]["text"].startswith("90 °C")


def test_a_way_out_that_fails_is_tried_again_shown_and_stops_no_other() -> None:
    tries, heard = [0], threading.Event()

    def broken(message: Message) -> None:
        tries[0] += 1
        if tries[0] == 1:
            raise OSError("refused")

    sender = Sender([Way("broken", broken), Way("fine", lambda message: heard.set())])
    sender.start()
    sender.put(MESSAGE)
    assert eventually(lambda: sender.problems)
    assert sender.problems["broken"] == "OSError: refused"
    assert heard.wait(10)
    assert tries[0] == 2
    assert sender.problems == {}
    sender.stop()


def test_rules_stand_in_fleet_toml_and_an_unknown_key_names_its_neighbour(tmp_path: Path) -> None:
    file = tmp_path / "fleet.toml"
    file.write_text(
        '[targets]\nporch = "ssh://pi@porch"\n'
        '[alerts]\nhot_c = 70\noff = ["label_mix"]\n[alerts.raise_s]\noffline = 5\n'
        '[alerts.send]\nwebhooks = ["https://example.org/x"]\n'
    )
    rules, outlets = read_alerts(file)
    assert (rules.hot_c, rules.off, rules.raise_s["offline"], rules.raise_s["hot"]) == (70.0, ("label_mix",), 5.0, 60.0)
    assert outlets.webhooks == ("https://example.org/x",)
    assert read_alerts(tmp_path / "none.toml") == (Rules(), Outlets())
    for text, words in (
        ("[alerts]\nhot_cc = 70", "did you mean 'hot_c'"), ('[alerts]\noff = ["camra"]', "did you mean 'camera'"),
        ("[alerts]\nhot_c = true", "must be a number"), ("[alerts", "not TOML"),
        ("[alerts.send]\nmqtt = 1", "true or false"),
        ("[alerts.raise_s]\noffline = -1", "must be seconds"), ('[alerts.send]\nwebhooks = "x"', "list of texts"),
    ):  # fmt: skip
        file.write_text(text)
        with pytest.raises(UsageError, match=words):
            read_alerts(file)


def test_secrets_are_named_and_a_missing_one_is_said_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="HOOK"):
        ways(Outlets(webhooks=("env:HOOK",)))
    monkeypatch.setenv("HOOK", "https://example.org/secret")
    assert ways(Outlets(webhooks=("env:HOOK",)))[0].name == "webhook example.org"
    with pytest.raises(UsageError, match="not an http"):
        ways(Outlets(webhooks=("file:///etc/passwd",)))
