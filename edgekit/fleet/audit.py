"""The audit log: who did what to what, when, and what came of it.

Written in the transaction of the change itself where there is one, so that neither can be without the other.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import or_, select

from edgekit.fleet.batch import BoardKey
from edgekit.fleet.tables import audit

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from edgekit.fleet.store import Store

DONE = "done"
# So much of a text is kept; a target or a reason may come from a board or from a stranger.
_WHO, _WHAT, _TEXT = 80, 64, 500


@dataclass(frozen=True)
class Act:
    """Something that somebody did, or tried to do.

    Attributes:
        who: A user of the dashboard, or whoever typed a verb (`edgekit.person`).
        what: In few words, always the same for the same thing: ``alert acknowledged``, ``user removed``.
        target: What it was done to, e.g. ``home.porch``.
        outcome: ``done``, or why not.
        site: Of the target; with it somebody who is bound to sites sees what was done there. Empty: none.
    """

    who: str
    what: str
    target: str
    outcome: str = DONE
    site: str = ""


class Entry(NamedTuple):
    """An act as it stands in the log; the highest number is the newest."""

    number: int
    at_ms: int
    who: str
    what: str
    target: str
    outcome: str
    site: str


def on_board(who: str, what: str, board: BoardKey, outcome: str = DONE, detail: str = "") -> Act:
    """An act on one board, or on the fleet itself (``*``)."""
    site = "" if board.site == "*" else board.site
    return Act(who, what, f"{board.site}.{board.device}{f' {detail}' if detail else ''}", outcome, site)


def write(connection: Connection, act: Act, now_ms: int | None = None) -> None:
    """Note an act in the transaction that does it.

    Args:
        connection: It may write.
        act: What.
        now_ms: UTC, ms since 1970; the host's clock if None.
    """
    values = {
        "at": int(time.time() * 1000) if now_ms is None else now_ms,
        "who": _clean(act.who, _WHO),
        "what": _clean(act.what, _WHAT),
        "target": _clean(act.target, _TEXT),
        "outcome": _clean(act.outcome, _TEXT),
        "site": act.site[:63],
    }
    connection.execute(audit.insert().values(**values))


def record(store: Store, act: Act, now_ms: int | None = None) -> None:
    """Note an act that changed nothing in the store: an answer was asked for, a board was admitted.

    Raises:
        StoreUnavailableError: The database does not answer.
    """
    with store.writing() as connection:
        write(connection, act, now_ms)


def entries(
    store: Store, *, limit: int = 100, before: int | None = None, words: str = "", sites: Collection[str] = ()
) -> list[Entry]:
    """The log, newest first.

    Args:
        store: Whose.
        limit: At most so many.
        before: Only those of a lower number: the next page.
        words: Only those in which who, what, target or outcome holds this text.
        sites: Only what was done to boards of these; empty is everything.
    """
    query = select(audit).order_by(audit.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(audit.c.id < before)
    if sites:
        query = query.where(audit.c.site.in_(sorted(sites)))
    if words:
        columns = (audit.c.who, audit.c.what, audit.c.target, audit.c.outcome)
        query = query.where(or_(*(column.icontains(words, autoescape=True) for column in columns)))
    with store.reading() as connection:
        return [
            Entry(row.id, row.at, row.who, row.what, row.target, row.outcome, row.site)
            for row in connection.execute(query)
        ]


def _clean(text: str, limit: int) -> str:
    """No control characters: a NUL is no text to PostgreSQL, and a newline would make one line of a list two."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:limit])
