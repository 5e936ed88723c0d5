"""Where messages are kept: each once, in one transaction with the ranges that acks are computed from."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection, Table, and_, func, or_, select, tuple_, update

from edgekit.fleet import database
from edgekit.fleet.batch import Batch, BoardKey, event_row, reading_row, supersedes
from edgekit.fleet.ranges import change_for, gaps
from edgekit.fleet.tables import boards, boots, events, readings, rejected, statuses, stored_ranges
from edgekit_device.contract.ack import Ack, Range
from edgekit_device.contract.telemetry import Event, Reading, Status

MAX_ACKED_BOOTS = 32
MAX_ACKED_RANGES = 1000
_CHUNK = 400  # SQLite's historic limit is 999 parameters a statement.
_T = TypeVar("_T")


class BootKey(NamedTuple):
    """One start of one board, by row ids."""

    board: int
    boot: int


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


@dataclass(frozen=True)
class StoreSummary:
    """What the store holds.

    Attributes:
        boards: Boards that ever sent a valid message.
        online: Boards whose last status is online.
        stored: Readings and events.
        gaps: Messages missing below the newest stored one of each boot.
        rejected: Messages kept aside.
    """

    boards: int
    online: int
    stored: int
    gaps: int
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
        messages = [
            (item.board, item.document, item.payload)
            for item in batch.received
            if isinstance(item.document, Reading | Event)
        ]
        with database.writing(self._engine) as connection:
            ids = self._board_ids(connection, {item.board for item in batch.received})
            started = {(ids[board], document.boot) for board, document, _ in messages}
            boot_ids = self._boot_ids(connection, started, now_ms)
            rows: dict[Table, list[dict[str, Any]]] = {readings: [], events: []}
            arrived: dict[BootKey, set[int]] = {}
            for board, document, payload in messages:
                if isinstance(document, Reading):
                    table, row = readings, reading_row(document, payload)
                else:
                    table, row = events, event_row(document, payload)
                key = BootKey(ids[board], boot_ids[ids[board], document.boot])
                rows[table].append({**row, "board": key.board, "boot": key.boot})
                arrived.setdefault(key, set()).add(document.seq)
            for table, values in rows.items():
                if values:
                    connection.execute(self._insert(table).on_conflict_do_nothing(), values)
            grown = self._merge_ranges(connection, arrived)
            self._write_statuses(connection, batch, ids, now_ms)
            self._write_rejected(connection, batch, now_ms)
        names = {number: board for board, number in ids.items()}
        new = {names[number]: count for number, count in grown.items() if count}
        return Written(new, len(messages) - sum(new.values()), len(batch.rejected))

    def acks(self, wanted: Iterable[BoardKey]) -> dict[BoardKey, Ack]:
        """What is in committed rows, for the boots that each board sent from last.

        Raises:
            StoreUnavailableError: The database does not answer.
        """
        found: dict[BoardKey, Ack] = {}
        with database.reading(self._engine) as connection:
            for board in wanted:
                recent = (
                    select(boots.c.id, boots.c.boot)
                    .join(boards, boards.c.id == boots.c.board)
                    .where(boards.c.site == board.site, boards.c.device == board.device)
                    .order_by(boots.c.last_seen.desc(), boots.c.id.desc())
                    .limit(MAX_ACKED_BOOTS)
                )
                stored = {boot: self._newest_ranges(connection, number) for number, boot in connection.execute(recent)}
                found[board] = Ack({boot: ranges for boot, ranges in stored.items() if ranges})
        return found

    def stored_counts(self) -> dict[BoardKey, int]:
        """Messages stored per board."""
        length = func.sum(stored_ranges.c.to - stored_ranges.c["from"] + 1)
        query = (
            select(boards.c.site, boards.c.device, length)
            .join(stored_ranges, stored_ranges.c.board == boards.c.id)
            .group_by(boards.c.site, boards.c.device)
        )
        with database.reading(self._engine) as connection:
            return {BoardKey(site, device): int(count) for site, device, count in connection.execute(query)}

    def summary(self) -> StoreSummary:
        """What the store holds, counted from its rows."""
        with database.reading(self._engine) as connection:

            def count(table: Table, *where: Any) -> int:
                return int(connection.execute(select(func.count()).select_from(table).where(*where)).scalar_one())

            missing = 0
            for _, ranges in _by_boot(connection.execute(select(*_RANGE).order_by(*_RANGE))):
                missing += sum(high - low + 1 for low, high in gaps(ranges))
            aside = connection.execute(select(func.coalesce(func.sum(rejected.c.count), 0))).scalar_one()
            return StoreSummary(
                boards=count(boards),
                online=count(statuses, statuses.c.state == "online"),
                stored=count(readings) + count(events),
                gaps=missing,
                rejected=int(aside),
            )

    def _board_ids(self, connection: Connection, wanted: set[BoardKey]) -> dict[BoardKey, int]:
        found: dict[BoardKey, int] = {}
        for chunk in _chunks(sorted(wanted)):
            values = [board._asdict() for board in chunk]
            connection.execute(self._insert(boards).on_conflict_do_nothing(), values)
            query = select(boards).where(tuple_(boards.c.site, boards.c.device).in_(chunk))
            found |= {BoardKey(row.site, row.device): row.id for row in connection.execute(query)}
        return found

    def _boot_ids(
        self, connection: Connection, wanted: set[tuple[int, str]], now_ms: int
    ) -> dict[tuple[int, str], int]:
        found: dict[tuple[int, str], int] = {}
        for chunk in _chunks(sorted(wanted)):
            values = [{"board": b, "boot": boot, "first_seen": now_ms, "last_seen": now_ms} for b, boot in chunk]
            connection.execute(self._insert(boots).on_conflict_do_nothing(), values)
            # Locked in one order (PostgreSQL; SQLite has one writer): two collectors must not merge one boot at once.
            key = tuple_(boots.c.board, boots.c.boot)
            query = select(boots).where(key.in_(chunk)).order_by(boots.c.id).with_for_update()
            found |= {(row.board, row.boot): row.id for row in connection.execute(query)}
            connection.execute(update(boots).where(key.in_(chunk)).values(last_seen=now_ms))
        return found

    def _merge_ranges(self, connection: Connection, arrived: Mapping[BootKey, set[int]]) -> dict[int, int]:
        """Extend the stored ranges; returns how many messages are new, per board id."""
        stored: dict[BootKey, list[Range]] = {}
        for keys in _chunks(sorted(arrived)):
            near = [
                and_(stored_ranges.c.boot == key.boot, *_touching(min(arrived[key]), max(arrived[key]))) for key in keys
            ]
            stored |= dict(_by_boot(connection.execute(select(*_RANGE).where(or_(*near)).order_by(*_RANGE))))
        removed, added, grown = [], [], dict[int, int]()
        for key, sequence in arrived.items():
            change = change_for(stored.get(key, ()), sequence)
            removed += [(key.boot, low) for low, _ in change.remove]
            added += [{"board": key.board, "boot": key.boot, "from": low, "to": high} for low, high in change.add]
            grown[key.board] = grown.get(key.board, 0) + _length(change.add) - _length(change.remove)
        for chunk in _chunks(removed):
            gone = tuple_(stored_ranges.c.boot, stored_ranges.c["from"]).in_(chunk)
            connection.execute(stored_ranges.delete().where(gone))
        if added:
            connection.execute(stored_ranges.insert(), added)
        return grown

    def _newest_ranges(self, connection: Connection, boot: int) -> tuple[Range, ...]:
        low, high = stored_ranges.c["from"], stored_ranges.c.to
        query = select(low, high).where(stored_ranges.c.boot == boot).order_by(low.desc()).limit(MAX_ACKED_RANGES)
        return tuple(sorted((row[0], row[1]) for row in connection.execute(query)))

    def _write_statuses(self, connection: Connection, batch: Batch, ids: Mapping[BoardKey, int], now_ms: int) -> None:
        for board, document, _ in batch.received:
            if not isinstance(document, Status):
                continue
            number = ids[board]
            known = connection.execute(select(statuses.c.boot).where(statuses.c.board == number)).scalar_one_or_none()
            if not supersedes(document, known):
                continue
            values = {
                "state": document.state,
                "boot": document.boot,
                "bundle": document.bundle,
                "delegate": document.delegate,
                "reason": document.reason,
                "received": now_ms,
            }
            insert = self._insert(statuses).values(board=number, **values)
            connection.execute(insert.on_conflict_do_update(index_elements=["board"], set_=values))

    def _write_rejected(self, connection: Connection, batch: Batch, now_ms: int) -> None:
        for board, error, payload in batch.rejected:
            values = {"last_error": error, "last_payload": payload, "last_received": now_ms}
            insert = self._insert(rejected).values(board=board, count=1, **values)
            more = {**values, "count": rejected.c.count + 1}
            connection.execute(insert.on_conflict_do_update(index_elements=["board"], set_=more))


_RANGE = (stored_ranges.c.board, stored_ranges.c.boot, stored_ranges.c["from"], stored_ranges.c.to)


def _touching(low: int, high: int) -> tuple[Any, Any]:
    return stored_ranges.c.to >= low - 1, stored_ranges.c["from"] <= high + 1


def _length(ranges: Iterable[Range]) -> int:
    return sum(high - low + 1 for low, high in ranges)


def _by_boot(rows: Iterable[Any]) -> Iterator[tuple[BootKey, list[Range]]]:
    """Group rows of _RANGE, which come in its order."""
    key, ranges = None, list[Range]()
    for board, boot, low, high in rows:
        if key is not None and key != (board, boot):
            yield key, ranges
            ranges = []
        key = BootKey(board, boot)
        ranges.append((low, high))
    if key is not None:
        yield key, ranges


def _chunks(items: Sequence[_T]) -> Iterator[list[_T]]:
    left = iter(items)
    while chunk := list(islice(left, _CHUNK)):
        yield chunk
