"""Boards that follow a rollout, as values: they go away, fetch, try, commit, roll back, crash or slow down."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from edgekit.fleet.batch import BoardKey
from edgekit.fleet.rollouts.deciding import decide
from edgekit.fleet.rollouts.figures import Figures
from edgekit.fleet.rollouts.plan import Plan, wave_sizes
from edgekit.fleet.rollouts.state import NEW, Member, Rollout, Seen
from edgekit_device.contract.reported import Update

OLD_RELEASE, NEW_RELEASE = "lite0-1.0.0", "lite0-1.1.0"
STEP_MS = 10_000
DAWN_MS = 1_790_000_000_000
# What a board does with the new release.
GOOD, BAD, REFUSES, SLOW, CRASHES, HANGS = "good", "bad", "refuses", "slow", "crashes", "hangs"
KINDS = (GOOD, BAD, REFUSES, SLOW, CRASHES, HANGS)
BASELINE = Figures(20, 30.0, 14.0, 60.0, {"1": 600, "2": 400}, (0,) * 8 + (1000,) + (0,) * 7)


@dataclass
class Board:
    """One board. It follows the last wish it heard, and hears only while it is online."""

    number: int
    kind: str = GOOD
    online: bool = True
    release: str = OLD_RELEASE
    update: Update | None = None
    readings: int = 0
    told: list[str] = field(default_factory=list)
    heard: str | None = None
    left: int = 0

    def tell(self, wish: str) -> None:
        """A retained `desired`: the last one stands."""
        if not self.told or self.told[-1] != wish:
            self.told.append(wish)

    def step(self) -> None:
        """Ten seconds."""
        if not self.online:
            return
        wish = self.told[-1] if self.told else None
        if wish != self.heard:
            self.heard, self.left = wish, 3
            if wish == "old":
                if self.release == NEW_RELEASE or (self.update and self.update.state == "trying"):
                    self.update = Update(OLD_RELEASE, "committed")
                self.release, self.readings = OLD_RELEASE, 0
                return
        if wish != NEW or (self.update and self.update.state in ("committed", "rolled_back", "refused")):
            if self.release == NEW_RELEASE and self.kind != HANGS:
                self.readings += 1
            return
        self.left -= 1
        if self.left == 2:
            self.update = Update(NEW_RELEASE, "fetching", 0.5)
        elif self.left == 1:
            self.update = Update(NEW_RELEASE, "trying")
            if self.kind == REFUSES:
                self.update = Update(NEW_RELEASE, "refused", reason="needs a later runtime", error="RuntimeUnfitError")
        elif self.left == 0:
            if self.kind == BAD:
                self.update = Update(NEW_RELEASE, "rolled_back", reason="golden: 3 of 3 images differ")
            else:
                self.update, self.release = Update(NEW_RELEASE, "committed"), NEW_RELEASE

    def seen(self) -> Seen:
        """What rows say of it."""
        fps = 12.0 if self.kind == SLOW else 30.0
        new = replace(BASELINE, readings=self.readings, fps=fps) if self.release == NEW_RELEASE else None
        crashes = ("worker_died: signal 6",) if self.kind == CRASHES and self.release == NEW_RELEASE else ()
        return Seen(self.online, self.release, self.update, False, new, crashes)


class World:
    """A rollout on boards, driven by hand."""

    def __init__(self, boards: Iterable[Board], plan: Plan) -> None:
        self.boards = {board.number: board for board in boards}
        self.members = {n: Member(BoardKey("home", f"b{n}"), n, n) for n in self.boards}
        self.rollout = Rollout(7, NEW_RELEASE, plan, wave_sizes(plan.waves, len(self.boards)))
        self.now_ms = DAWN_MS
        self.notes: list[str] = []

    def step(self) -> None:
        """The engine looks once, then boards live ten seconds."""
        seen = {number: board.seen() for number, board in self.boards.items()}
        decision = decide(self.rollout, list(self.members.values()), seen, self.now_ms)
        self.rollout = decision.rollout
        for member in decision.changed:
            if member.told_ms == self.now_ms and member.baseline is None:
                member = replace(member, baseline=BASELINE)
            self.members[member.number] = member
            if member.wish is not None:
                self.boards[member.number].tell(member.wish)
        self.notes += decision.notes
        for board in self.boards.values():
            board.step()
        self.now_ms += STEP_MS

    def run(self, steps: int = 200) -> World:
        """Until it is over, or so many steps."""
        for _ in range(steps):
            if self.rollout.ended_ms is not None:
                break
            self.step()
        return self

    @property
    def touched(self) -> list[Board]:
        return [board for board in self.boards.values() if board.told]

    def on_new(self) -> list[int]:
        return [board.number for board in self.boards.values() if board.release == NEW_RELEASE]
