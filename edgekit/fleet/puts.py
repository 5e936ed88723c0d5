"""The statements that write what boards sent, compiled once a store."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import Table, func
from sqlalchemy.engine import Dialect

from edgekit.fleet.batch import EventRow, ReadingRow
from edgekit.fleet.bulk import Bulk
from edgekit.fleet.rollups import ROW_COLUMNS
from edgekit.fleet.tables import arrivals, events, hours, minutes, readings

_SUMS = ("readings", "fps_milli_sum", "inference_milli_sum", "timed", "p50_us_sum")
_COUNTS = ("delayed", "late", "ahead")


class Puts(NamedTuple):
    """One a table; writing a message twice changes nothing, writing a roll-up twice adds."""

    readings: Bulk
    events: Bulk
    minutes: Bulk
    hours: Bulk
    arrivals: Bulk

    @classmethod
    def of(cls, insert: Any, dialect: Dialect) -> Puts:
        """Compile them.

        Args:
            insert: The dialect's INSERT.
            dialect: Of the database.
        """
        return cls(
            Bulk(insert(readings).on_conflict_do_nothing(), ReadingRow._fields, dialect),
            Bulk(insert(events).on_conflict_do_nothing(), EventRow._fields, dialect),
            Bulk(_merged(insert, minutes, dialect), ROW_COLUMNS, dialect),
            Bulk(_merged(insert, hours, dialect), ROW_COLUMNS, dialect),
            Bulk(_counted(insert), ("board", *_COUNTS), dialect),
        )


def _merged(insert: Any, table: Table, dialect: Dialect) -> Any:
    put, old = insert(table), table.c
    new = put.excluded
    least, most = (func.min, func.max) if dialect.name == "sqlite" else (func.least, func.greatest)
    merged: dict[str, Any] = {name: old[name] + new[name] for name in _SUMS}
    merged["fps_milli_min"] = least(old.fps_milli_min, new.fps_milli_min)
    for name in ("fps_milli_max", "p95_us_max"):
        merged[name] = most(old[name], new[name])
    return put.on_conflict_do_update(index_elements=["board", "bucket"], set_=merged)


def _counted(insert: Any) -> Any:
    put = insert(arrivals)
    more = {name: arrivals.c[name] + put.excluded[name] for name in _COUNTS}
    return put.on_conflict_do_update(index_elements=["board"], set_=more)
