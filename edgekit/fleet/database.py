"""Opening a database: SQLite with durable commits, or any that SQLAlchemy names; the schema's version is checked."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, DataError, IntegrityError, SQLAlchemyError

from edgekit.errors import MissingPackageError, StoreRowError, StoreUnavailableError, UsageError
from edgekit.fleet import schema

BUSY_MS = 5000
# Inserting what is there already must be harmless; each dialect has its own words for that.
INSERTS: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
_WRITES = "edgekit_writes"
# A server that went away without a word is noticed within half a minute, not after the kernel's two hours.
_CONNECT: dict[str, dict[str, Any]] = {
    "postgresql": {"connect_timeout": 5, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
}


def sqlite_url(path: Path) -> str:
    """The URL of a SQLite file."""
    return f"sqlite:///{path.absolute()}"


def open_engine(url: str) -> Engine:
    """Connect, create the tables in an empty database, refuse a schema that this version does not know.

    Args:
        url: An SQLAlchemy URL, e.g. ``sqlite:////var/lib/edgekit/fleet.db``.

    Raises:
        UsageError: Not a URL, or a database of another kind.
        StoreSchemaError: The tables are of another version, or not EdgeKit's.
        StoreUnavailableError: The database does not answer.
    """
    try:
        address = make_url(url)
        if address.drivername == "postgresql":
            address = address.set(drivername="postgresql+psycopg")
        engine = create_engine(address, connect_args=_CONNECT.get(address.get_backend_name(), {}))
    except ArgumentError as cause:
        raise UsageError("the store is not an SQLAlchemy URL; write it like sqlite:///fleet.db") from cause
    except ImportError as cause:
        raise MissingPackageError(
            cause.name or "a database driver", "this store", "pip install 'edgekit[fleet]'"
        ) from cause
    if engine.dialect.name not in INSERTS:
        raise UsageError(f"{shown(engine)}: the store is SQLite or PostgreSQL; write it like sqlite:///fleet.db")
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    else:
        event.listen(engine, "connect", _prepare_postgresql)
    try:
        with writing(engine) as connection:
            schema.settle(connection, shown(engine))
    except BaseException:
        engine.dispose()
        raise
    return engine


def shown(engine: Engine) -> str:
    """The database's URL for messages, without a password."""
    return make_url(engine.url).render_as_string(hide_password=True)


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that sees committed rows only."""
    with _named(engine), engine.connect() as connection, connection.begin():
        yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that is durable when the block ends."""
    with _named(engine), engine.connect().execution_options(**{_WRITES: True}) as connection, connection.begin():
        yield connection


def _prepare_sqlite(connection: Any, record: object) -> None:
    # The driver must not open transactions by itself: BEGIN IMMEDIATE is ours to say.
    connection.isolation_level = None
    cursor = connection.cursor()
    try:
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
        _enter_wal(cursor)
        # FULL: an ack promises that the row survives a power cut; NORMAL loses the last commits of a WAL.
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
    finally:
        cursor.close()


def _prepare_postgresql(connection: Any, record: object) -> None:
    with connection.cursor() as cursor:
        # An ack promises that the row survives a power cut, whatever the server's default says.
        cursor.execute("SET synchronous_commit TO on")
    connection.commit()


def _enter_wal(cursor: Any) -> None:
    # Changing the journal does not wait for busy_timeout: two programs that open a new file at once collide here.
    until = time.monotonic() + BUSY_MS / 1000
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.02)
        else:
            return


def _begin_sqlite(connection: Connection) -> None:
    # IMMEDIATE: a writer that began as a reader would fail with "locked" instead of waiting its turn.
    writes = connection.get_execution_options().get(_WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def _named(engine: Engine) -> Iterator[None]:
    try:
        yield
    except (DataError, IntegrityError, OverflowError, UnicodeError) as cause:
        raise StoreRowError(f"{shown(engine)}: {_words(cause)}") from cause
    except DatabaseError as cause:
        raise StoreUnavailableError(shown(engine), _words(cause)) from cause
    except SQLAlchemyError as cause:
        raise StoreUnavailableError(shown(engine), _words(cause)) from cause


def _words(cause: BaseException) -> str:
    return str(getattr(cause, "orig", None) or cause).splitlines()[0]
