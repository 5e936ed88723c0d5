"""The tables of the store, and the schema's version. Rows are keyed by integers; times are UTC in ms since 1970."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from edgekit.fleet.batch import LATENCY_COLUMNS

SCHEMA_VERSION = 1

metadata = MetaData()
# SQLite numbers rows by itself only where the key is its own INTEGER.
_KEY = BigInteger().with_variant(Integer, "sqlite")


def _message_key() -> list[Column[int]]:
    # The day is part of the key so that partitions by day can keep it; autoincrement must not guess at it.
    return [
        Column("board", _KEY, ForeignKey("boards.id"), primary_key=True, autoincrement=False),
        Column("boot", _KEY, ForeignKey("boots.id"), primary_key=True, autoincrement=False),
        Column("day", Integer, primary_key=True, autoincrement=False),
        Column("seq", BigInteger, primary_key=True, autoincrement=False),
    ]


schema_version = Table("schema_version", metadata, Column("version", Integer, primary_key=True, autoincrement=False))

boards = Table(
    "boards",
    metadata,
    Column("id", _KEY, primary_key=True),
    Column("site", String(63), nullable=False),
    Column("device", String(63), nullable=False),
    UniqueConstraint("site", "device"),
)

boots = Table(
    "boots",
    metadata,
    Column("id", _KEY, primary_key=True),
    Column("board", _KEY, ForeignKey("boards.id"), nullable=False),
    Column("boot", String(32), nullable=False),
    Column("first_seen", BigInteger, nullable=False),
    Column("last_seen", BigInteger, nullable=False),
    UniqueConstraint("board", "boot"),
)

readings = Table(
    "readings",
    metadata,
    *_message_key(),
    Column("at", BigInteger, nullable=False),
    Column("fps", Float, nullable=False),
    Column("capture_fps", Float, nullable=False),
    Column("inference_fps", Float, nullable=False),
    *(Column(name, Float) for name in LATENCY_COLUMNS),
    Column("label", Text),
    Column("score", Float),
    Column("delegate", Text),
    Column("bundle", Text),
    Column("payload", LargeBinary, nullable=False),  # The message as it came: JSON, zlib.
    Index("readings_by_time", "board", "at"),
    sqlite_with_rowid=False,
)

events = Table(
    "events",
    metadata,
    *_message_key(),
    Column("at", BigInteger, nullable=False),
    Column("kind", String(64), nullable=False),
    Column("reason", Text),
    Column("payload", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

statuses = Table(
    "statuses",
    metadata,
    Column("board", _KEY, ForeignKey("boards.id"), primary_key=True, autoincrement=False),
    Column("state", String(16), nullable=False),
    Column("boot", String(32), nullable=False),
    Column("bundle", Text),
    Column("delegate", Text),
    Column("reason", Text),
    Column("received", BigInteger, nullable=False),
)

# What acks are computed from; merged in the transaction that stores the rows.
stored_ranges = Table(
    "stored_ranges",
    metadata,
    Column("board", _KEY, ForeignKey("boards.id"), primary_key=True, autoincrement=False),
    Column("boot", _KEY, ForeignKey("boots.id"), primary_key=True, autoincrement=False),
    Column("from", BigInteger, primary_key=True, autoincrement=False),
    Column("to", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

rejected = Table(
    "rejected",
    metadata,
    Column("board", String(127), primary_key=True),  # site/device of the topic, or "?".
    Column("count", BigInteger, nullable=False),
    Column("last_error", Text, nullable=False),
    Column("last_payload", LargeBinary, nullable=False),  # Its first 4 KiB.
    Column("last_received", BigInteger, nullable=False),
)
