"""What follows from where a rollout stands, what its boards report and what time it is. Pure: no clock, no database.

What holds whatever boards do: no more boards are touched than the wave allows; a board is told the new release once
and the old one once, in this order; in a paused or stopping rollout no board is told the new one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from edgekit.fleet.rollouts.figures import complaints
from edgekit.fleet.rollouts.plan import Plan, too_many
from edgekit.fleet.rollouts.state import (
    DONE,
    FAILED,
    GOOD,
    NEW,
    OLD,
    OPEN,
    PAUSED,
    RUNNING,
    SILENT,
    STOPPED,
    STOPPING,
    UNKNOWN,
    Member,
    Rollout,
    Seen,
)

# Boards that are told in one step, so that a step stays short on ten thousand boards.
AT_ONCE = 250
_DAY_MS = 86_400_000
_MINUTE_MS = 60_000
_REASON = 500
# States of an update in which a board may still commit it.
BUSY = ("verifying", "trying")


class Decision(NamedTuple):
    """What to write, and then to say.

    Attributes:
        rollout: As it stands now.
        changed: Boards that stand elsewhere than before.
        notes: What happened, for the audit log.
    """

    rollout: Rollout
    changed: tuple[Member, ...]
    notes: tuple[str, ...]


def decide(rollout: Rollout, members: Sequence[Member], seen: Mapping[int, Seen], now_ms: int) -> Decision:
    """One step.

    Args:
        rollout: As it was written last.
        members: Its boards, likewise.
        seen: What is known of them, by row id.
        now_ms: The host's clock; UTC, ms since 1970.
    """
    if rollout.state not in OPEN:
        return Decision(rollout, (), ())
    step = _Step(rollout, members, seen, now_ms)
    step.judge()
    if rollout.state in (RUNNING, PAUSED):
        step.stop_if_too_many_failed()
    if step.rollout.state == RUNNING:
        step.advance()
        step.tell()
        step.end_if_over()
    if step.rollout.state == STOPPING:
        step.take_back()
        step.end_if_all_are_back()
    return step.decision()


def open_ms(window: tuple[str, str] | None, begin_ms: int, end_ms: int) -> int:
    """How much of a span lies inside a window of each day.

    Args:
        window: Two times of day, UTC; it may span midnight. None is always.
        begin_ms: UTC, ms since 1970.
        end_ms: Not before it.
    """
    if window is None:
        return max(0, end_ms - begin_ms)
    opens, shuts = (_time_of_day_ms(text) for text in window)
    length = (shuts - opens) % _DAY_MS
    inside = 0
    # The day before, too: its window may reach over midnight into the span.
    for day in range(begin_ms // _DAY_MS - 1, end_ms // _DAY_MS + 1):
        opened = day * _DAY_MS + opens
        inside += max(0, min(end_ms, opened + length) - max(begin_ms, opened))
    return inside


def is_open(window: tuple[str, str] | None, now_ms: int) -> bool:
    """Whether boards may be told now."""
    return open_ms(window, now_ms, now_ms + 1) > 0


def follows_only(rollout: Rollout, members: Sequence[Member], seen: Mapping[int, Seen]) -> bool:
    """Whether nothing is left to do but to wait for boards that are away."""
    if rollout.state == STOPPING:
        return True
    waiting = any(m.pending and seen.get(m.number, UNKNOWN).online for m in members)
    return rollout.state in OPEN and not waiting and not any(m.in_flight for m in members)


class _Step:
    """The parts of one decision; each reads what the one before it wrote."""

    def __init__(self, rollout: Rollout, members: Sequence[Member], seen: Mapping[int, Seen], now_ms: int) -> None:
        self.rollout = rollout
        self._before = {member.number: member for member in members}
        self._members = dict(self._before)
        self._seen, self._now_ms = seen, now_ms
        self._notes: list[str] = []

    def judge(self) -> None:
        """Give boards that were told a verdict, take back those that failed, see who is back and who needs nothing."""
        for number, member in self._members.items():
            seen = self._seen.get(number, UNKNOWN)
            if member.in_flight and self.rollout.state != STOPPING:
                self._members[number] = _judged(self.rollout, member, seen, self._now_ms)
            elif member.wish == OLD and not member.home and _is_back(self.rollout, member, seen):
                self._members[number] = replace(member, home=True)
            elif member.pending and seen.pinned:
                self._members[number] = replace(member, left_out="pinned")
            elif member.pending and seen.release == self.rollout.bundle:
                self._members[number] = replace(member, left_out="runs it already")

    def stop_if_too_many_failed(self) -> None:
        """The tolerance is crossed: nobody else is told, everybody goes back."""
        failed = [m for m in self._members.values() if m.verdict in (FAILED, SILENT)]
        touched = sum(m.touched for m in self._members.values())
        if not failed or not too_many(self.rollout.plan.max_failures, len(failed), touched):
            return
        first = min(failed, key=lambda m: (m.judged_ms or 0, m.rank))
        reason = (
            f"{len(failed)} of {touched} boards failed, more than {self.rollout.plan.max_failures}; "
            f"{'.'.join(first.board)}: {first.reason}"
        )[:_REASON]
        self.rollout = replace(self.rollout, state=STOPPING, reason=reason)
        self._notes.append(f"stopped by itself: {reason}")

    def advance(self) -> None:
        """Go to the next wave when this one is over and somebody waits for it.

        Boards that are away hold nobody up, and never make waves end before they are full: when many come back at
        once they are told in waves as well.
        """
        while not self.rollout.last and self._room() <= 0 and self._wave_is_good() and self._ready():
            good = sum(m.verdict == GOOD for m in self._members.values())
            self.rollout = replace(self.rollout, wave=self.rollout.wave + 1)
            self._notes.append(
                f"wave {self.rollout.wave + 1} of {len(self.rollout.sizes)}: up to {self.rollout.allowed} boards, "
                f"{good} are good so far"
            )

    def tell(self) -> None:
        """Tell the next boards, as many as the wave allows."""
        if not is_open(self.rollout.plan.window, self._now_ms):
            return
        for member in self._ready()[: max(0, min(self._room(), AT_ONCE))]:
            seen = self._seen[member.number]
            self._members[member.number] = replace(
                member, wish=NEW, wave=self.rollout.wave, before=seen.release, told_ms=self._now_ms
            )

    def end_if_over(self) -> None:
        """Nothing is left to tell, nobody is in flight, and whoever can be heard is back."""
        members = self._members.values()
        full = self.rollout.last and self._room() <= 0
        if any(m.in_flight or (m.pending and not full) or self._is_going_back(m) for m in members):
            return
        good = sum(m.verdict == GOOD for m in members)
        self.rollout = replace(self.rollout, state=DONE, ended_ms=self._now_ms)
        self._notes.append(f"done: {good} of {len(members)} boards run {self.rollout.bundle}")

    def take_back(self) -> None:
        """Everybody who was told the new release is told the one before."""
        for number, member in self._members.items():
            if member.wish == NEW:
                # Whether it is home is for a later step to see: then it has been told for certain.
                self._members[number] = replace(member, wish=OLD)

    def end_if_all_are_back(self) -> None:
        """The end of a rollout that stopped."""
        touched = [m for m in self._members.values() if m.touched]
        if all(m.home or m.left_out for m in touched):
            self.rollout = replace(self.rollout, state=STOPPED, ended_ms=self._now_ms)
            self._notes.append(f"all {len(touched)} boards it touched run the release from before")

    def decision(self) -> Decision:
        """What came of it."""
        changed = [member for number, member in self._members.items() if member != self._before[number]]
        return Decision(self.rollout, tuple(changed), tuple(self._notes))

    def _room(self) -> int:
        return self.rollout.allowed - sum(m.touched for m in self._members.values())

    def _wave_is_good(self) -> bool:
        """Whether everybody told is judged, and enough boards of this wave reported."""
        members = self._members.values()
        if any(m.in_flight for m in members):
            return False
        wave = [m for m in members if m.touched and m.wave == self.rollout.wave]
        reports = sum(m.verdict in (GOOD, FAILED) for m in wave)
        return reports >= min(self.rollout.plan.min_reports, len(wave))

    def _ready(self) -> list[Member]:
        """Boards that can be told now, in their order."""
        return sorted((m for m in self._members.values() if m.pending and self._can_be_told(m)), key=lambda m: m.rank)

    def _can_be_told(self, member: Member) -> bool:
        seen = self._seen.get(member.number, UNKNOWN)
        # What runs on it must be known: there would be no way back.
        return seen.online and seen.release is not None

    def _is_going_back(self, member: Member) -> bool:
        away = not self._seen.get(member.number, UNKNOWN).online
        return member.wish == OLD and not (member.home or member.left_out or away)


def _judged(rollout: Rollout, member: Member, seen: Seen, now_ms: int) -> Member:
    """A board in flight after a look at what it reports."""
    update = seen.update if seen.update is not None and seen.update.bundle == rollout.bundle else None
    answers = update is not None and update.force == rollout.force
    if update is not None and answers and update.state in ("rolled_back", "refused"):
        named = f"{update.error}: " if update.error else ""
        return _failed(member, FAILED, f"{named}{update.reason or update.state.replace('_', ' ')}", now_ms)
    committed = seen.release == rollout.bundle and (update is None or update.state == "committed")
    if committed and member.since_ms is None:
        return replace(member, since_ms=now_ms)
    if committed and seen.crashes:
        return _failed(member, FAILED, f"crashed: {'; '.join(seen.crashes)}", now_ms)
    if committed and seen.new is not None and seen.new.readings >= rollout.plan.readings:
        against = complaints(member.baseline, seen.new, rollout.plan.limits)
        if against:
            return _failed(member, FAILED, "; ".join(against), now_ms)
        return replace(member, verdict=GOOD, judged_ms=now_ms, reason=None)
    if _overdue(rollout.plan, member, now_ms):
        return _failed(member, SILENT, _how_far(rollout, seen), now_ms)
    return member


def _failed(member: Member, verdict: str, reason: str, now_ms: int) -> Member:
    return replace(member, verdict=verdict, reason=reason[:_REASON], judged_ms=now_ms, wish=OLD)


def _is_back(rollout: Rollout, member: Member, seen: Seen) -> bool:
    """Whether it runs the release from before, and is not trying the new one.

    One that fetches hears the old wish before it could try: `desired` is retained, and the last one stands.
    """
    if seen.release is None or seen.release != member.before:
        return False
    return seen.update is None or seen.update.bundle != rollout.bundle or seen.update.state not in BUSY


def _overdue(plan: Plan, member: Member, now_ms: int) -> bool:
    if member.told_ms is None:
        return False
    return open_ms(plan.window, member.told_ms, now_ms) > (plan.board_timeout_s + plan.jitter_s) * 1000


def _how_far(rollout: Rollout, seen: Seen) -> str:
    limit = f"within {rollout.plan.board_timeout_s:g} s"
    if seen.release == rollout.bundle:
        sent = seen.new.readings if seen.new else 0
        return f"it sent {sent} of {rollout.plan.readings} Readings of the new release {limit}"
    if not seen.online:
        return f"it went away and did not come back {limit}"
    if seen.update is None or seen.update.bundle != rollout.bundle:
        return f"it did not begin {limit}"
    more = f" ({seen.update.reason})" if seen.update.reason else ""
    return f"it is {seen.update.state} and did not end {limit}{more}"


def _time_of_day_ms(text: str) -> int:
    hours, _, minutes = text.partition(":")
    return (int(hours) * 60 + int(minutes)) * _MINUTE_MS
