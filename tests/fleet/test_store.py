"""The store, on real SQLite: each message once, and ranges that never say more than rows."""

from __future__ import annotations

import json
import sqlite3
import threading
import zlib
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.errors import StoreSchemaError, StoreUnavailableError, UsageError
from edgekit.fleet.batch import MAX_PAYLOAD_BYTES, Batch, BoardKey, Rejected, Standing, decode, supersedes
from edgekit.fleet.database import sqlite_url
from edgekit.fleet.ranges import ranges_of
from edgekit.fleet.store import Store
from edgekit.fleet.tables import SCHEMA_VERSION
from edgekit_device.contract.topics import ACK, EVENT, STATUS, TELEMETRY, Kind, topic
from tests.worlds.readings import BOOT, at, event, reading, status

PORCH = BoardKey("home", "porch")
OTHER_BOOT = "a0" * 16


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "fleet.db"


def batch_of(*sequence: int, boot: str = BOOT) -> Batch:
    batch = Batch()
    for seq in sequence:
        batch.add(topic("home", "porch", TELEMETRY), reading(seq, boot=boot).to_bytes())
    return batch


def rows(file: Path, query: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(file)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def test_duplicates_are_stored_once_within_a_batch_and_between(file: Path) -> None:
    with Store(sqlite_url(file)) as store:
        first = store.write(batch_of(0, 1, 1, 2))
        again = store.write(batch_of(1, 2, 3))
        assert (first.new, first.duplicates) == ({PORCH: 3}, 1)
        assert (again.new, again.duplicates) == ({PORCH: 1}, 2)
        assert store.acks([PORCH])[PORCH].stored == {BOOT: ((0, 3),)}
        assert store.stored_counts() == {PORCH: 4}
    assert rows(file, "select seq from readings order by seq") == [(0,), (1,), (2,), (3,)]


def test_a_row_holds_the_columns_and_the_message_as_it_came(file: Path) -> None:
    batch = Batch()
    sent = reading(7).to_json() | {"from_a_newer_version": [1]}
    payload = json.dumps(sent).encode()
    batch.add(topic("home", "porch", TELEMETRY), payload)
    with Store(sqlite_url(file)) as store:
        store.write(batch)
    query = "select day, seq, at, fps, end_to_end_p95_ms, invoke_p50_ms, label, delegate, payload from readings"
    [(*columns, blob)] = rows(file, query)
    sent_ms = round(datetime.fromisoformat(at(7)).timestamp() * 1000)
    assert columns == [sent_ms // 86_400_000, 7, sent_ms, 29.8, 14.6, 12.0, "tabby", "xnnpack"]
    assert zlib.decompress(blob) == payload  # type: ignore[arg-type]


def test_events_share_the_sequence(file: Path) -> None:
    batch = batch_of(0, 2)
    batch.add(topic("home", "porch", EVENT), event(1).to_bytes())
    with Store(sqlite_url(file)) as store:
        store.write(batch)
        assert store.acks([PORCH])[PORCH].stored == {BOOT: ((0, 2),)}
        assert store.summary().stored == 3


def test_gaps_are_counted_and_closed(file: Path) -> None:
    with Store(sqlite_url(file)) as store:
        store.write(batch_of(2, 3, 7))
        assert store.summary().gaps == 5
        store.write(batch_of(0, 1, 4, 5, 6))
        assert store.summary().gaps == 0
    assert rows(file, 'select "from", "to" from stored_ranges') == [(0, 7)]


@given(st.lists(st.lists(st.integers(0, 40), max_size=12), max_size=6), st.lists(st.booleans(), min_size=6))
@settings(max_examples=25, deadline=None)
def test_acks_cover_exactly_the_rows_whatever_the_order(batches: list[list[int]], boots: list[bool]) -> None:
    sent: dict[str, set[int]] = {BOOT: set(), OTHER_BOOT: set()}
    with Store("sqlite://") as store:
        for sequence, first in zip(batches, boots, strict=False):
            boot = BOOT if first else OTHER_BOOT
            store.write(batch_of(*sequence, boot=boot))
            sent[boot] |= set(sequence)
            expected = {boot: ranges_of(numbers) for boot, numbers in sent.items() if numbers}
            assert store.acks([PORCH])[PORCH].stored == expected
        assert store.summary().stored == sum(map(len, sent.values()))


def test_an_ack_names_only_the_boots_heard_last(file: Path) -> None:
    clock = iter(range(1000, 2000))
    with Store(sqlite_url(file), now=lambda: next(clock)) as store:
        for number in range(40):
            store.write(batch_of(0, boot=f"{number:032x}"))
        store.write(batch_of(1, boot=f"{0:032x}"))
        stored = store.acks([PORCH])[PORCH].stored
    assert len(stored) == 32
    assert set(stored) == {f"{number:032x}" for number in (0, *range(9, 40))}


def test_two_writers_at_once_lose_nothing_and_double_nothing(file: Path) -> None:
    url = sqlite_url(file)
    Store(url).close()
    failures: list[BaseException] = []

    def work(start: int) -> None:
        try:
            with Store(url) as store:
                for low in range(start, 120, 7):
                    store.write(batch_of(*range(low, min(low + 10, 120))))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(start,)) for start in (0, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert rows(file, "select count(*) from readings") == [(120,)]
    assert rows(file, 'select "from", "to" from stored_ranges') == [(0, 119)]


def test_two_programs_that_open_an_empty_store_at_once_both_succeed(tmp_path: Path) -> None:
    for attempt in range(10):
        url, failures, gate = sqlite_url(tmp_path / f"{attempt}.db"), list[BaseException](), threading.Barrier(3)

        def work(url: str = url, failures: list[BaseException] = failures, gate: threading.Barrier = gate) -> None:
            gate.wait()
            try:
                Store(url).close()
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []


def test_commits_are_durable_and_readers_do_not_block(file: Path) -> None:
    with Store(sqlite_url(file)) as store:
        with store._engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


def test_a_late_will_does_not_put_a_board_offline_that_came_back(file: Path) -> None:
    batch = Batch()
    for message in (status(), status(boot=OTHER_BOOT), status("offline")):
        batch.add(topic("home", "porch", STATUS), message.to_bytes())
    with Store(sqlite_url(file)) as store:
        store.write(batch)
        assert store.summary().online == 1
        late = Batch()
        late.add(topic("home", "porch", STATUS), status("offline", OTHER_BOOT).to_bytes())
        store.write(late)
        assert store.summary().online == 0
    assert supersedes(status("offline"), Standing())


def message(payload: bytes, kind: Kind = TELEMETRY) -> tuple[str, bytes]:
    return topic("home", "porch", kind), payload


HOSTILE = {
    "not JSON": message(b"\xff\x00"),
    "empty": message(b""),
    "another schema": message(b'{"schema":2}'),
    "nested too deep": message(b'{"schema":1,"a":' + b"[" * 5000 + b"]" * 5000 + b"}"),
    "forged device": message(reading(0, device="garage").to_bytes()),
    "no such day": message(reading(0).to_bytes().replace(at(0)[:10].encode(), b"2026-02-31")),
    "negative": message(reading(0).to_bytes().replace(b'"seq":0', b'"seq":-1')),
    "not a number": message(reading(0).to_bytes().replace(b"29.8", b"NaN")),
    "too large": message(b" " * (MAX_PAYLOAD_BYTES + 1)),
    "lone surrogate": message(reading(0).to_bytes().replace(b'"tabby"', b'"\\ud800"')),
    "surrogate as a key": message(b'{"schema":1,"\\ud800":1}'),
    "a topic of the host": message(b'{"schema":1,"stored":{}}', ACK),
    "a foreign topic": ("edgekit/v1/home/porch/telemetry/more", b"{}"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_breaks_the_contract_is_kept_aside_and_never_data(name: str, file: Path) -> None:
    where, payload = HOSTILE[name]
    assert isinstance(decode(where, payload), Rejected)
    batch = batch_of(0)
    batch.add(where, payload)
    batch.add(where, payload)
    with Store(sqlite_url(file)) as store:
        written = store.write(batch)
        assert written.rejected == 2
        assert store.summary().rejected == 2
        assert store.summary().stored == 1
    [(board, count, error, kept)] = rows(file, "select board, count, last_error, last_payload from rejected")
    assert (board, count) == ("?" if "foreign" in name else "home/porch", 2)
    assert error
    assert kept == payload[:4096]


def test_a_newer_schema_is_refused_by_name(file: Path) -> None:
    Store(sqlite_url(file)).close()
    connection = sqlite3.connect(file)
    connection.execute("update schema_version set version = 99")
    connection.commit()
    connection.close()
    with pytest.raises(StoreSchemaError, match=f"has schema 99, this version knows {SCHEMA_VERSION}; upgrade edgekit"):
        Store(sqlite_url(file))


def test_tables_of_another_program_are_left_alone(file: Path) -> None:
    connection = sqlite3.connect(file)
    connection.execute("create table events (x)")
    connection.commit()
    connection.close()
    with pytest.raises(StoreSchemaError, match="another program"):
        Store(sqlite_url(file))
    assert rows(file, "select name from sqlite_master") == [("events",)]


def test_a_store_that_cannot_be_opened_is_a_named_error(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match="unable to open"):
        Store(sqlite_url(tmp_path / "missing" / "fleet.db"))
    garbage = tmp_path / "garbage.db"
    garbage.write_bytes(b"not a database" * 100)
    with pytest.raises(StoreUnavailableError, match="not a database"):
        Store(sqlite_url(garbage))
    for url in ("fleet.db", "mysql+nothing://x"):
        with pytest.raises(UsageError):
            Store(url)


def test_a_locked_database_is_a_named_error_and_nothing_is_half_written(file: Path) -> None:
    with Store(sqlite_url(file)) as store:
        other = sqlite3.connect(file, isolation_level=None)
        other.execute("begin immediate")
        with store._engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA busy_timeout = 50")
        with pytest.raises(StoreUnavailableError, match="locked"):
            store.write(batch_of(0))
        other.execute("rollback")
        other.close()
        assert store.write(batch_of(0)).new == {PORCH: 1}
