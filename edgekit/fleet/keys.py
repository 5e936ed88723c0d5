"""Row ids of boards and boots: made once, remembered, and locked in one order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import ARRAY, BigInteger, Connection, any_, bindparam, select, tuple_, update

from edgekit.fleet.batch import BoardKey
from edgekit.fleet.tables import boards, boots

CHUNK = 400  # SQLite's historic limit is 999 parameters a statement.
_SEEN_STEP_MS = 30_000
_MOST_KNOWN = 200_000
_T = TypeVar("_T")
_IDS: Any = bindparam("ids", type_=ARRAY(BigInteger))
_LOCK = select(boots.c.id).where(boots.c.id == any_(_IDS)).order_by(boots.c.id).with_for_update()


class BootKey(NamedTuple):
    """One start of one board, by row ids."""

    board: int
    boot: int


class Keys:
    """The ids that one store knows; only what was committed is remembered.

    Args:
        insert: The dialect's INSERT.
        locks: Whether rows can be locked; SQLite has one writer and needs none.
    """

    def __init__(self, insert: Any, *, locks: bool) -> None:
        self._insert, self._locks = insert, locks
        self._boards: dict[BoardKey, int] = {}
        self._boots: dict[tuple[int, str], int] = {}
        self._seen_ms: dict[int, int] = {}

    def remember(self, found: dict[BoardKey, int], started: dict[tuple[int, str], int], now_ms: int) -> None:
        """Keep what a transaction that was committed at `now_ms` found."""
        self._seen_ms.update(dict.fromkeys(self._stale(started.values(), now_ms), now_ms))
        for known, new in ((self._boards, found), (self._boots, started)):
            if len(known) > _MOST_KNOWN:
                known.clear()
                self._seen_ms.clear()
            known.update(new)  # type: ignore[arg-type]

    def boards(self, connection: Connection, wanted: Iterable[BoardKey]) -> dict[BoardKey, int]:
        """Ids of boards, made where they are new."""
        wanted = set(wanted)
        found = {board: self._boards[board] for board in wanted if board in self._boards}
        for chunk in chunks(sorted(wanted - found.keys())):
            connection.execute(self._insert(boards).on_conflict_do_nothing(), [board._asdict() for board in chunk])
            query = select(boards).where(tuple_(boards.c.site, boards.c.device).in_(chunk))
            found |= {BoardKey(row.site, row.device): row.id for row in connection.execute(query)}
        return found

    def boots(
        self, connection: Connection, wanted: Iterable[tuple[int, str]], now_ms: int
    ) -> dict[tuple[int, str], int]:
        """Ids of boots, made where they are new.

        Their rows are locked in one order until the transaction ends (PostgreSQL; SQLite has one writer): two
        collectors must not merge the ranges of one boot at once.
        """
        wanted = set(wanted)
        found = {key: self._boots[key] for key in wanted if key in self._boots}
        new = sorted(wanted - found.keys())
        for chunk in chunks(new):
            values = [{"board": b, "boot": boot, "first_seen": now_ms, "last_seen": now_ms} for b, boot in chunk]
            connection.execute(self._insert(boots).on_conflict_do_nothing(), values)
            query = select(boots).where(tuple_(boots.c.board, boots.c.boot).in_(chunk))
            found |= {(row.board, row.boot): row.id for row in connection.execute(query)}
        if self._locks and found:
            connection.execute(_LOCK, {"ids": sorted(found.values())}).all()
        # Writing it with each batch would cost as much as the Readings themselves.
        for numbers in chunks(self._stale(found.values(), now_ms)):
            connection.execute(update(boots).where(boots.c.id.in_(numbers)).values(last_seen=now_ms))
        return found

    def _stale(self, numbers: Iterable[int], now_ms: int) -> list[int]:
        return sorted(number for number in numbers if now_ms - self._seen_ms.get(number, 0) >= _SEEN_STEP_MS)


def chunks(items: Sequence[_T]) -> Iterator[list[_T]]:
    """Lists of at most CHUNK."""
    left = iter(items)
    while chunk := list(islice(left, CHUNK)):
        yield chunk
