"""When messages came, roll-ups per minute and hour, dropped ranges, desired and reported."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from edgekit.fleet.rollups import HOUR_MS, MINUTE_MS, Sample, roll

revision, down_revision = "2", "1"

_KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_NUMBERS = (
    "readings", "fps_milli_sum", "fps_milli_min", "fps_milli_max", "inference_milli_sum",
    "timed", "p50_us_sum", "p95_us_max",
)  # fmt: skip


def upgrade() -> None:
    """Add them, and roll up what is stored already."""
    for table in ("readings", "events"):
        op.add_column(table, sa.Column("received", sa.BigInteger, nullable=False, server_default=sa.text("0")))
        # Nobody noted it; taking the board's word makes old rows neither late nor ahead.
        op.execute(f"UPDATE {table} SET received = at")  # noqa: S608 - a name from the line above.
    op.add_column("statuses", sa.Column("session", sa.BigInteger))
    rollups = [_rollup(name) for name in ("readings_by_minute", "readings_by_hour")]
    op.create_table("arrivals", _board(), *(_count(name) for name in ("delayed", "late", "ahead")))
    op.create_table(
        "dropped_ranges",
        _board(),
        sa.Column("boot", _KEY, sa.ForeignKey("boots.id"), primary_key=True, autoincrement=False),
        sa.Column("from", sa.BigInteger, primary_key=True, autoincrement=False),
        _count("to"),
        sqlite_with_rowid=False,
    )
    for table, time in (("reported", "received"), ("desired", "changed")):
        op.create_table(table, _board(), sa.Column("document", sa.LargeBinary, nullable=False), _count(time))
    op.create_table("leases", sa.Column("name", sa.String(64), primary_key=True), _count("until"))
    for rollup, span_ms in zip(rollups, (MINUTE_MS, HOUR_MS), strict=True):
        _fill(rollup, span_ms)
    op.execute("UPDATE schema_version SET version = 2")


def _board() -> sa.Column[int]:
    return sa.Column("board", _KEY, sa.ForeignKey("boards.id"), primary_key=True, autoincrement=False)


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False)


def _rollup(name: str) -> sa.Table:
    bucket = sa.Column("bucket", sa.BigInteger, primary_key=True, autoincrement=False)
    return op.create_table(name, _board(), bucket, *(_count(n) for n in _NUMBERS), sqlite_with_rowid=False)


def _fill(table: sa.Table, span_ms: int) -> None:
    connection = op.get_bind()
    names = ("board", "at", "fps", "inference_fps", "end_to_end_p50_ms", "end_to_end_p95_ms")
    rows = connection.execute(sa.select(sa.table("readings", *map(sa.column, names))))
    values = [rollup.row(bucket) for bucket, rollup in roll((Sample(*row) for row in rows), span_ms).items()]
    if values:
        connection.execute(table.insert(), values)
