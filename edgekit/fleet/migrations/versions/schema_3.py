"""The audit log; what the dashboard noted before moves into it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "3", "2"

_KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_EARLIER = "dashboard_audit"
# How earlier versions called things.
_NAMES = {"acknowledged": "alert acknowledged", "silenced": "alert silenced", "user": "user set"}


def upgrade() -> None:
    """Make it, and move the lines that are there."""
    audit = op.create_table(
        "audit",
        sa.Column("id", _KEY, primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("who", sa.String(80), nullable=False),
        sa.Column("what", sa.String(64), nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("site", sa.String(63), nullable=False),
    )
    op.create_index("audit_by_time", "audit", ["at"])
    connection = op.get_bind()
    if sa.inspect(connection).has_table(_EARLIER):
        earlier = sa.table(_EARLIER, *map(sa.column, ("id", "at", "who", "did", "what")))
        rows = [_moved(*row) for row in connection.execute(sa.select(earlier).order_by(earlier.c.id))]
        if rows:
            connection.execute(audit.insert(), rows)
        op.drop_table(_EARLIER)
    op.execute("UPDATE schema_version SET version = 3")


def _moved(number: int, at_ms: int, who: str, did: str, what: str) -> dict[str, object]:
    board, slash, rest = what.partition("/")
    on_board = did in ("acknowledged", "silenced") and slash
    return {
        "at": at_ms,
        "who": who,
        "what": _NAMES.get(did, did),
        "target": f"{board}.{rest}" if on_board else what,
        "outcome": "done",
        "site": board if on_board and board != "*" else "",
    }
