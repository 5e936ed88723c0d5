"""Alerts as rows: what stands survives a restart, what is over is history, silences outlive their alert."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, delete, or_, select, update

from edgekit.fleet import audit
from edgekit.fleet.alerts_state import Alert, AlertKey, Change
from edgekit.fleet.batch import BoardKey
from edgekit.fleet.web.tables import alerts, silences

if TYPE_CHECKING:
    from edgekit.fleet.store import Store

HISTORY_DAYS = 90
_DAY_MS = 86_400_000
_TEXT = 2000


def standing(store: Store, now_ms: int) -> dict[AlertKey, Alert]:
    """What stood when the last dashboard stopped."""
    with store.reading() as connection:
        quiet = _silences(connection, now_ms)
        rows = connection.execute(select(alerts).where(alerts.c.ended.is_(None)))
        found = [_alert(row) for row in rows]
    return {alert.key: replace(alert, silent_until_ms=quiet.get(alert.key, 0)) for alert in found}


def note(store: Store, changes: Iterable[Change], now_ms: int) -> None:
    """Write what began and what is over; forget what is long over."""
    with store.writing() as connection:
        for alert, began in changes:
            if began:
                connection.execute(alerts.insert().values(**_row(alert)))
            else:
                connection.execute(update(alerts).where(_is(alert.key)).values(ended=alert.ended_ms))
        connection.execute(delete(alerts).where(alerts.c.ended < now_ms - HISTORY_DAYS * _DAY_MS))
        connection.execute(delete(silences).where(silences.c.until < now_ms))


def acknowledge(store: Store, key: AlertKey, who: str, now_ms: int) -> bool:
    """Note that somebody knows; False if there is no such alert."""
    with store.writing() as connection:
        done = bool(connection.execute(update(alerts).where(_is(key)).values(acknowledged_by=who)).rowcount)
        if done:
            audit.write(connection, audit.on_board(who, "alert acknowledged", key.board, detail=key.kind), now_ms)
    return done


def silence(store: Store, key: AlertKey, who: str, until_ms: int, now_ms: int) -> None:
    """Send nothing about this kind of trouble of this board for a while; an end in the past lifts it."""
    where = and_(silences.c.site == key.board.site, silences.c.device == key.board.device, silences.c.kind == key.kind)
    with store.writing() as connection:
        connection.execute(delete(silences).where(where))
        if until_ms > now_ms:
            values = {**key.board._asdict(), "kind": key.kind, "until": until_ms, "by": who}
            connection.execute(silences.insert().values(**values))
        minutes = max(0, until_ms - now_ms) // 60_000
        what, detail = ("alert silenced", f" for {minutes} min") if until_ms > now_ms else ("silence lifted", "")
        audit.write(connection, audit.on_board(who, what, key.board, detail=f"{key.kind}{detail}"), now_ms)


def silenced(store: Store, now_ms: int) -> dict[AlertKey, int]:
    """Until when nothing is sent about what; UTC, ms since 1970."""
    with store.reading() as connection:
        return _silences(connection, now_ms)


def history(store: Store, limit: int = 200, board: BoardKey | None = None, since_ms: int = 0) -> list[Alert]:
    """Alerts that are over, newest first."""
    query = select(alerts).where(alerts.c.ended.is_not(None), alerts.c.ended >= since_ms)
    if board is not None:
        query = query.where(alerts.c.site == board.site, alerts.c.device == board.device)
    with store.reading() as connection:
        return [_alert(row) for row in connection.execute(query.order_by(alerts.c.ended.desc()).limit(limit))]


def of_board(store: Store, board: BoardKey, from_ms: int, to_ms: int) -> list[Alert]:
    """Alerts of a board that stood at some time of a range."""
    query = select(alerts).where(
        alerts.c.site == board.site,
        alerts.c.device == board.device,
        alerts.c.raised < to_ms,
        or_(alerts.c.ended.is_(None), alerts.c.ended >= from_ms),
    )
    with store.reading() as connection:
        return [_alert(row) for row in connection.execute(query.order_by(alerts.c.raised.desc()).limit(200))]


def _silences(connection: Any, now_ms: int) -> dict[AlertKey, int]:
    rows = connection.execute(select(silences).where(silences.c.until > now_ms))
    return {AlertKey(BoardKey(row.site, row.device), row.kind): row.until for row in rows}


def _is(key: AlertKey) -> Any:
    columns = alerts.c
    board = and_(columns.site == key.board.site, columns.device == key.board.device)
    return and_(board, columns.kind == key.kind, columns.ended.is_(None))


def _row(alert: Alert) -> dict[str, Any]:
    return {
        **alert.key.board._asdict(),
        "kind": alert.key.kind,
        "severity": alert.severity,
        "text": alert.text[:_TEXT],
        "since": alert.since_ms,
        "raised": alert.raised_ms,
        "acknowledged_by": alert.acknowledged_by,
    }


def _alert(row: Any) -> Alert:
    return Alert(
        AlertKey(BoardKey(row.site, row.device), row.kind),
        row.severity,
        row.text,
        row.since,
        raised_ms=row.raised,
        ended_ms=row.ended,
        acknowledged_by=row.acknowledged_by,
    )
