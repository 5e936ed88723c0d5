"""Stores of every earlier schema are brought up, and end as a new one begins."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, inspect

from edgekit.fleet import database
from edgekit.fleet.batch import BoardKey
from edgekit.fleet.database import sqlite_url
from edgekit.fleet.migrations import upgrade
from edgekit.fleet.store import Store
from edgekit.fleet.tables import SCHEMA_VERSION, metadata
from tests.suites.store_promises import BOOT, batch_of, kept, recomputed, rows
from tests.worlds.services import PostgreSQL

SCHEMAS = Path(__file__).parents[1] / "worlds" / "schemas"
PORCH = BoardKey("home", "porch")


def shape(engine: Engine) -> dict[str, object]:
    """Tables, columns, keys and indexes, as the database tells them."""
    seen = inspect(engine)
    found: dict[str, object] = {}
    for table in seen.get_table_names():
        columns = [(c["name"], str(c["type"]), c["nullable"]) for c in seen.get_columns(table)]
        indexes = sorted((i["name"], tuple(i["column_names"])) for i in seen.get_indexes(table))
        uniques = sorted(tuple(u["column_names"]) for u in seen.get_unique_constraints(table))
        foreign = sorted((tuple(f["constrained_columns"]), f["referred_table"]) for f in seen.get_foreign_keys(table))
        key = tuple(seen.get_pk_constraint(table)["constrained_columns"])
        # A column that was added later stands last; nothing reads by position.
        found[table] = (sorted(columns), key, indexes, uniques, foreign)
    return found


def migrated(url: str) -> None:
    engine = database.open_engine(url)
    with database.writing(engine) as connection:
        metadata.drop_all(connection)
        upgrade(connection, 0)
    engine.dispose()


def compare(url: str, other: str) -> None:
    Store(url).close()
    migrated(other)
    engines = [create_engine(address.replace("postgresql:", "postgresql+psycopg:")) for address in (url, other)]
    fresh, grown = map(shape, engines)
    for engine in engines:
        engine.dispose()
    assert grown == fresh


def test_all_migrations_together_make_what_a_new_store_has_in_sqlite(tmp_path: Path) -> None:
    compare(sqlite_url(tmp_path / "a.db"), sqlite_url(tmp_path / "b.db"))


def test_all_migrations_together_make_what_a_new_store_has_in_postgresql(postgres: PostgreSQL) -> None:
    compare(postgres.fresh("schema_new"), postgres.fresh("schema_grown"))


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION))
def test_a_store_of_an_earlier_schema_keeps_its_rows_and_gets_roll_ups(tmp_path: Path, version: int) -> None:
    path = tmp_path / "fleet.db"
    with sqlite3.connect(path) as connection:
        connection.executescript((SCHEMAS / f"schema_{version}.sql").read_text())
    connection.close()
    with Store(sqlite_url(path)) as store:
        assert rows(store, "select version from schema_version") == [(SCHEMA_VERSION,)]
        assert store.acks([PORCH])[PORCH].stored == {BOOT: ((0, 3), (5, 5), (65, 65))}
        summary = store.summary()
        assert (summary.boards, summary.stored, summary.rejected, summary.online) == (2, 7, 1, 1)
        for table, span_ms in (("readings_by_minute", 60_000), ("readings_by_hour", 3_600_000)):
            assert kept(store, table) == recomputed(store, span_ms)
            assert kept(store, table)
        assert store.write(batch_of(4, 5)).new == {PORCH: 1}
    fresh = tmp_path / "new.db"
    Store(sqlite_url(fresh)).close()
    engines = [create_engine(sqlite_url(each)) for each in (path, fresh)]
    # The dashboard's own tables, which a dump may hold too, have a version of their own.
    assert {name: shape(engines[0])[name] for name in metadata.tables} == shape(engines[1])
    for engine in engines:
        engine.dispose()


def test_a_migration_that_fails_leaves_the_earlier_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "fleet.db"
    with sqlite3.connect(path) as connection:
        connection.executescript((SCHEMAS / "schema_1.sql").read_text())
    connection.close()
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise RuntimeError("the power went")

    with monkeypatch.context() as patch:
        patch.setattr("edgekit.fleet.rollups.roll", fail)
        with pytest.raises(RuntimeError):
            Store(sqlite_url(path))
    connection = sqlite3.connect(path)
    assert connection.execute("select version from schema_version").fetchall() == [(1,)]
    connection.close()
    assert before
    with Store(sqlite_url(path)) as store:
        assert store.summary().stored == 7


def test_every_earlier_schema_has_a_dump_to_test_with() -> None:
    assert sorted(path.name for path in SCHEMAS.iterdir()) == [f"schema_{n}.sql" for n in range(1, SCHEMA_VERSION)]
