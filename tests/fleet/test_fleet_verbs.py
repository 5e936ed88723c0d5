"""`edgekit fleet`, as typed."""

from __future__ import annotations

import csv
import json
import threading
from collections.abc import Callable
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edgekit import __version__
from edgekit.cli import main
from edgekit.fleet.batch import Batch
from edgekit.fleet.broker import EmbeddedBroker
from edgekit.fleet.database import sqlite_url
from edgekit.fleet.operation import Duty, collect, default_name
from edgekit.fleet.snapshot import FleetSnapshot
from edgekit.fleet.store import Store
from edgekit_device.contract.desired import Watch
from edgekit_device.contract.topics import STATUS, TELEMETRY, WATCH, topic
from edgekit_device.publish.broker_url import BrokerAddress
from edgekit_device.publish.home_assistant import discovery
from tests.suites.store_promises import batch_of
from tests.worlds.boards import HonestBoard, eventually
from tests.worlds.readings import at, reading, status

Said = pytest.CaptureFixture[str]


class Heard:
    """What Home Assistant would hear on one topic."""

    def __init__(self, address: BrokerAddress, name: str) -> None:
        self.payloads: list[bytes] = []
        subscribed = threading.Event()
        self.client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self.client.on_connect = lambda client, *_: client.subscribe(name, 1)
        self.client.on_subscribe = lambda *_: subscribed.set()
        self.client.on_message = lambda client, data, message: self.payloads.append(bytes(message.payload))
        self.client.connect(address.host, address.port)
        self.client.loop_start()
        assert subscribed.wait(10)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "fleet.db"
    batch = batch_of(0, 1, 5)
    batch.add(topic("home", "porch", TELEMETRY), reading(6, label="=HYPERLINK(1)").to_bytes())
    batch.add(topic("home", "porch", TELEMETRY), b"junk")
    with Store(sqlite_url(path)) as store:
        store.write(batch)
    return path


def test_status_says_what_is_stored(file: Path, capsys: Said) -> None:
    assert main(["fleet", "status", "--store", str(file), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {key: found[key] for key in ("boards", "online", "stored", "gaps", "rejected")} == {
        "boards": 1, "online": 0, "stored": 4, "gaps": 3, "rejected": 1,
    }  # fmt: skip
    assert main(["fleet", "status", "--store", str(file)]) == 0
    assert "3 missing" in capsys.readouterr().out


def test_a_store_that_is_not_there_is_refused_and_not_made(tmp_path: Path, capsys: Said) -> None:
    assert main(["fleet", "status", "--store", str(tmp_path / "none.db")]) == 2
    assert "there is no such store" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_export_writes_csv_that_a_spreadsheet_will_not_run(file: Path, tmp_path: Path, capsys: Said) -> None:
    out = tmp_path / "readings.csv"
    assert main(["fleet", "export", "--store", str(file), "-o", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"path": str(out), "format": "csv", "rows": 4}
    with out.open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["seq"] for row in rows] == ["0", "1", "5", "6"]
    assert rows[0]["at"] == at(0).replace("Z", "+00:00")
    assert (rows[0]["fps"], rows[0]["end_to_end_p95_ms"], rows[0]["label"]) == ("29.8", "14.6", "tabby")
    assert rows[3]["label"] == "'=HYPERLINK(1)"
    some = ["--since", at(1)[:19], "--until", at(6)[:19], "--device", "porch"]
    assert main(["fleet", "export", "--store", str(file), "-o", str(out), *some]) == 0
    assert len(out.read_text().splitlines()) == 3


def test_export_writes_parquet_with_times_and_numbers(
    file: Path, tmp_path: Path, need: Callable[[str, str], None]
) -> None:
    need("pyarrow", "pip install 'edgekit[parquet]'")
    from pyarrow import parquet

    out = tmp_path / "readings.parquet"
    assert main(["fleet", "export", "--store", str(file), "-o", str(out)]) == 0
    table = parquet.read_table(out)
    assert table.num_rows == 4
    assert str(table.schema.field("at").type) == "timestamp[ms, tz=UTC]"
    assert table.column("fps").to_pylist() == [29.8] * 4
    assert table.column("boot").to_pylist() == ["9f" * 16] * 4


def test_an_export_that_fails_leaves_the_earlier_file(file: Path, tmp_path: Path, capsys: Said) -> None:
    out = tmp_path / "readings.csv"
    out.write_text("earlier")
    assert main(["fleet", "export", "--store", str(file), "-o", str(out), "--format", "xls"]) == 2
    assert main(["fleet", "export", "--store", str(file), "-o", str(out), "--since", "noon"]) == 2
    assert out.read_text() == "earlier"
    assert sorted(path.name for path in tmp_path.iterdir() if "readings" in path.name) == ["readings.csv"]


def test_simulate_without_a_broker_brings_its_own(capsys: Said) -> None:
    assert main(["fleet", "simulate", "-n", "3", "--rate", "5", "--seconds", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["boards"] == 3
    assert found["made"] == found["sent"] == found["acked"] > 10


def test_collecting_stores_until_told_to_stop(broker: EmbeddedBroker, tmp_path: Path) -> None:
    stop, said = threading.Event(), list[FleetSnapshot]()
    url = sqlite_url(tmp_path / "fleet.db")
    done: list[FleetSnapshot] = []
    duty = Duty(ack_s=0.2, batch_s=0.05)
    thread = threading.Thread(target=lambda: done.append(collect(broker.address, url, duty, stop, said.append, 0.5)))
    thread.start()
    with HonestBoard(broker.address) as board:
        assert eventually(lambda: said)
        for seq in range(5):
            board.make(seq)
        assert eventually(lambda: not board.held)
    stop.set()
    thread.join(20)
    assert (done[0].stored, done[0].problem) == (5, None)
    assert done[0].lag.quantile_ms(0.5) is not None


@pytest.mark.parametrize("name", ["", "Über", "a b", "-x", "x" * 64])
def test_a_collectors_name_is_checked(name: str, broker: EmbeddedBroker, tmp_path: Path, capsys: Said) -> None:
    words = ["--broker", broker.url, "--store", str(tmp_path / "x.db"), "--seconds", "0.1"]
    assert main(["fleet", "collect", f"--name={name}", *words]) == 2 or not name
    assert Duty(name=default_name()).options().client_id.startswith("edgekit-collector-")


def test_an_empty_batch_is_harmless(file: Path) -> None:
    with Store(sqlite_url(file)) as store:
        assert store.write(Batch()).new == {}


def test_watching_a_board_makes_it_speak_every_two_seconds_and_shows_what_it_says(
    broker: EmbeddedBroker, capsys: Said
) -> None:
    asked: list[Watch] = []
    with HonestBoard(broker.address) as board:

        def answer(payload: bytes) -> None:
            asked.append(Watch.from_bytes(payload))
            for seq in (7, 8):
                board.make(seq)

        board.publish(status().to_bytes(), STATUS)
        board.publish(b"junk")
        board.listen(WATCH, answer)
        words = ["fleet", "status", "--watch", "home.porch", "--broker", broker.url, "--seconds", "2"]
        assert main(words) == 0
        said = capsys.readouterr().out.splitlines()
        assert main([*words, "--json"]) == 0
        shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert said[0] == "online"
    assert "29.8 FPS" in said[1] and "tabby" in said[1]
    assert {one["seq"] for one in shown} == {7, 8}
    assert asked and {(one.seconds, one.interval_s) for one in asked} == {(60.0, 2.0)}


def test_a_watcher_is_told_what_is_wrong(broker: EmbeddedBroker, capsys: Said) -> None:
    assert main(["fleet", "status", "--watch", "porch", "--broker", broker.url]) == 2
    assert "SITE.DEVICE" in capsys.readouterr().err
    assert main(["fleet", "status", "--watch", "home.porch", "--broker", "mqtt://127.0.0.1:9"]) == 1
    assert "is the broker up" in capsys.readouterr().err


def test_the_collector_announces_every_board_to_home_assistant_and_again_at_its_birth(
    broker: EmbeddedBroker, tmp_path: Path
) -> None:
    url, shown = sqlite_url(tmp_path / "fleet.db"), discovery("home", "porch", __version__)
    heard = Heard(broker.address, shown.topic)
    with HonestBoard(broker.address) as board:

        def run(what: str, true: Callable[[], object]) -> None:
            stop = threading.Event()
            duty = Duty(batch_s=0.05, home_assistant=what)
            thread = threading.Thread(target=collect, args=(broker.address, url, duty, stop), daemon=True)
            thread.start()
            try:
                board.make(0)
                assert eventually(true)
            finally:
                stop.set()
                thread.join(20)

        def born() -> bool:
            board.send_again()  # What was sent before the collector subscribed reached nobody.
            if len(heard.payloads) == 1:
                heard.client.publish(shown.birth_topic, b"online")
            return heard.payloads[:2] == [shown.payload] * 2

        run("announce", born)
        run("remove", lambda: heard.payloads[-1] == b"")
    heard.close()
