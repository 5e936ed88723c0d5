"""What people ask of rollouts: start, pause, resume, abort, pin; each one transaction, with its line in the audit log.

Nothing is told to a board here; the engine does that, in `fleet up`.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

from sqlalchemy import Connection, delete

from edgekit.errors import UsageError
from edgekit.fleet import audit, database
from edgekit.fleet.batch import BoardKey
from edgekit.fleet.rollouts import records
from edgekit.fleet.rollouts.deciding import follows_only
from edgekit.fleet.rollouts.errors import LeaseLostError, RolloutOverlapError, RolloutStateError
from edgekit.fleet.rollouts.looking import Look, Standing
from edgekit.fleet.rollouts.plan import Plan, check_plan, wave_sizes
from edgekit.fleet.rollouts.state import DONE, OLD, PAUSED, RUNNING, STOPPING, Member, Rollout, Seen
from edgekit.fleet.rollouts.where import parse_where
from edgekit.fleet.tables import boards, pins
from edgekit_device.contract.ids import split_bundle_id

if TYPE_CHECKING:
    from edgekit.fleet.store import Store


def start(
    store: Store, bundle: str, plan: Plan, by: str, *, sites: Collection[str] = (), now_ms: int | None = None
) -> Rollout:
    """Begin a rollout; boards are chosen and their order is drawn now.

    Args:
        store: Where it is kept.
        bundle: ``NAME-VERSION`` that is published.
        plan: How it goes out.
        by: Who asks.
        sites: Only boards of these; empty for all. For people who are bound to sites.
        now_ms: The host's clock.

    Raises:
        UsageError: The plan cannot be followed, or chooses no board.
        RolloutOverlapError: Another rollout has some of these boards in its hands.
    """
    split_bundle_id(bundle)
    check_plan(plan)
    choose = parse_where(plan.where)
    now_ms = int(time.time() * 1000) if now_ms is None else now_ms
    with store.writing() as connection:
        standing = Look().boards(connection)
        pinned = records.read_pins(connection)
        meant = [
            (number, board)
            for number, board in standing.items()
            if choose(board.facts()) and (not sites or board.board.site in sites)
        ]
        chosen = {n: b for n, b in meant if n not in pinned and b.release != bundle}
        if not chosen:
            raise UsageError(_nobody(plan, len(meant), bundle))
        others = _take_over(connection, chosen, standing, now_ms)
        rollout = Rollout(0, bundle, plan, wave_sizes(plan.waves, len(chosen)), by=by, started_ms=now_ms)
        rollout = replace(rollout, number=records.insert_rollout(connection, rollout))
        members = [Member(board.board, number, 0) for number, board in chosen.items()]
        members.sort(key=lambda member: _draw(rollout.number, member.board))
        records.insert_members(connection, rollout.number, (replace(m, rank=r) for r, m in enumerate(members)))
        words = f"{len(members)} boards, waves {','.join(plan.waves)}, at most {plan.max_failures} failures"
        more = f", where {plan.where}" if plan.where else ""
        after = f", takes over from rollout {', '.join(map(str, others))}" if others else ""
        _note(connection, by, "rollout started", rollout, f"{words}{more}{after}", now_ms)
    return rollout


def pause(store: Store, number: int, by: str) -> Rollout:
    """No other board is told; those on their way are judged.

    Raises:
        RolloutStateError: It is not running.
    """
    return _change(store, number, by, (RUNNING,), "paused", PAUSED)


def resume(store: Store, number: int, by: str) -> Rollout:
    """Go on.

    Raises:
        RolloutStateError: It is not paused.
    """
    return _change(store, number, by, (PAUSED,), "resumed", RUNNING)


def abort(store: Store, number: int, by: str) -> Rollout:
    """Take every board it touched back to the release it had.

    Raises:
        RolloutStateError: It is over.
    """
    return _change(store, number, by, (RUNNING, PAUSED), "aborted", STOPPING, f"aborted by {by}")


def pin(store: Store, board: BoardKey, by: str, reason: str = "", now_ms: int | None = None) -> None:
    """Let a board keep its release, whatever goes out.

    Raises:
        UsageError: There is no such board.
    """
    now_ms = int(time.time() * 1000) if now_ms is None else now_ms
    with store.writing() as connection:
        insert = database.INSERTS[connection.dialect.name]
        values = {"by": by[:80], "reason": reason[:500], "at": now_ms}
        row = insert(pins).values(board=_number(connection, board), **values)
        connection.execute(row.on_conflict_do_update(index_elements=["board"], set_=values))
        audit.write(connection, audit.on_board(by, "board pinned", board, reason or audit.DONE), now_ms)


def unpin(store: Store, board: BoardKey, by: str) -> None:
    """Let a board update again.

    Raises:
        UsageError: There is no such board, or it is not pinned.
    """
    with store.writing() as connection:
        gone = connection.execute(delete(pins).where(pins.c.board == _number(connection, board)))
        if not gone.rowcount:
            raise UsageError(f"{'.'.join(board)} is not pinned")
        audit.write(connection, audit.on_board(by, "board unpinned", board))


def find(store: Store, number: int) -> Rollout:
    """A rollout by its number.

    Raises:
        UsageError: There is none.
    """
    with store.reading() as connection:
        return _found(connection, number)


def newest(store: Store) -> Rollout:
    """The one that is open, else the last one.

    Raises:
        UsageError: There is none, or several are open.
    """
    with store.reading() as connection:
        some = records.read_rollouts(connection, only_open=True) or records.read_rollouts(connection, limit=1)
    if not some:
        raise UsageError("there is no rollout; begin one: edgekit fleet rollout start BUNDLE")
    if len(some) > 1:
        raise UsageError(f"say which rollout: {', '.join(str(each.number) for each in some)} are open")
    return some[0]


def _change(
    store: Store, number: int, by: str, allowed: tuple[str, ...], word: str, state: str, reason: str | None = None
) -> Rollout:
    with store.writing() as connection:
        rollout = _found(connection, number)
        if rollout.state not in allowed:
            remedy = f"see it: edgekit fleet rollout status {number}"
            raise RolloutStateError(number, rollout.state, word, remedy)
        changed = replace(rollout, state=state, reason=reason)
        if not records.write_rollout(connection, changed):
            # Only on PostgreSQL: the engine wrote between our reading and our writing.
            raise LeaseLostError(number)
        _note(connection, by, f"rollout {word}", changed, audit.DONE, None)
    return replace(changed, version=changed.version + 1)


def _found(connection: Connection, number: int) -> Rollout:
    rollout = records.read_rollout(connection, number)
    if rollout is None:
        raise UsageError(f"there is no rollout {number}; see: edgekit fleet rollout status")
    return rollout


def _number(connection: Connection, board: BoardKey) -> int:
    query = boards.select().where(boards.c.site == board.site, boards.c.device == board.device)
    row = connection.execute(query).first()
    if row is None:
        raise UsageError(f"there is no board {'.'.join(board)}; see: edgekit fleet top --once")
    return int(row.id)


def _nobody(plan: Plan, meant: int, bundle: str) -> str:
    if meant:
        return f"all {meant} boards that are meant run {bundle} already or are pinned"
    where = f"--where {plan.where!r} chooses no board" if plan.where else "no board was ever heard of"
    return f"{where}; see what there is: edgekit fleet top --once"


def _take_over(
    connection: Connection, chosen: dict[int, Standing], standing: dict[int, Standing], now_ms: int
) -> list[int]:
    """Boards that an earlier rollout only waits for are this one's now.

    Raises:
        RolloutOverlapError: It does more than wait.
    """
    taken = []
    for other in records.read_rollouts(connection, only_open=True):
        members = records.read_members(connection, other.number)
        shared = [m for m in members if m.number in chosen and (m.pending or m.in_flight or _goes_back(m))]
        if not shared:
            continue
        seen = {n: Seen(b.state == "online", b.release, b.update) for n, b in standing.items()}
        if not follows_only(other, members, seen):
            raise RolloutOverlapError(other.number, len(shared))
        left = [replace(m, left_out="a later rollout took it over") for m in shared]
        records.write_members(connection, other.number, left)
        # Its version grows, so that an engine in the middle of a step with it starts again.
        rest = {m.number for m in members if m.pending or m.in_flight} - chosen.keys()
        over = other.state != STOPPING and not rest
        ended = replace(other, state=DONE, ended_ms=now_ms) if over else other
        if not records.write_rollout(connection, ended):
            raise LeaseLostError(other.number)
        taken.append(other.number)
    return taken


def _goes_back(member: Member) -> bool:
    return member.wish == OLD and not member.home


def _draw(rollout: int, board: BoardKey) -> bytes:
    """A place in the order that nobody chose: the same boards must not be the canary each time."""
    return hashlib.sha256(f"{rollout}/{board.site}/{board.device}".encode()).digest()


def _note(connection: Connection, by: str, what: str, rollout: Rollout, outcome: str, now_ms: int | None) -> None:
    act = audit.Act(by, what, f"rollout {rollout.number}, {rollout.bundle}", outcome)
    audit.write(connection, act, now_ms)
