"""A rollout and its boards as values; the rows in the database say the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from edgekit.fleet.batch import BoardKey
from edgekit.fleet.rollouts.figures import Figures
from edgekit.fleet.rollouts.plan import Plan
from edgekit_device.contract.reported import Update

RUNNING, PAUSED, STOPPING, STOPPED, DONE = "running", "paused", "stopping", "stopped", "done"
OPEN = (RUNNING, PAUSED, STOPPING)
# What a board was told last: nothing, the new release, the one it had before. It never goes back in this order.
NEW, OLD = "new", "old"
# Silent: it was told and has not got so far in time. It counts as failed, and not as a report.
GOOD, FAILED, SILENT = "good", "failed", "silent"


@dataclass(frozen=True)
class Rollout:
    """One release on its way.

    Attributes:
        number: Row id.
        bundle: ``NAME-VERSION``.
        sizes: Boards that may have been touched by the end of each wave.
        wave: Which wave it is in, from 0.
        reason: Why it stopped or was paused.
        by: Who began it.
        version: Grows with each write; who writes on another version than was read writes nothing.
    """

    number: int
    bundle: str
    plan: Plan
    sizes: tuple[int, ...]
    state: str = RUNNING
    wave: int = 0
    reason: str | None = None
    by: str = ""
    started_ms: int = 0
    ended_ms: int | None = None
    version: int = 0

    @property
    def allowed(self) -> int:
        """Boards that may have been touched in the wave it is in."""
        return self.sizes[self.wave]

    @property
    def last(self) -> bool:
        """Whether it is in its last wave."""
        return self.wave == len(self.sizes) - 1

    @property
    def force(self) -> str | None:
        """The word that makes boards try again what they rejected."""
        return f"rollout-{self.number}" if self.plan.force else None


@dataclass(frozen=True)
class Member:
    """A board of a rollout.

    Attributes:
        number: The board's row id.
        rank: Its place in the order, which is drawn when the rollout begins.
        wish: NEW or OLD once it was told; None before.
        verdict: GOOD, FAILED or SILENT; None before.
        home: Whether it runs the release from before again, after it was told so.
        left_out: Why it is never told; None if it may be.
        before: The release it ran when it was told.
        baseline: How that did on it.
        told_ms: When it was told to update; the host's clock.
        since_ms: When the host first saw the new release committed on it.
    """

    board: BoardKey
    number: int
    rank: int
    wave: int | None = None
    wish: str | None = None
    verdict: str | None = None
    home: bool = False
    left_out: str | None = None
    before: str | None = None
    baseline: Figures | None = None
    told_ms: int | None = None
    since_ms: int | None = None
    judged_ms: int | None = None
    reason: str | None = None

    @property
    def touched(self) -> bool:
        """Whether it was told anything."""
        return self.wish is not None

    @property
    def pending(self) -> bool:
        """Whether it may still be told."""
        return self.wish is None and self.left_out is None

    @property
    def in_flight(self) -> bool:
        """Whether it was told to update and is not judged."""
        return self.wish == NEW and self.verdict is None

    @property
    def word(self) -> str:
        """Where it stands, for people."""
        if self.left_out is not None:
            return "left out"
        if self.wish is None:
            return "pending"
        if self.wish == NEW:
            return "updating" if self.verdict is None else "updated"
        if not self.home:
            return "going back"
        return "failed" if self.verdict in (FAILED, SILENT) else "went back"


class Seen(NamedTuple):
    """What rows say of a board now.

    Attributes:
        online: Whether its status says so.
        release: What runs on it, as it reported.
        update: How far it is with what it was told.
        pinned: Whether somebody keeps its release.
        new: The new release on it since it committed it; only of boards in flight.
        crashes: Of the new release since then, in words.
    """

    online: bool = False
    release: str | None = None
    update: Update | None = None
    pinned: bool = False
    new: Figures | None = None
    crashes: tuple[str, ...] = ()


UNKNOWN = Seen()
