"""The audit log: who, when, what, to what, with what outcome."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest

from edgekit.cli.fleet_own import take_acts
from edgekit.errors import UnknownAccountError
from edgekit.fleet import audit
from edgekit.fleet.alerts_records import silence
from edgekit.fleet.alerts_state import AlertKey
from edgekit.fleet.audit import Act, entries, on_board, record
from edgekit.fleet.batch import BoardKey
from edgekit.fleet.database import sqlite_url
from edgekit.fleet.retention import Keep
from edgekit.fleet.store import Store
from edgekit.fleet.web import users
from edgekit.fleet.web.tables import settle
from edgekit.trust.registry import REVOKED, Registry
from tests.suites.store_promises import batch_of
from tests.worlds.services import PostgreSQL

SCHEMAS = Path(__file__).parents[1] / "worlds" / "schemas"
PORCH = BoardKey("home", "porch")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    opened = Store(sqlite_url(tmp_path / "fleet.db"))
    settle(opened)
    return opened


def test_an_act_is_found_with_who_when_what_target_and_outcome(store: Store) -> None:
    record(store, on_board("olga", "logs asked for", PORCH, "the board did not answer"), 1_795_341_600_000)
    (entry,) = entries(store)
    assert entry[1:] == (
        1_795_341_600_000, "olga", "logs asked for", "home.porch", "the board did not answer", "home",
    )  # fmt: skip


def test_what_is_done_and_its_line_are_one_transaction(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("the power went")

    with monkeypatch.context() as patch:
        patch.setattr(audit, "write", fail)
        with pytest.raises(RuntimeError):
            users.add(store, "anna", "viewer", "a pass phrase of some length")
        with pytest.raises(RuntimeError):
            silence(store, AlertKey(PORCH, "hot"), "olga", int(time.time() * 1000) + 60_000, int(time.time() * 1000))
    assert users.everyone(store) == []
    with store.reading() as connection:
        assert connection.exec_driver_sql("select count(*) from dashboard_silences").scalar() == 0


def test_the_log_is_read_by_page_word_and_site(store: Store) -> None:
    for number in range(25):
        record(store, on_board("olga", "picture asked for", BoardKey("home" if number % 2 else "away", f"b{number}")))
    record(store, Act("adam", "user removed", "100%_sure"))
    first = entries(store, limit=10)
    second = entries(store, limit=10, before=first[-1].number)
    assert [e.target for e in first + second][:3] == ["100%_sure", "away.b24", "home.b23"]
    assert len({e.number for e in first + second}) == 20
    assert [e.target for e in entries(store, words="%_S")] == ["100%_sure"]
    assert {e.site for e in entries(store, sites={"away"})} == {"away"}


def test_hostile_text_stays_one_line_of_bounded_length(store: Store) -> None:
    record(store, Act("x" * 500, "y\n" * 500, "\0\x1b[31m\u202e" + "z" * 5000, "o" * 5000))
    (entry,) = entries(store)
    assert max(map(len, entry[2:])) <= 500
    assert all(text.isprintable() for text in entry[2:])


def test_lines_older_than_a_year_are_deleted_and_no_others(store: Store) -> None:
    now_ms = int(time.time() * 1000)
    for days in (400, 366, 364, 1):
        record(store, Act("olga", "alert silenced", f"{days}"), now_ms - days * 86_400_000)
    assert store.prune(Keep()) == 2
    assert [entry.target for entry in entries(store)] == ["1", "364"]


def test_postgresql_keeps_the_log_too(postgres: PostgreSQL) -> None:
    with Store(postgres.fresh("audit")) as store:
        store.write(batch_of(0, 1))
        record(store, Act("olga", "alert silenced", "home.porch\0 hot"))
        (entry,) = entries(store, words="PORCH")
        assert entry.target == "home.porch\N{REPLACEMENT CHARACTER} hot"


def test_what_an_earlier_dashboard_noted_moves_into_the_log(tmp_path: Path) -> None:
    path = tmp_path / "fleet.db"
    with sqlite3.connect(path) as connection:
        connection.executescript((SCHEMAS / "schema_2.sql").read_text())
    connection.close()
    with Store(sqlite_url(path)) as store:
        found = [entry[1:] for entry in entries(store)]
        assert found == [
            (1795341500000, "command line", "user set", "victor viewer ", "done", ""),
            (1795341600000, "olga", "alert acknowledged", "home.porch hot", "done", "home"),
        ]
        with store.reading() as connection:
            tables = connection.exec_driver_sql("select name from sqlite_master where type = 'table'").scalars().all()
        assert "dashboard_audit" not in tables


def test_what_was_done_to_accounts_reaches_the_log_also_when_it_was_done_before(tmp_path: Path, store: Store) -> None:
    registry = Registry(tmp_path / "registry.db")
    registry.offer("home.porch", 1_795_341_600, "anna (command line)")
    with pytest.raises(UnknownAccountError):
        registry.set_state("home.nobody", REVOKED, time.time(), "anna (command line)")
    assert take_acts(registry, store) == 1
    assert take_acts(registry, store) == 0
    (entry,) = entries(store)
    assert entry[1:] == (1_795_341_600_000, "anna (command line)", "board invited", "home.porch", "done", "home")


def test_acts_that_nobody_takes_do_not_grow_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.trust.registry._MOST_ACTS", 5)
    registry = Registry(tmp_path / "registry.db")
    for number in range(12):
        registry.offer(f"home.b{number}", time.time())
    assert [act.name for act in registry.acts()] == [f"home.b{number}" for number in range(7, 12)]
