"""Every board as it is now, kept up to date from the store: one copy for all pages, streams and alerts.

It reads committed rows only, so it is right with any number of collectors. A turn asks each board's newest Reading by
index and decodes those that are new.
"""

from __future__ import annotations

import json
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, func, select

from edgekit.errors import EdgeKitError
from edgekit.fleet.batch import BoardKey
from edgekit.fleet.keys import chunks
from edgekit.fleet.tables import boards, boots, dropped, events, readings, statuses, stored_ranges
from edgekit.fleet.web.board_now import BoardNow, with_reading, with_status

if TYPE_CHECKING:
    from edgekit.fleet.store import Store

_DAY_MS = 86_400_000
# A board whose clock runs ahead must not hide its own newer Readings.
_AHEAD_MS = 300_000
# Gaps and events change slowly and cost a scan.
_SLOW_S = 20.0
# More new Readings than this are read in one statement rather than by their keys.
_MANY = 4000
_CLOCKS_APART_MS = 120_000
# A turn should take at most this share of the time, but nobody looks at a page that stands still for longer than this.
_SHARE, _LONGEST_REST_S = 0.15, 4.0
UPDATE_FAILURES = ("update_failed", "update_refused", "update_rolled_back", "rolled_back")
UPDATE_DONE = ("updated", "update_committed", "installed")


@dataclass(frozen=True)
class Picture:
    """The fleet at one moment.

    Attributes:
        version: Grows with each change.
        boards: By site and device.
        now_ms: When it was taken; UTC, ms since 1970.
        problem: Why the store does not answer; None if it does.
    """

    version: int = 0
    boards: Mapping[BoardKey, BoardNow] = field(default_factory=dict)
    now_ms: int = 0
    problem: str | None = None


class Wall:
    """Keeps a `Picture`; `refresh` is called by one thread, `latest` by any.

    Args:
        store: Where rows are.
        now: Seconds since 1970, the host's clock.
        clock: Monotonic seconds.
    """

    def __init__(
        self, store: Store, now: Callable[[], float] = time.time, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store, self._now, self._clock = store, now, clock
        self._boards: dict[int, BoardNow] = {}
        self._status_rows: dict[int, Any] = {}
        self._latest = Picture(now_ms=int(now() * 1000))
        self._slow_due_s = 0.0
        self._event_at: dict[int, int] = {}

    def latest(self) -> Picture:
        """The newest picture; a value that never changes."""
        return self._latest

    def run(self, stop: threading.Event, every_s: float, rest: Callable[[float], bool]) -> None:
        """Refresh until told to stop, resting longer when a turn takes longer, to a limit.

        Args:
            stop: Set it to end.
            every_s: Shortest rest.
            rest: Called after each turn with the seconds to rest; does what else there is to do, and sleeps.
        """
        while not stop.is_set():
            began = self._clock()
            self.refresh()
            if rest(max(every_s, min((self._clock() - began) / _SHARE, _LONGEST_REST_S))):
                return

    def refresh(self) -> Picture:
        """Look at the store once; a store that does not answer leaves the last picture, with the problem in it."""
        now_ms = int(self._now() * 1000)
        try:
            with self._store.reading() as connection:
                fresh = self._turn(connection, now_ms)
        except EdgeKitError as error:
            self._latest = replace(self._latest, problem=str(error), version=self._latest.version + 1)
            return self._latest
        changed = fresh != self._boards or self._latest.problem is not None
        self._boards = fresh
        by_key = {board.key: board for board in fresh.values()} if changed else self._latest.boards
        self._latest = Picture(self._latest.version + changed, by_key, now_ms)
        return self._latest

    def _turn(self, connection: Connection, now_ms: int) -> dict[int, BoardNow]:
        fresh = dict(self._boards)
        for row in connection.execute(select(boards)):
            if row.id not in fresh:
                fresh[row.id] = BoardNow(row.site, row.device, row.id)
        newer = self._newer(connection, fresh, now_ms)
        for row in _newest_rows(connection, newer, now_ms):
            if row.board in newer:
                fresh[row.board] = with_reading(fresh[row.board], row.at, row.received, row.payload)
        slow = self._clock() >= self._slow_due_s
        query = select(statuses)
        if not slow:
            # Collectors on other machines stamp rows with their own clocks.
            query = query.where(statuses.c.received >= now_ms - _CLOCKS_APART_MS)
        for row in connection.execute(query):
            if self._status_rows.get(row.board) != row:
                self._status_rows[row.board] = row
                fresh[row.board] = with_status(fresh[row.board], row)
        if slow:
            self._slow_due_s = self._clock() + _SLOW_S
            self._count(connection, fresh, now_ms)
            self._hear(connection, fresh, now_ms)
        return fresh

    def _newer(self, connection: Connection, known: Mapping[int, BoardNow], now_ms: int) -> dict[int, int]:
        found = connection.execute(select(boards.c.id, _newest(now_ms)))
        return {number: at for number, at in found if at is not None and known[number].at_ms != at}

    def _count(self, connection: Connection, fresh: dict[int, BoardNow], now_ms: int) -> None:
        """Messages that never came and messages that were given up, of boots that were heard in the last day."""
        missing: dict[int, int] = {}
        given_up: dict[int, int] = {}
        for board, gaps, lost in count_missing(connection, boots.c.last_seen >= now_ms - _DAY_MS):
            missing[board] = missing.get(board, 0) + gaps
            given_up[board] = given_up.get(board, 0) + lost
        for number, board_now in fresh.items():
            gap, lost = missing.get(number, 0), given_up.get(number, 0)
            if (board_now.missing, board_now.dropped) != (gap, lost):
                fresh[number] = replace(board_now, missing=gap, dropped=lost)

    def _hear(self, connection: Connection, fresh: dict[int, BoardNow], now_ms: int) -> None:
        """How the last update of each board that was heard lately ended."""
        day = now_ms // _DAY_MS
        active = [n for n, b in fresh.items() if b.received_ms and now_ms - b.received_ms < _DAY_MS]
        for some in chunks(active):
            query = select(events.c.board, events.c.at, events.c.kind, events.c.reason).where(
                events.c.board.in_(some),
                events.c.day >= day - 1,
                events.c.kind.in_(UPDATE_FAILURES + UPDATE_DONE),
            )
            for row in connection.execute(query.order_by(events.c.at)):
                if row.at > self._event_at.get(row.board, 0):
                    self._event_at[row.board] = row.at
                    failed = (
                        f"update failed: {row.reason or 'no reason given'}" if row.kind in UPDATE_FAILURES else None
                    )
                    fresh[row.board] = replace(fresh[row.board], update_failed=failed)


def count_missing(connection: Connection, where: Any) -> Iterable[tuple[int, int, int]]:
    """(board, messages missing below the newest, messages dropped) per boot for which `where` holds."""
    columns, gone = stored_ranges.c, dropped.c
    kept = (
        select(columns.board, columns.boot, func.sum(columns.to - columns["from"] + 1), func.max(columns.to))
        .join(boots, boots.c.id == columns.boot)
        .where(where)
        .group_by(columns.board, columns.boot)
    )
    lost = (
        select(gone.boot, func.sum(gone.to - gone["from"] + 1))
        .join(boots, boots.c.id == gone.boot)
        .where(where)
        .group_by(gone.boot)
    )
    told = {boot: int(count) for boot, count in connection.execute(lost)}
    for board, boot, stored, highest in connection.execute(kept):
        yield board, max(0, int(highest) + 1 - int(stored) - told.get(boot, 0)), told.get(boot, 0)


def _newest(now_ms: int) -> Any:
    """When the newest Reading of a board in the outer query was made."""
    return (
        select(func.max(readings.c.at))
        .where(readings.c.board == boards.c.id, readings.c.at <= now_ms + _AHEAD_MS)
        .correlate(boards)
        .scalar_subquery()
    )


def _newest_rows(connection: Connection, wanted: Mapping[int, int], now_ms: int) -> Iterable[Any]:
    """The newest Reading of some boards, each found by the index of times.

    A join on (board, at) would be shorter; SQLite answers it by the key, which begins with the board, and reads a
    month of each board for one row.
    """
    query = select(boards.c.id.label("board"), *(_of_newest(name, now_ms) for name in ("at", "received", "payload")))
    if len(wanted) > _MANY:
        yield from connection.execute(query)
        return
    for some in chunks(sorted(wanted)):
        yield from connection.execute(query.where(boards.c.id.in_(some)))


def _of_newest(name: str, now_ms: int) -> Any:
    columns = readings.c
    return (
        select(columns[name])
        .where(columns.board == boards.c.id, columns.at <= now_ms + _AHEAD_MS)
        .order_by(columns.at.desc())
        .limit(1)
        .correlate(boards)
        .scalar_subquery()
        .label(name)
    )


def last_payload(connection: Connection, board: BoardNow) -> dict[str, Any] | None:
    """The whole of a board's last Reading, for its page."""
    if board.at_ms is None:
        return None
    # A range, not equality: SQLite then takes the index by time rather than the key, which holds the board first.
    query = select(readings.c.payload).where(readings.c.board == board.number, readings.c.at >= board.at_ms)
    query = query.order_by(readings.c.at).limit(1)
    payload = connection.execute(query).scalar()
    return dict(json.loads(zlib.decompress(payload))) if payload else None
