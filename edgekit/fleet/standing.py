"""Rows of which each board has one: its status, what it reports, what it sent that nobody could read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, select

from edgekit.fleet.batch import Batch, BoardKey, Standing, supersedes
from edgekit.fleet.tables import rejected, reported, statuses
from edgekit_device.contract.reported import Reported
from edgekit_device.contract.telemetry import Status


def write_statuses(connection: Connection, insert: Any, batch: Batch, ids: Mapping[BoardKey, int], now_ms: int) -> None:
    """Keep the newest status of each board; a Last Will of an earlier boot changes nothing."""
    # In one order, so that two collectors wait for one another and never in a circle.
    spoken = [(ids[item.board], item.document) for item in batch.received if isinstance(item.document, Status)]
    for number, document in sorted(spoken, key=lambda item: item[0]):
        known = connection.execute(
            select(statuses.c.boot, statuses.c.session).where(statuses.c.board == number)
        ).first()
        if not supersedes(document, Standing(*known) if known else Standing()):
            continue
        values = {
            "state": document.state,
            "boot": document.boot,
            "session": document.session,
            "bundle": document.bundle,
            "delegate": document.delegate,
            "reason": document.reason,
            "received": now_ms,
        }
        row = insert(statuses).values(board=number, **values)
        connection.execute(row.on_conflict_do_update(index_elements=["board"], set_=values))


def write_reported(connection: Connection, insert: Any, batch: Batch, ids: Mapping[BoardKey, int], now_ms: int) -> None:
    """Keep what each board reported last, as it came."""
    newest = {ids[item.board]: item.payload for item in batch.received if isinstance(item.document, Reported)}
    for number in sorted(newest):
        values = {"document": newest[number], "received": now_ms}
        row = insert(reported).values(board=number, **values)
        connection.execute(row.on_conflict_do_update(index_elements=["board"], set_=values))


def write_rejected(connection: Connection, insert: Any, batch: Batch, now_ms: int) -> None:
    """Count what breaks the contract, and keep the last of it."""
    for board, error, payload in sorted(batch.rejected, key=lambda item: item.board):
        values = {"last_error": error, "last_payload": payload, "last_received": now_ms}
        row = insert(rejected).values(board=board, count=1, **values)
        more = {**values, "count": rejected.c.count + 1}
        connection.execute(row.on_conflict_do_update(index_elements=["board"], set_=more))
