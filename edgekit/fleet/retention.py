"""How long rows are kept. What was deleted stays acknowledged: its ranges are never deleted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, Table, and_, or_, select, tuple_

from edgekit.fleet import database
from edgekit.fleet.rollups import AHEAD_MS, DAY_MS, HOUR_MS, MINUTE_MS
from edgekit.fleet.tables import audit, boards, events, hours, minutes, readings

# One transaction deletes so many rows at most: a collector waits for it no longer than for a batch.
_STEP = 2000


@dataclass(frozen=True)
class Keep:
    """How many days each kind of row is kept.

    Attributes:
        raw_days: Readings and events, counted from when they came.
        minute_days: Roll-ups per minute, counted from their minute.
        hour_days: Roll-ups per hour.
        audit_days: What people did.
    """

    raw_days: float = 30.0
    minute_days: float = 180.0
    hour_days: float = 3650.0
    audit_days: float = 365.0


def prune(engine: Engine, keep: Keep, now_ms: int) -> int:
    """Delete what is older, a few thousand rows a transaction.

    Returns:
        Rows deleted.
    """
    raw_ms = now_ms - int(keep.raw_days * DAY_MS)
    with database.reading(engine) as connection:
        numbers = list(connection.execute(select(boards.c.id).order_by(boards.c.id)).scalars())
    deleted = 0
    for number in numbers:
        for table in (readings, events):
            # A board's clock alone must not decide: one that starts in 1970 would lose everything at once.
            wrong = or_(table.c.at < raw_ms, table.c.at > now_ms + AHEAD_MS)
            deleted += _delete(engine, table, and_(table.c.board == number, wrong, table.c.received < raw_ms))
        for table, days, span_ms in ((minutes, keep.minute_days, MINUTE_MS), (hours, keep.hour_days, HOUR_MS)):
            oldest = (now_ms - int(days * DAY_MS)) // span_ms
            deleted += _delete(engine, table, and_(table.c.board == number, table.c.bucket < oldest))
    return deleted + _delete(engine, audit, audit.c.at < now_ms - int(keep.audit_days * DAY_MS))


def _delete(engine: Engine, table: Table, where: Any) -> int:
    key = tuple_(*table.primary_key.columns)
    total = 0
    while True:
        with database.writing(engine) as connection:
            count = _delete_some(connection, table, key, where)
        total += count
        if count < _STEP:
            return total


def _delete_some(connection: Connection, table: Table, key: Any, where: Any) -> int:
    some = select(*table.primary_key.columns).where(where).limit(_STEP)
    return connection.execute(table.delete().where(key.in_(some))).rowcount
