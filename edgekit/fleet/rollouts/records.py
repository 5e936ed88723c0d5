"""Rollouts as rows: read and written in the transaction of whoever asks."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, RowMapping, select, update

from edgekit.fleet.batch import BoardKey
from edgekit.fleet.rollouts.figures import Figures
from edgekit.fleet.rollouts.plan import Plan
from edgekit.fleet.rollouts.state import OPEN, Member, Rollout
from edgekit.fleet.tables import boards, pins, rollout_boards, rollouts


def read_rollout(connection: Connection, number: int) -> Rollout | None:
    """One rollout; None if there is none of this number."""
    row = connection.execute(select(rollouts).where(rollouts.c.id == number)).mappings().first()
    return _rollout(row) if row else None


def read_rollouts(connection: Connection, *, only_open: bool = False, limit: int = 100) -> list[Rollout]:
    """The newest, newest first."""
    query = select(rollouts).order_by(rollouts.c.id.desc()).limit(limit)
    if only_open:
        query = query.where(rollouts.c.state.in_(OPEN))
    return [_rollout(row) for row in connection.execute(query).mappings()]


def read_members(connection: Connection, number: int) -> list[Member]:
    """The boards of a rollout, in their order."""
    query = (
        select(boards.c.site, boards.c.device, rollout_boards)
        .join(rollout_boards, rollout_boards.c.board == boards.c.id)
        .where(rollout_boards.c.rollout == number)
        .order_by(rollout_boards.c.rank)
    )
    return [_member(row) for row in connection.execute(query).mappings()]


def read_pins(connection: Connection) -> dict[int, tuple[str, str]]:
    """Who pinned a board, and why, by the board's row id."""
    return {row.board: (row.by, row.reason) for row in connection.execute(select(pins))}


def insert_rollout(connection: Connection, rollout: Rollout) -> int:
    """Write a new one; returns its number."""
    values = {**_columns(rollout), "bundle": rollout.bundle, "by": rollout.by, "started": rollout.started_ms}
    made = connection.execute(rollouts.insert().values(**values, version=0).returning(rollouts.c.id))
    return int(made.scalar_one())


def insert_members(connection: Connection, number: int, members: Iterable[Member]) -> None:
    """Write the boards of a new one."""
    rows = [{"rollout": number, "board": member.number, **_places(member)} for member in members]
    if rows:
        connection.execute(rollout_boards.insert(), rows)


def write_rollout(connection: Connection, rollout: Rollout) -> bool:
    """Write where it stands; False, and nothing written, if somebody wrote since it was read.

    Args:
        connection: It may write.
        rollout: With the version that was read.
    """
    row = update(rollouts).where(rollouts.c.id == rollout.number, rollouts.c.version == rollout.version)
    return connection.execute(row.values(**_columns(rollout), version=rollout.version + 1)).rowcount == 1


def write_members(connection: Connection, number: int, members: Iterable[Member]) -> None:
    """Write where boards stand."""
    for member in members:
        row = update(rollout_boards).where(rollout_boards.c.rollout == number, rollout_boards.c.board == member.number)
        connection.execute(row.values(**_places(member)))


def _columns(rollout: Rollout) -> dict[str, Any]:
    document = {"plan": rollout.plan.to_json(), "sizes": list(rollout.sizes)}
    return {
        "state": rollout.state,
        "wave": rollout.wave,
        "reason": rollout.reason,
        "ended": rollout.ended_ms,
        "document": json.dumps(document, sort_keys=True).encode(),
    }


def _rollout(row: RowMapping) -> Rollout:
    document = json.loads(bytes(row["document"]))
    return Rollout(
        number=row["id"],
        bundle=row["bundle"],
        plan=Plan.from_json(document["plan"]),
        sizes=tuple(document["sizes"]),
        state=row["state"],
        wave=row["wave"],
        reason=row["reason"],
        by=row["by"],
        started_ms=row["started"],
        ended_ms=row["ended"],
        version=row["version"],
    )


def _places(member: Member) -> dict[str, Any]:
    return {
        "rank": member.rank,
        "wave": member.wave,
        "wish": member.wish,
        "verdict": member.verdict,
        "home": int(member.home),
        "left_out": member.left_out,
        "before": member.before,
        "told": member.told_ms,
        "since": member.since_ms,
        "judged": member.judged_ms,
        "reason": member.reason,
        "baseline": member.baseline.to_bytes() if member.baseline else None,
    }


def _member(row: RowMapping) -> Member:
    return Member(
        board=BoardKey(row["site"], row["device"]),
        number=row["board"],
        rank=row["rank"],
        wave=row["wave"],
        wish=row["wish"],
        verdict=row["verdict"],
        home=bool(row["home"]),
        left_out=row["left_out"],
        before=row["before"],
        baseline=Figures.from_bytes(bytes(row["baseline"])) if row["baseline"] else None,
        told_ms=row["told"],
        since_ms=row["since"],
        judged_ms=row["judged"],
        reason=row["reason"],
    )
