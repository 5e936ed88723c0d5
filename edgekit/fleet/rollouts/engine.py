"""Carries rollouts on: holds the lease, reads rows, decides, writes it in one transaction, and only then tells boards.

Whoever is killed between the commit and the telling loses nothing: `desired` is in the database, the next engine says
it again as it begins, and a collector says all of it every ten minutes.
"""

from __future__ import annotations

import secrets
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, select

from edgekit.errors import EdgeKitError
from edgekit.fleet import audit, database
from edgekit.fleet.batch import BoardKey
from edgekit.fleet.rollouts import records
from edgekit.fleet.rollouts.deciding import Decision, decide
from edgekit.fleet.rollouts.errors import LeaseLostError
from edgekit.fleet.rollouts.looking import Look, past
from edgekit.fleet.rollouts.state import NEW, OLD, Member, Rollout
from edgekit.fleet.tables import desired, holders
from edgekit_device.contract.desired import Desired
from edgekit_device.contract.errors import ContractError

if TYPE_CHECKING:
    from edgekit.fleet.store import Store

# Another engine takes over so long after this one was heard last.
HOLD_S = 15.0
EVERY_S = 2.0
NAME = "rollouts"
WHO = "rollout engine"


class Engine:
    """One step after another, on one thread.

    Args:
        store: Where rollouts are.
        say: Publishes a board's `desired`; False if there is no connection now.
        now: Seconds since 1970, the host's clock.
        owner: This engine among those of the same store.
    """

    def __init__(
        self,
        store: Store,
        say: Callable[[BoardKey, bytes], bool],
        now: Callable[[], float] = time.time,
        owner: str | None = None,
    ) -> None:
        self._store, self._say, self._now = store, say, now
        self._owner = (owner or f"{socket.gethostname()[:40]}-{secrets.token_hex(6)}")[:64]
        self._look = Look()
        self._held_until_s = 0.0
        self._unsaid: set[BoardKey] = set()
        self.problem: str | None = None

    def run(self, stop: threading.Event, every_s: float = EVERY_S) -> None:
        """Step until told to stop; a database that does not answer is asked again."""
        while not stop.is_set():
            try:
                self.step()
                self.problem = None
            except EdgeKitError as error:
                self.problem = str(error)
            stop.wait(every_s)
        self.release()

    def step(self) -> int:
        """Carry every open rollout one step on.

        Returns:
            How many moved.

        Raises:
            StoreUnavailableError: The database does not answer; nothing happened.
        """
        with self._store.reading() as connection:
            numbers = [rollout.number for rollout in records.read_rollouts(connection, only_open=True)]
        if not (numbers or self._unsaid) or not self._hold():
            return 0
        moved = 0
        for number in sorted(numbers):
            moved += self._carry_on(number)
        self._tell()
        return moved

    def release(self) -> None:
        """Let another engine begin at once."""
        try:
            with self._store.writing() as connection:
                connection.execute(holders.delete().where(holders.c.name == NAME, holders.c.owner == self._owner))
        except EdgeKitError:
            pass  # It runs out by itself.
        self._held_until_s = 0.0

    def _carry_on(self, number: int) -> bool:
        now_ms = int(self._now() * 1000)
        with self._store.reading() as connection:
            rollout = records.read_rollout(connection, number)
            if rollout is None:
                return False
            members = records.read_members(connection, number)
            standing = self._look.boards(connection)
            seen = self._look.seen(connection, rollout, members, standing)
            decision = decide(rollout, members, seen, now_ms)
            decision = decision._replace(changed=tuple(_measured(connection, m, now_ms) for m in decision.changed))
        if decision.rollout == rollout and not decision.changed:
            return False
        before = {member.number: member.wish for member in members}
        told = [member for member in decision.changed if member.wish != before[member.number]]
        try:
            self._write(decision, told, now_ms)
        except LeaseLostError:
            return False
        self._unsaid |= {member.board for member in told}
        return True

    def _write(self, decision: Decision, told: list[Member], now_ms: int) -> None:
        """Everything that was decided, or nothing."""
        rollout = decision.rollout
        with self._store.writing() as connection:
            self._fence(connection, rollout.number, now_ms)
            if not records.write_rollout(connection, rollout):
                raise LeaseLostError(rollout.number)
            records.write_members(connection, rollout.number, decision.changed)
            for member in told:
                write_desired(connection, self._insert(connection), rollout, member, now_ms)
                what = "board told to update" if member.wish == NEW else "board told to go back"
                words = f"to {rollout.bundle if member.wish == NEW else member.before}, rollout {rollout.number}"
                reason = audit.DONE if member.reason is None else member.reason
                audit.write(connection, audit.on_board(WHO, what, member.board, reason, words), now_ms)
            for note in decision.notes:
                act = audit.Act(WHO, "rollout went on", f"rollout {rollout.number}, {rollout.bundle}", note)
                audit.write(connection, act, now_ms)

    def _tell(self) -> None:
        """Publish what is written, read again: what another engine wrote meanwhile counts, not what we remember."""
        if not self._unsaid:
            return
        documents = self._store.desired()
        for board in sorted(self._unsaid):
            if board not in documents or self._say(board, documents[board]):
                self._unsaid.discard(board)

    def _hold(self) -> bool:
        """Take the lease, or keep it; a new holder says again what boards in flight should hear."""
        if self._now() < self._held_until_s - HOLD_S / 2:
            return True
        now_ms = int(self._now() * 1000)
        values = {"owner": self._owner, "until": now_ms + int(HOLD_S * 1000)}
        with self._store.writing() as connection:
            known = connection.execute(select(holders.c.owner).where(holders.c.name == NAME)).scalar()
            taken = (
                self._insert(connection)(holders)
                .values(name=NAME, **values)
                .on_conflict_do_update(
                    index_elements=["name"],
                    set_=values,
                    where=(holders.c.owner == self._owner) | (holders.c.until <= now_ms),
                )
                .returning(holders.c.owner)
            )
            if connection.execute(taken).first() is None:
                self._held_until_s = 0.0
                return False
            if known != self._owner or not self._held_until_s:
                self._unsaid |= _waiting(connection)
        self._held_until_s = now_ms / 1000 + HOLD_S
        return True

    def _fence(self, connection: Connection, number: int, now_ms: int) -> None:
        """Whoever lost the lease writes nothing, however long it slept."""
        row = holders.update().where(holders.c.name == NAME, holders.c.owner == self._owner, holders.c.until > now_ms)
        if connection.execute(row.values(until=now_ms + int(HOLD_S * 1000))).rowcount != 1:
            self._held_until_s = 0.0
            raise LeaseLostError(number)
        self._held_until_s = now_ms / 1000 + HOLD_S

    def _insert(self, connection: Connection) -> Any:
        return database.INSERTS[connection.dialect.name]


def write_desired(connection: Connection, insert: Any, rollout: Rollout, member: Member, now_ms: int) -> None:
    """What a board should run, in the document that may hold other wishes."""
    document = connection.execute(select(desired.c.document).where(desired.c.board == member.number)).scalar()
    wanted = wish(_known(bytes(document)) if document else Desired(), rollout, member)
    values = {"document": wanted.to_bytes(), "changed": now_ms}
    row = insert(desired).values(board=member.number, **values)
    connection.execute(row.on_conflict_do_update(index_elements=["board"], set_=values))


def wish(known: Desired, rollout: Rollout, member: Member) -> Desired:
    """A board's `desired` after it is told.

    Args:
        known: What it should do so far; what is not of updates stays.
        rollout: Which release goes out.
        member: With its new wish.
    """
    plan = rollout.plan
    if member.wish == OLD:
        # The way back waits for no window and for nobody's turn.
        return replace(known, bundle=member.before, force=None, max_bytes_per_s=None, jitter_s=None, window=None)
    return replace(
        known,
        bundle=rollout.bundle,
        force=rollout.force,
        max_bytes_per_s=plan.max_bytes_per_s,
        jitter_s=plan.jitter_s or None,
        window=plan.window,
    )


def _known(document: bytes) -> Desired:
    try:
        return Desired.from_bytes(document)
    except ContractError:
        return Desired()


def _measured(connection: Connection, member: Member, now_ms: int) -> Member:
    if member.told_ms != now_ms or member.wish != NEW or member.before is None:
        return member
    return replace(member, baseline=past(connection, member.number, member.before, now_ms))


def _waiting(connection: Connection) -> set[BoardKey]:
    """Boards that may not have heard their last wish."""
    found: set[BoardKey] = set()
    for rollout in records.read_rollouts(connection, only_open=True):
        members = records.read_members(connection, rollout.number)
        found |= {m.board for m in members if m.in_flight or (m.wish == OLD and not m.home)}
    return found
