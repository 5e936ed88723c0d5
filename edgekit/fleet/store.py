"""Where messages are kept: each once, in one transaction with the ranges that acks are computed from."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from sqlalchemy import Connection, func, select

from edgekit.fleet import counting, database, retention
from edgekit.fleet.acking import newest_acks
from edgekit.fleet.arriving import Arrivals, sort_in
from edgekit.fleet.batch import Batch, BoardKey
from edgekit.fleet.counting import StoreSummary
from edgekit.fleet.keys import BootKey, Keys, chunks
from edgekit.fleet.puts import Puts
from edgekit.fleet.ranges import RangeChange, change_for, grown, holds
from edgekit.fleet.retention import Keep
from edgekit.fleet.rollups import regroup
from edgekit.fleet.spans import Spans
from edgekit.fleet.standing import write_rejected, write_reported, write_statuses
from edgekit.fleet.tables import boards, desired, dropped, leases, stored_ranges
from edgekit_device.contract.ack import Ack


@dataclass(frozen=True)
class Written:
    """What one batch changed.

    Attributes:
        new: Messages that were not stored before, per board.
        duplicates: Messages that were.
        rejected: Messages kept aside.
    """

    new: Mapping[BoardKey, int]
    duplicates: int
    rejected: int


class Store:
    """A database of what boards sent; safe for several threads and several collectors.

    Args:
        url: An SQLAlchemy URL.
        now: Seconds since 1970, the host's clock.
    """

    def __init__(self, url: str, now: Callable[[], float] = time.time) -> None:
        self._engine = database.open_engine(url)
        self._insert = database.INSERTS[self._engine.dialect.name]
        dialect = self._engine.dialect
        self._keys = Keys(self._insert, locks=dialect.name != "sqlite")
        self._stored, self._dropped = (Spans(table, self._insert, dialect) for table in (stored_ranges, dropped))
        self._put = Puts.of(self._insert, dialect)
        self._now = now

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    def write(self, batch: Batch) -> Written:
        """Store a batch in one transaction; a message that is stored already changes nothing.

        Raises:
            StoreRowError: A value does not fit its column; nothing was stored.
            StoreUnavailableError: The database does not answer; nothing was stored.
        """
        now_ms = int(self._now() * 1000)
        with database.writing(self._engine) as connection:
            ids = self._keys.boards(connection, {item.board for item in batch.received})
            started = {(ids[board], boot) for board, boot in batch.boots()}
            boot_ids = self._keys.boots(connection, started, now_ms)
            arrived = sort_in(batch, ids, boot_ids, now_ms)
            new = self._add_numbers(connection, arrived)
            arrived.only(new)
            self._put.readings.run(connection, arrived.readings)
            self._put.events.run(connection, arrived.events)
            by_minute = arrived.rolled()
            for put, rollups in ((self._put.minutes, by_minute), (self._put.hours, regroup(by_minute, 60))):
                put.run(connection, [rollups[bucket].values(bucket) for bucket in sorted(rollups)])
            self._put.arrivals.run(connection, arrived.counted())
            self._add_dropped(connection, arrived)
            write_statuses(connection, self._insert, batch, ids, now_ms)
            write_reported(connection, self._insert, batch, ids, now_ms)
            write_rejected(connection, self._insert, batch, now_ms)
        self._keys.remember(ids, boot_ids, now_ms)
        grown = arrived.count_by_board(new)
        names = {number: board for board, number in ids.items()}
        counts = {names[number]: count for number, count in grown.items() if count}
        return Written(counts, arrived.messages - sum(counts.values()), len(batch.rejected))

    def acks(self, wanted: Iterable[BoardKey]) -> dict[BoardKey, Ack]:
        """What is in committed rows, for the boots that each board sent from last.

        Args:
            wanted: Boards.

        Raises:
            StoreUnavailableError: The database does not answer.
        """
        found: dict[BoardKey, Ack] = {}
        with database.reading(self._engine) as connection:
            for chunk in chunks(sorted(set(wanted))):
                found |= newest_acks(connection, chunk)
        return found

    def seen_since(self, seconds: float) -> list[BoardKey]:
        """Boards that sent something in the last `seconds`, the host's clock."""
        with database.reading(self._engine) as connection:
            return counting.seen_since(connection, int((self._now() - seconds) * 1000))

    def desire(self, board: BoardKey, document: bytes) -> None:
        """Note what a board should run; collectors publish it.

        Args:
            board: Which one.
            document: A `desired` document of the contract.
        """
        values = {"document": document, "changed": int(self._now() * 1000)}
        with database.writing(self._engine) as connection:
            number = self._keys.boards(connection, [board])[board]
            insert = self._insert(desired).values(board=number, **values)
            connection.execute(insert.on_conflict_do_update(index_elements=["board"], set_=values))

    def desired(self, changed_since_ms: int = 0) -> dict[BoardKey, bytes]:
        """What boards should run.

        Args:
            changed_since_ms: Leave out what is older; UTC, ms since 1970.
        """
        query = select(boards.c.site, boards.c.device, desired.c.document).join_from(desired, boards)
        query = query.where(desired.c.changed >= changed_since_ms)
        with database.reading(self._engine) as connection:
            return {BoardKey(site, device): bytes(document) for site, device, document in connection.execute(query)}

    def claim(self, work: str, seconds: float) -> bool:
        """Take a turn at work that one collector does for all; False while another's turn lasts.

        Args:
            work: Its name.
            seconds: How long the turn lasts.
        """
        now_ms = int(self._now() * 1000)
        values = {"until": now_ms + int(seconds * 1000)}
        with database.writing(self._engine) as connection:
            insert = self._insert(leases).values(name=work, **values)
            taken = insert.on_conflict_do_update(
                index_elements=["name"], set_=values, where=leases.c.until <= now_ms
            ).returning(leases.c.name)
            return connection.execute(taken).first() is not None

    def prune(self, keep: Keep | None = None) -> int:
        """Delete what is older than `keep` says; ranges stay, so that nothing deleted is stored again.

        Returns:
            Rows deleted.
        """
        return retention.prune(self._engine, keep or Keep(), int(self._now() * 1000))

    def stored_counts(self) -> dict[BoardKey, int]:
        """Messages stored per board."""
        count = func.sum(stored_ranges.c.to - stored_ranges.c["from"] + 1)
        query = (
            select(boards.c.site, boards.c.device, count)
            .join(stored_ranges, stored_ranges.c.board == boards.c.id)
            .group_by(boards.c.site, boards.c.device)
        )
        with database.reading(self._engine) as connection:
            return {BoardKey(site, device): int(number) for site, device, number in connection.execute(query)}

    def summary(self) -> StoreSummary:
        """What the store holds, counted from its rows."""
        with database.reading(self._engine) as connection:
            return counting.summary(connection, self._stored, self._dropped)

    def reading(self) -> Any:
        """A transaction that sees committed rows only, for export."""
        return database.reading(self._engine)

    def writing(self) -> Any:
        """A transaction that is durable when the block ends, for the dashboard's own tables."""
        return database.writing(self._engine)

    def _add_numbers(self, connection: Connection, arrived: Arrivals) -> set[tuple[int, int]]:
        """Extend the stored ranges; returns (boot, seq) of what is new."""
        numbers = arrived.numbers
        near = self._stored.near(connection, {key: (min(seqs), max(seqs)) for key, seqs in numbers.items()})
        new: set[tuple[int, int]] = set()
        changes: dict[BootKey, RangeChange] = {}
        for key, sequence in numbers.items():
            stored = near.get(key, [])
            fresh = [number for number in sequence if not holds(stored, number)]
            if fresh:
                new |= {(key.boot, number) for number in fresh}
                changes[key] = grown(stored, fresh)
        self._stored.change(connection, changes)
        return new

    def _add_dropped(self, connection: Connection, arrived: Arrivals) -> None:
        changes = {}
        spans = {key: (min(low for low, _ in r), max(high for _, high in r)) for key, r in arrived.dropped.items()}
        near = self._dropped.near(connection, spans)
        for key, ranges in arrived.dropped.items():
            changes[key] = change_for(near.get(key, []), (), ranges)
        self._dropped.change(connection, changes)
