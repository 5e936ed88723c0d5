"""Ranges as rows: which messages are stored, and which ones boards say they dropped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table, bindparam, select, tuple_

from edgekit.fleet.keys import BootKey, chunks
from edgekit.fleet.ranges import RangeChange
from edgekit_device.contract.ack import Range


class Spans:
    """A table of (board, boot, from, to).

    Args:
        table: stored_ranges or dropped_ranges.
        insert: The dialect's INSERT.
    """

    def __init__(self, table: Table, insert: Any) -> None:
        self._table, self._insert = table, insert
        columns = table.c
        self._from, self._to = columns["from"], columns["to"]
        self.query = select(columns.board, columns.boot, self._from, self._to)
        self._delete = table.delete().where(
            columns.board == bindparam("of_board"), columns.boot == bindparam("of_boot"), self._from == bindparam("low")
        )
        self.order = (columns.board, columns.boot, self._from)

    def near(self, connection: Connection, wanted: Mapping[BootKey, Range]) -> dict[BootKey, list[Range]]:
        """Every stored range that touches what is wanted, and perhaps more of the same boots.

        Args:
            connection: A transaction in which the boots are locked.
            wanted: Lowest and highest number per boot.
        """
        found: dict[BootKey, list[Range]] = {}
        for keys in chunks(sorted(wanted)):
            low = min(wanted[key][0] for key in keys) - 1
            high = max(wanted[key][1] for key in keys) + 1
            # Pairs, not two lists: with two lists a database tries every board with every boot.
            query = self.query.where(
                tuple_(self._table.c.board, self._table.c.boot).in_(keys), self._to >= low, self._from <= high
            )
            found |= dict(by_boot(connection.execute(query.order_by(*self.order))))
        return found

    def change(self, connection: Connection, changes: Mapping[BootKey, RangeChange]) -> None:
        """Make the rows what `changes` says."""
        added = [
            {"board": key.board, "boot": key.boot, "from": low, "to": high}
            for key in sorted(changes)
            for low, high in changes[key].add
        ]
        kept = {(row["boot"], row["from"]) for row in added}
        removed = [
            {"of_board": key.board, "of_boot": key.boot, "low": low}
            for key in sorted(changes)
            for low, _ in changes[key].remove
            if (key.boot, low) not in kept
        ]
        if removed:
            connection.execute(self._delete, removed)
        if added:
            insert = self._insert(self._table)
            # A range that grows at its end keeps its row.
            grows = insert.on_conflict_do_update(
                index_elements=["board", "boot", "from"], set_={"to": insert.excluded["to"]}
            )
            connection.execute(grows, added)


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
