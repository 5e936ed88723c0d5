"""Acks, computed by SQL from committed rows and so the same whichever collector asks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Select, and_, func, select, tuple_

from edgekit.fleet.batch import BoardKey
from edgekit.fleet.tables import boards, boots, stored_ranges
from edgekit_device.contract.ack import Ack, Range

MAX_ACKED_BOOTS = 32
MAX_ACKED_RANGES = 1000
# A boot that a board still holds something of goes on sending until an ack names it: what was silent for longer than
# the board itself, by this much, is not held any more. One that comes back after all is named again.
HELD_MS = 3_600_000
# About 100 KB of JSON: below every broker's limit. The newest boots come first.
_MOST_RANGES = 4000


def newest_acks(connection: Connection, wanted: Sequence[BoardKey]) -> dict[BoardKey, Ack]:
    """What is stored of the boots that each board still holds something of: those it sent from lately.

    Args:
        connection: A transaction.
        wanted: Boards, as many as one statement takes.
    """
    ids = {
        row.id: BoardKey(row.site, row.device)
        for row in connection.execute(select(boards).where(tuple_(boards.c.site, boards.c.device).in_(wanted)))
    }
    stored: dict[BoardKey, dict[str, list[Range]]] = {board: {} for board in wanted}
    counts: dict[BoardKey, int] = {}
    for board, boot, low, high in connection.execute(_query(list(ids))):
        key = ids[board]
        counts[key] = counts.get(key, 0) + 1
        if counts[key] <= _MOST_RANGES:
            stored[key].setdefault(boot, []).append((low, high))
    return {
        board: Ack({boot: tuple(sorted(ranges)) for boot, ranges in found.items()}) for board, found in stored.items()
    }


def _query(ids: Sequence[int]) -> Select[Any]:
    recent = (
        select(
            boots.c.board,
            boots.c.id,
            boots.c.boot,
            boots.c.last_seen,
            func.max(boots.c.last_seen).over(partition_by=boots.c.board).label("newest"),
            func.row_number()
            .over(partition_by=boots.c.board, order_by=(boots.c.last_seen.desc(), boots.c.id.desc()))
            .label("age"),
        )
        .where(boots.c.board.in_(ids))
        .subquery()
    )
    low = stored_ranges.c["from"]
    newest = (
        select(
            recent.c.board,
            recent.c.boot,
            recent.c.age,
            low,
            stored_ranges.c.to,
            func.row_number().over(partition_by=stored_ranges.c.boot, order_by=low.desc()).label("place"),
        )
        .join(stored_ranges, and_(stored_ranges.c.board == recent.c.board, stored_ranges.c.boot == recent.c.id))
        .where(recent.c.age <= MAX_ACKED_BOOTS, recent.c.last_seen >= recent.c.newest - HELD_MS)
        .subquery()
    )
    columns = newest.c
    return (
        select(columns.board, columns.boot, columns["from"], columns.to)
        .where(columns.place <= MAX_ACKED_RANGES)
        .order_by(columns.board, columns.age, columns["from"].desc())
    )
