"""Rollouts, their boards, pinned boards, and who holds the engine."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "4", "3"

_KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Add them."""
    op.create_table(
        "rollouts",
        sa.Column("id", _KEY, primary_key=True),
        sa.Column("bundle", sa.String(128), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("wave", sa.Integer, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("by", sa.String(80), nullable=False),
        sa.Column("started", sa.BigInteger, nullable=False),
        sa.Column("ended", sa.BigInteger),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("document", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "rollout_boards",
        sa.Column("rollout", _KEY, sa.ForeignKey("rollouts.id"), primary_key=True, autoincrement=False),
        _board(),
        sa.Column("rank", sa.Integer, nullable=False),
        sa.Column("wave", sa.Integer),
        sa.Column("wish", sa.String(8)),
        sa.Column("verdict", sa.String(8)),
        sa.Column("home", sa.Integer, nullable=False),
        sa.Column("left_out", sa.Text),
        sa.Column("before", sa.String(128)),
        *(sa.Column(name, sa.BigInteger) for name in ("told", "since", "judged")),
        sa.Column("reason", sa.Text),
        sa.Column("baseline", sa.LargeBinary),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "pins",
        _board(),
        sa.Column("by", sa.String(80), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "holders",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
    )
    op.execute("UPDATE schema_version SET version = 4")


def _board() -> sa.Column[int]:
    return sa.Column("board", _KEY, sa.ForeignKey("boards.id"), primary_key=True, autoincrement=False)
