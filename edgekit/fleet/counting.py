"""What a store holds, counted from its rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, func, select

from edgekit.fleet.batch import BoardKey
from edgekit.fleet.ranges import change_for, gaps
from edgekit.fleet.spans import Spans, by_boot, length
from edgekit.fleet.tables import arrivals, boards, boots, events, readings, rejected, statuses, stored_ranges


@dataclass(frozen=True)
class StoreSummary:
    """What the store holds.

    Attributes:
        boards: Boards that ever sent a valid message.
        online: Boards whose last status is online.
        stored: Readings and events that were ever stored; those that retention deleted are counted.
        gaps: Messages missing below the newest stored one of each boot; what boards say they dropped is left out.
        rejected: Messages kept aside.
        rows: Readings and events in the tables now.
        dropped: Messages that boards say they dropped for space, and that are not stored.
        delayed: Messages that came more than two minutes after they were made.
        late: Messages that came more than seven days after: stored, not rolled up.
        ahead: Messages that claim to be made more than a day after they came: the same.
    """

    boards: int
    online: int
    stored: int
    gaps: int
    rejected: int
    rows: int = 0
    dropped: int = 0
    delayed: int = 0
    late: int = 0
    ahead: int = 0


def summary(connection: Connection, stored: Spans, dropped: Spans) -> StoreSummary:
    """Count, in one transaction."""

    def count(table: Table, *where: Any) -> int:
        return int(connection.execute(select(func.count()).select_from(table).where(*where)).scalar_one())

    def total(column: Any) -> int:
        return int(connection.execute(select(func.coalesce(func.sum(column), 0))).scalar_one())

    # Few boards ever drop anything; the ranges of the others need not be held in memory.
    gone = dict(by_boot(connection.execute(dropped.query.order_by(*dropped.order))))
    missing = lost = 0
    for key, ranges in by_boot(connection.execute(stored.query.order_by(*stored.order))):
        told = gone.pop(key, [])
        known = change_for((), (), [*ranges, *told]).add
        lost += length(known) - length(ranges)
        missing += length(gaps((low, high) for low, high in known if low <= ranges[-1][1]))
    return StoreSummary(
        boards=count(boards),
        online=count(statuses, statuses.c.state == "online"),
        stored=total(stored_ranges.c.to - stored_ranges.c["from"] + 1),
        gaps=missing,
        rejected=total(rejected.c.count),
        rows=count(readings) + count(events),
        dropped=lost + sum(length(ranges) for ranges in gone.values()),
        delayed=total(arrivals.c.delayed),
        late=total(arrivals.c.late),
        ahead=total(arrivals.c.ahead),
    )


def seen_since(connection: Connection, since_ms: int) -> list[BoardKey]:
    """Boards of which a boot sent something since then, sorted."""
    query = select(boards.c.site, boards.c.device).join(boots).where(boots.c.last_seen >= since_ms).distinct()
    return sorted(BoardKey(site, device) for site, device in connection.execute(query))
