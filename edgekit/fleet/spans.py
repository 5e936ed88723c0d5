"""Ranges as rows: which messages are stored, and which ones boards say they dropped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table, and_, bindparam, select
from sqlalchemy.engine import Dialect

from edgekit.fleet.bulk import Bulk, listed, listing
from edgekit.fleet.keys import BootKey
from edgekit.fleet.ranges import RangeChange
from edgekit_device.contract.ack import Range

_WANTED = ("board", "boot", "low", "high")


class Spans:
    """A table of (board, boot, from, to).

    Args:
        table: stored_ranges or dropped_ranges.
        insert: The dialect's INSERT.
        dialect: Of the database.
    """

    def __init__(self, table: Table, insert: Any, dialect: Dialect) -> None:
        columns = table.c
        low, high = columns["from"], columns["to"]
        self.query = select(columns.board, columns.boot, low, high)
        self.order = (columns.board, columns.boot, low)
        self._dialect = dialect
        asked = listed(_WANTED, dialect)
        same = and_(columns.board == asked.c.board, columns.boot == asked.c.boot)
        touches = and_(high >= asked.c.low, low <= asked.c.high)
        self._near = self.query.join_from(asked, table, and_(same, touches)).order_by(*self.order)
        key = (columns.board == bindparam("of_board"), columns.boot == bindparam("of_boot"), low == bindparam("low"))
        self._delete = Bulk(table.delete().where(*key), ("of_board", "of_boot", "low"), dialect)
        put = insert(table)
        # A range that grows at its end keeps its row.
        grows = put.on_conflict_do_update(index_elements=["board", "boot", "from"], set_={"to": put.excluded["to"]})
        self._put = Bulk(grows, ("board", "boot", "from", "to"), dialect)

    def near(self, connection: Connection, wanted: Mapping[BootKey, Range]) -> dict[BootKey, list[Range]]:
        """Every stored range that touches what is wanted, and perhaps more of the same boots.

        Args:
            connection: A transaction in which the boots are locked.
            wanted: Lowest and highest number per boot.
        """
        if not wanted:
            return {}
        rows = [(*key, low - 1, high + 1) for key, (low, high) in wanted.items()]
        return dict(by_boot(connection.execute(self._near, listing(_WANTED, rows, self._dialect))))

    def change(self, connection: Connection, changes: Mapping[BootKey, RangeChange]) -> None:
        """Make the rows what `changes` says."""
        added = [(*key, low, high) for key in sorted(changes) for low, high in changes[key].add]
        kept = {row[1:3] for row in added}
        removed = [
            (*key, low) for key in sorted(changes) for low, _ in changes[key].remove if (key.boot, low) not in kept
        ]
        self._delete.run(connection, removed)
        self._put.run(connection, added)


class BootRanges(NamedTuple):
    """The ranges of one boot, in order."""

    key: BootKey
    ranges: list[Range]


def by_boot(rows: Iterable[Any]) -> Iterator[BootRanges]:
    """Group rows of (board, boot, from, to), which come in that order."""
    key, ranges = None, list[Range]()
    for board, boot, low, high in rows:
        if key is not None and key != (board, boot):
            yield BootRanges(key, ranges)
            ranges = []
        key = BootKey(board, boot)
        ranges.append((low, high))
    if key is not None:
        yield BootRanges(key, ranges)


def length(ranges: Iterable[Range]) -> int:
    """How many numbers ranges hold."""
    return sum(high - low + 1 for low, high in ranges)
