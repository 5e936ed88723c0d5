"""A rollout as people and programs want to see it: where it stands, in counts, words and one line a board."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgekit.fleet.rollouts import records
from edgekit.fleet.rollouts.deciding import follows_only, is_open
from edgekit.fleet.rollouts.looking import Look, Standing
from edgekit.fleet.rollouts.state import OPEN, PAUSED, RUNNING, STOPPING, Member, Rollout, Seen

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from edgekit.fleet.store import Store

WORDS = ("pending", "updating", "updated", "going back", "went back", "failed", "left out")


@dataclass(frozen=True)
class Line:
    """One board of a rollout, for a list.

    Attributes:
        word: One of WORDS.
        progress: Share of the download that is here.
        text: Why, or how far; may quote the board.
    """

    member: Member
    word: str
    online: bool
    release: str | None
    progress: float | None
    text: str


@dataclass(frozen=True)
class Picture:
    """One rollout at one moment.

    Attributes:
        counts: Boards by word.
        phase: Where it stands, in one sentence.
        lines: Boards: what went wrong first, then what moves, then the rest in their order.
        away: Boards that are pending or on their way, and offline.
    """

    rollout: Rollout
    counts: Mapping[str, int]
    phase: str
    lines: Sequence[Line]
    away: int

    @property
    def boards(self) -> int:
        """How many it is about."""
        return len(self.lines)

    @property
    def touched(self) -> int:
        """How many were told anything."""
        return sum(line.member.touched for line in self.lines)

    def to_json(self) -> dict[str, Any]:
        """For --json and the API."""
        rollout = self.rollout
        return {
            "rollout": rollout.number,
            "bundle": rollout.bundle,
            "state": rollout.state,
            "phase": self.phase,
            "reason": rollout.reason,
            "by": rollout.by,
            "started_ms": rollout.started_ms,
            "ended_ms": rollout.ended_ms,
            "wave": rollout.wave + 1,
            "waves": [
                {"wave": text, "boards": size} for text, size in zip(rollout.plan.waves, rollout.sizes, strict=True)
            ],
            "plan": rollout.plan.to_json(),
            "boards": self.boards,
            "touched": self.touched,
            "counts": dict(self.counts),
            "members": [
                {
                    "site": line.member.board.site,
                    "device": line.member.board.device,
                    "state": line.word,
                    "online": line.online,
                    "release": line.release,
                    "before": line.member.before,
                    "wave": None if line.member.wave is None else line.member.wave + 1,
                    "progress": line.progress,
                    "reason": line.text or None,
                }
                for line in self.lines
            ],
        }


def look(store: Store, number: int, now_ms: int, may_see: Callable[[str], bool] = lambda site: True) -> Picture | None:
    """One rollout; None if there is none of this number.

    Args:
        store: Where it is.
        number: Which.
        now_ms: The host's clock.
        may_see: Whether boards of a site may be shown.
    """
    with store.reading() as connection:
        rollout = records.read_rollout(connection, number)
        if rollout is None:
            return None
        return picture(connection, rollout, Look().boards(connection), now_ms, may_see)


def overview(
    store: Store, now_ms: int, may_see: Callable[[str], bool] = lambda site: True, limit: int = 50
) -> list[Picture]:
    """The newest rollouts, open ones first; those of which nothing may be seen are left out."""
    with store.reading() as connection:
        standing = Look().boards(connection)
        some = records.read_rollouts(connection, limit=limit)
        found = [picture(connection, each, standing, now_ms, may_see) for each in some]
    shown = [each for each in found if each.lines]
    return sorted(shown, key=lambda each: (each.rollout.state not in OPEN, -each.rollout.number))


def picture(
    connection: Connection,
    rollout: Rollout,
    standing: Mapping[int, Standing],
    now_ms: int,
    may_see: Callable[[str], bool] = lambda site: True,
) -> Picture:
    """One rollout as rows say it stands."""
    members = records.read_members(connection, rollout.number)
    seen = {n: Seen(b.state == "online", b.release, b.update) for n, b in standing.items()}
    lines = [_line(rollout, member, standing.get(member.number)) for member in members if may_see(member.board.site)]
    order = {"failed": 0, "going back": 1, "updating": 2, "went back": 3, "updated": 4, "pending": 5, "left out": 6}
    lines.sort(key=lambda line: (order[line.word], line.member.rank))
    counts = Counter(line.word for line in lines)
    away = sum(not line.online for line in lines if line.word in ("pending", "updating", "going back"))
    only = follows_only(rollout, members, seen)
    return Picture(rollout, {word: counts[word] for word in WORDS}, _phase(rollout, counts, only, now_ms), lines, away)


def _line(rollout: Rollout, member: Member, board: Standing | None) -> Line:
    update = board.update if board and board.update and board.update.bundle == rollout.bundle else None
    progress, text = None, member.reason or member.left_out or ""
    if member.in_flight and update is not None:
        progress = update.progress if update.state == "fetching" else None
        text = update.state.replace("_", " ") + (f": {update.reason}" if update.reason else "")
    if member.in_flight and member.since_ms is not None:
        text = "committed; its Readings are being judged"
    online = bool(board and board.state == "online")
    return Line(member, member.word, online, board.release if board else None, progress, text)


def _phase(rollout: Rollout, counts: Mapping[str, int], only_follows: bool, now_ms: int) -> str:
    wave = f"wave {rollout.wave + 1} of {len(rollout.sizes)}"
    updating = counts["updating"]
    if rollout.state == RUNNING:
        if only_follows:
            return f"running, {wave}; waits for {counts['pending'] + counts['going back']} boards that are away"
        if not is_open(rollout.plan.window, now_ms):
            begin, end = rollout.plan.window or ("", "")
            return f"running, {wave}; waits for the maintenance window, {begin} to {end} UTC"
        return f"running, {wave}; {updating} board{'s are' if updating != 1 else ' is'} updating"
    if rollout.state == PAUSED:
        return f"paused in {wave}; no other board is told"
    if rollout.state == STOPPING:
        return f"stopping; {counts['going back']} boards are going back"
    if rollout.state == "stopped":
        return "stopped; every board it touched runs the release it had before"
    return f"done; {counts['updated']} boards run {rollout.bundle}"


def in_words(shown: Picture, plain: Callable[[object], str], most: int = 20) -> list[str]:
    """For a terminal of 80 columns.

    Args:
        shown: What.
        plain: Takes control characters out of what boards said.
        most: Boards that are listed.
    """
    rollout = shown.rollout
    found = [f"rollout {rollout.number}  {rollout.bundle}  {shown.phase}"]
    if rollout.reason:
        found.append(f"  {plain(rollout.reason)}")
    found.append("  " + ", ".join(f"{count} {word}" for word, count in shown.counts.items() if count))
    sizes = zip(rollout.plan.waves, rollout.sizes, strict=True)
    marks = (f"[{text}: {size}]" if n == rollout.wave else f"{text}: {size}" for n, (text, size) in enumerate(sizes))
    found.append(f"  waves  {'  '.join(marks)}  (boards, cumulative)")
    told = [line for line in shown.lines if line.word not in ("pending", "left out", "updated")]
    for line in told[:most]:
        name = f"{line.member.board.site}.{line.member.board.device}"
        share = "" if line.progress is None else f" {100 * line.progress:.0f} %"
        away = "" if line.online else " (offline)"
        found.append(f"  {line.word:<10} {name:<26} {plain(line.text)[:120]}{share}{away}".rstrip())
    if len(told) > most:
        found.append(f"  and {len(told) - most} more; all of them: --json")
    return found
