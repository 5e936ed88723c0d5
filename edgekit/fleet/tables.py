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
    text,
)

from edgekit.fleet.batch import LATENCY_COLUMNS

SCHEMA_VERSION = 4  # The newest file in migrations/versions.

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


def _received() -> Column[int]:
    # The host's clock at the commit. What is late is decided by it, never by the clock of whoever asks later.
    return Column("received", BigInteger, nullable=False, server_default=text("0"))


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
    _received(),
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
    _received(),
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
    Column("session", BigInteger),  # Which connection of the boot spoke; older boards do not say.
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

# Whole numbers only, so that sums do not depend on the order in which messages arrived.
ROLLUP_COLUMNS = (
    "readings", "fps_milli_sum", "fps_milli_min", "fps_milli_max", "inference_milli_sum",
    "timed", "p50_us_sum", "p95_us_max",
)  # fmt: skip


def _rollup(name: str) -> Table:
    return Table(
        name,
        metadata,
        Column("board", _KEY, ForeignKey("boards.id"), primary_key=True, autoincrement=False),
        Column("bucket", BigInteger, primary_key=True, autoincrement=False),  # Minutes or hours since 1970.
        *(Column(column, BigInteger, nullable=False) for column in ROLLUP_COLUMNS),
        sqlite_with_rowid=False,
    )


minutes = _rollup("readings_by_minute")
hours = _rollup("readings_by_hour")

# What a board's messages were like on arrival; each message is counted once.
arrivals = Table(
    "arrivals",
    metadata,
    Column("board", _KEY, ForeignKey("boards.id"), primary_key=True, autoincrement=False),
    Column("delayed", BigInteger, nullable=False),  # Came more than two minutes after they were made.
    Column("late", BigInteger, nullable=False),  # More than seven days: stored, and left out of the roll-ups.
    Column("ahead", BigInteger, nullable=False),  # Made more than a day in the host's future: the same.
)

# What boards say they dropped for space: gaps that no one needs to wait for.
dropped = Table(
    "dropped_ranges",
    metadata,
    Column("board", _KEY, ForeignKey("boards.id"), primary_key=True, autoincrement=False),
    Column("boot", _KEY, ForeignKey("boots.id"), primary_key=True, autoincrement=False),
    Column("from", BigInteger, primary_key=True, autoincrement=False),
    Column("to", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# The last `reported` of each board, and what it should run: both as they travel.
reported = Table(
    "reported",
    metadata,
    Column("board", _KEY, ForeignKey("boards.id"), primary_key=True, autoincrement=False),
    Column("document", LargeBinary, nullable=False),
    Column("received", BigInteger, nullable=False),
)

desired = Table(
    "desired",
    metadata,
    Column("board", _KEY, ForeignKey("boards.id"), primary_key=True, autoincrement=False),
    Column("document", LargeBinary, nullable=False),
    Column("changed", BigInteger, nullable=False),
)

# Work that one of several collectors does for all.
leases = Table(
    "leases",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("until", BigInteger, nullable=False),
)

# What people did, see audit.py.
audit = Table(
    "audit",
    metadata,
    Column("id", _KEY, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("who", String(80), nullable=False),
    Column("what", String(64), nullable=False),
    Column("target", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("site", String(63), nullable=False),  # Of the target; empty where it is of none.
    Index("audit_by_time", "at"),
)

# Releases on their way, see rollouts/. The document holds the plan and the sizes of the waves.
rollouts = Table(
    "rollouts",
    metadata,
    Column("id", _KEY, primary_key=True),
    Column("bundle", String(128), nullable=False),
    Column("state", String(16), nullable=False),
    Column("wave", Integer, nullable=False),
    Column("reason", Text),
    Column("by", String(80), nullable=False),
    Column("started", BigInteger, nullable=False),
    Column("ended", BigInteger),
    Column("version", BigInteger, nullable=False),
    Column("document", LargeBinary, nullable=False),
)

rollout_boards = Table(
    "rollout_boards",
    metadata,
    Column("rollout", _KEY, ForeignKey("rollouts.id"), primary_key=True, autoincrement=False),
    Column("board", _KEY, ForeignKey("boards.id"), primary_key=True, autoincrement=False),
    Column("rank", Integer, nullable=False),
    Column("wave", Integer),
    Column("wish", String(8)),
    Column("verdict", String(8)),
    Column("home", Integer, nullable=False),
    Column("left_out", Text),
    Column("before", String(128)),
    Column("told", BigInteger),
    Column("since", BigInteger),
    Column("judged", BigInteger),
    Column("reason", Text),
    Column("baseline", LargeBinary),  # How the release before did on it: JSON.
    sqlite_with_rowid=False,
)

# Boards that keep their release, whatever goes out.
pins = Table(
    "pins",
    metadata,
    Column("board", _KEY, ForeignKey("boards.id"), primary_key=True, autoincrement=False),
    Column("by", String(80), nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
)

# Work that one program does for a while and holds on to; `leases` are turns that nobody owns.
holders = Table(
    "holders",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("until", BigInteger, nullable=False),
)
