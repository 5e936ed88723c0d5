"""What rows say of boards: whether they are there, what runs, how far an update is, how a release does on them."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, Table, select

from edgekit.fleet.batch import BoardKey
from edgekit.fleet.rollouts.figures import Figures, summarise
from edgekit.fleet.rollouts.records import read_pins
from edgekit.fleet.rollouts.state import Member, Rollout, Seen
from edgekit.fleet.tables import boards, boots, events, readings, reported, statuses
from edgekit_device.contract.errors import ContractError
from edgekit_device.contract.reported import Reported, Update

# Events of a model that fell over; a trial that fails says so in `reported`.
CRASHES = ("worker_died", "inference_hang", "model_failed", "delegate_aborted")
# So many of the newest Readings of a board are looked at, in each of its last boots.
_NEWEST = 40
_BOOTS = 2
_DAY_MS = 86_400_000


class Standing(NamedTuple):
    """What one board says of itself; a row of `statuses` and one of `reported`.

    Attributes:
        state: ``online``, ``stopped``, ``offline`` or None.
        release: What runs.
        kind: Of hardware, such as ``pi5``; None where it does not say.
    """

    board: BoardKey
    state: str | None = None
    release: str | None = None
    delegate: str | None = None
    kind: str | None = None
    update: Update | None = None

    def facts(self) -> dict[str, str | None]:
        """By the names that an expression knows, see `where.FIELDS`."""
        return {
            "site": self.board.site,
            "device": self.board.device,
            "kind": self.kind,
            "release": self.release,
            "delegate": self.delegate,
            "state": self.state,
        }


class Look:
    """Reads what boards say, and decodes each document once.

    A store of its own may be used by one thread at a time.
    """

    def __init__(self) -> None:
        self._read: dict[int, tuple[int, Reported | None]] = {}

    def boards(self, connection: Connection) -> dict[int, Standing]:
        """Every board there is, by row id."""
        said = self._reported(connection)
        query = select(boards, statuses.c.state, statuses.c.bundle, statuses.c.delegate).outerjoin(
            statuses, statuses.c.board == boards.c.id
        )
        found = {}
        for row in connection.execute(query):
            document = said.get(row.id)
            found[row.id] = Standing(
                BoardKey(row.site, row.device),
                row.state,
                document.bundle if document else row.bundle,
                row.delegate,
                document.kind if document else None,
                document.update if document else None,
            )
        return found

    def seen(
        self, connection: Connection, rollout: Rollout, members: Iterable[Member], standing: dict[int, Standing]
    ) -> dict[int, Seen]:
        """What a decision is made of.

        Args:
            connection: It reads.
            rollout: Which release is judged.
            members: Its boards.
            standing: From `boards`.
        """
        pinned = read_pins(connection)
        found = {}
        for member in members:
            now = standing.get(member.number)
            if now is None:
                continue
            seen = Seen(now.state == "online", now.release, now.update, member.number in pinned)
            if member.in_flight and member.since_ms is not None:
                new = figures(connection, member.number, rollout.bundle, member.since_ms)
                seen = seen._replace(new=new, crashes=crashes(connection, member.number, member.since_ms))
            found[member.number] = seen
        return found

    def _reported(self, connection: Connection) -> dict[int, Reported]:
        stamps = {row.board: row.received for row in connection.execute(select(reported.c.board, reported.c.received))}
        stale = {n for n, stamp in stamps.items() if n not in self._read or self._read[n][0] != stamp}
        if stale:
            query = select(reported)
            if len(stale) < 200:
                query = query.where(reported.c.board.in_(stale))
            for row in connection.execute(query):
                self._read[row.board] = (row.received, _decoded(bytes(row.document)))
        return {n: document for n, (_, document) in self._read.items() if document is not None and n in stamps}


def figures(connection: Connection, board: int, release: str, since_ms: int) -> Figures:
    """How a release does on a board, by its newest Readings.

    Args:
        connection: It reads.
        board: Row id.
        release: ``NAME-VERSION``.
        since_ms: Only what was stored since; the host's clock, for a board's may be wrong.
    """
    rows = _newest(connection, readings, board, since_ms, "bundle", "payload")
    return summarise([json.loads(zlib.decompress(row.payload)) for row in rows if row.bundle == release])


def past(connection: Connection, board: int, release: str, now_ms: int) -> Figures:
    """How a release did on a board in the last day: what the next one is held against."""
    return figures(connection, board, release, now_ms - _DAY_MS)


def crashes(connection: Connection, board: int, since_ms: int) -> tuple[str, ...]:
    """What fell over on a board since then, in words."""
    rows = _newest(connection, events, board, since_ms, "kind", "reason")
    return tuple(f"{row.kind}: {row.reason}"[:200] for row in rows if row.kind in CRASHES)[:3]


def _newest(connection: Connection, table: Table, board: int, since_ms: int, *names: str) -> Iterator[Row[Any]]:
    """A board's newest rows of each of its last boots, as far as they were stored since."""
    columns = table.c
    for boot in _last_boots(connection, board):
        # By the key, newest first: the board's own time plays no part.
        query = (
            select(columns.received, *(columns[name] for name in names))
            .where(columns.board == board, columns.boot == boot)
            .order_by(columns.day.desc(), columns.seq.desc())
            .limit(_NEWEST)
        )
        yield from (row for row in connection.execute(query) if row.received >= since_ms)


def _last_boots(connection: Connection, board: int) -> Iterator[int]:
    query = select(boots.c.id).where(boots.c.board == board).order_by(boots.c.last_seen.desc(), boots.c.id.desc())
    yield from connection.execute(query.limit(_BOOTS)).scalars().all()


def _decoded(document: bytes) -> Reported | None:
    try:
        return Reported.from_bytes(document)
    except ContractError:
        # Stored by a later version; what this one cannot read it does not guess at.
        return None
