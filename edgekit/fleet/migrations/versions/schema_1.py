"""The tables of the first store: Readings, events, statuses, ranges."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "1", None

_KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make them."""
    op.create_table("schema_version", sa.Column("version", sa.Integer, primary_key=True, autoincrement=False))
    op.create_table(
        "boards",
        sa.Column("id", _KEY, primary_key=True),
        sa.Column("site", sa.String(63), nullable=False),
        sa.Column("device", sa.String(63), nullable=False),
        sa.UniqueConstraint("site", "device"),
    )
    op.create_table(
        "boots",
        sa.Column("id", _KEY, primary_key=True),
        sa.Column("board", _KEY, sa.ForeignKey("boards.id"), nullable=False),
        sa.Column("boot", sa.String(32), nullable=False),
        sa.Column("first_seen", sa.BigInteger, nullable=False),
        sa.Column("last_seen", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("board", "boot"),
    )
    op.create_table(
        "readings",
        *_message(),
        *(sa.Column(name, sa.Float, nullable=False) for name in ("fps", "capture_fps", "inference_fps")),
        *(
            sa.Column(f"{step}_{quantile}_ms", sa.Float)
            for step in ("preprocess", "invoke", "end_to_end")
            for quantile in ("p50", "p95")
        ),
        sa.Column("label", sa.Text),
        sa.Column("score", sa.Float),
        sa.Column("delegate", sa.Text),
        sa.Column("bundle", sa.Text),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("readings_by_time", "readings", ["board", "at"])
    op.create_table(
        "events",
        *_message(),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "statuses",
        _board(),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("boot", sa.String(32), nullable=False),
        sa.Column("bundle", sa.Text),
        sa.Column("delegate", sa.Text),
        sa.Column("reason", sa.Text),
        sa.Column("received", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "stored_ranges",
        _board(),
        sa.Column("boot", _KEY, sa.ForeignKey("boots.id"), primary_key=True, autoincrement=False),
        sa.Column("from", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("to", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "rejected",
        sa.Column("board", sa.String(127), primary_key=True),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column("last_error", sa.Text, nullable=False),
        sa.Column("last_payload", sa.LargeBinary, nullable=False),
        sa.Column("last_received", sa.BigInteger, nullable=False),
    )
    op.execute("INSERT INTO schema_version (version) VALUES (1)")


def _board() -> sa.Column[int]:
    return sa.Column("board", _KEY, sa.ForeignKey("boards.id"), primary_key=True, autoincrement=False)


def _message() -> list[sa.Column[int]]:
    return [
        _board(),
        sa.Column("boot", _KEY, sa.ForeignKey("boots.id"), primary_key=True, autoincrement=False),
        sa.Column("day", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("at", sa.BigInteger, nullable=False),
    ]
