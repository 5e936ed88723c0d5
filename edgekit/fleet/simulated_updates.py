"""How a simulated board takes updates, as pure state: it waits, fetches, tries, and commits or goes back."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from edgekit.fleet.rollouts.deciding import is_open
from edgekit_device.contract.desired import Desired
from edgekit_device.contract.reported import Update

KINDS = ("pi5", "pi4", "pi3")
_KEPT = 3
# A board says how far it is at most so often, as a share of the file.
_STEP = 0.25


@dataclass(frozen=True)
class Updating:
    """How boards take updates.

    Attributes:
        download_s: A download takes so long, where nothing is fetched for real and no cap says otherwise.
        trial_s: A new release is tried so long before it is committed.
        bad: Releases that do not reproduce their golden images.
        slow: Releases that pass their trial and then make four tenths of the frames.
        bad_share: Share of the boards on which those are bad or slow.
        repository: Where real bytes are fetched, such as ``http://127.0.0.1:8080/updates/``; None fetches nothing.
    """

    download_s: float = 20.0
    trial_s: float = 45.0
    bad: frozenset[str] = frozenset()
    slow: frozenset[str] = frozenset()
    bad_share: float = 1.0
    repository: str | None = None


class SimulatedUpdate:
    """One board's updates.

    Args:
        habits: How.
        release: What runs at first.
        draw: Its own random numbers.
    """

    def __init__(self, habits: Updating, release: str, draw: random.Random) -> None:
        self.habits, self.release, self._draw = habits, release, draw
        self.kind = draw.choice(KINDS)
        self.update: Update | None = None
        self._unlucky = draw.random() < habits.bad_share
        self._wish = Desired()
        self._slots = [release]
        self._rejected: dict[tuple[str, str | None], str] = {}
        self._until_s = 0.0
        self._share = 0.0

    @property
    def slow(self) -> bool:
        """Whether what runs makes fewer frames than it should."""
        return self._unlucky and self.release in self.habits.slow

    @property
    def fetching(self) -> str | None:
        """What must be fetched for real now; None if nothing."""
        real = self.habits.repository is not None and self.update is not None and self.update.state == "fetching"
        return self._wish.bundle if real else None

    @property
    def max_bytes_per_s(self) -> int | None:
        """A download is no faster."""
        return self._wish.max_bytes_per_s

    def hear(self, wish: Desired, now_s: float) -> None:
        """Take a `desired`; the same again changes nothing."""
        asked = (wish.bundle, wish.force)
        same = asked == (self._wish.bundle, self._wish.force)
        before, self._wish = self._wish, wish
        if same or wish.bundle is None:
            return
        if wish.bundle == self.release:
            # It turns back, wherever it is: what it wanted before is wanted no more.
            if before.bundle not in (None, self.release):
                self.update = Update(self.release, "committed", force=wish.force)
        elif asked in self._rejected:
            reason = f"rejected before: {self._rejected[asked]}"
            self.update = Update(wish.bundle, "refused", None, reason, "RejectedBeforeError", wish.force)
        elif wish.bundle in self._slots:
            self._try(now_s)
        else:
            self._until_s, self._share = now_s + self._draw.uniform(0, wish.jitter_s or 0.0), 0.0
            self.update = Update(wish.bundle, "waiting", None, None, None, wish.force)

    def step(self, now_s: float, wall_s: float) -> None:
        """Everything that happens up to now.

        Args:
            now_s: Monotonic.
            wall_s: The right time, since 1970; for the window.
        """
        update = self.update
        if update is None or now_s < self._until_s:
            return
        if update.state == "waiting" and is_open(self._wish.window, int(wall_s * 1000)):
            self.update = replace(update, state="fetching", progress=0.0)
            self._until_s = now_s + self.habits.download_s if self.habits.repository is None else 0.0
        elif update.state == "fetching" and self.habits.repository is None:
            self._try(now_s)
        elif update.state == "trying":
            self._end(update)

    def fetched(self, share: float) -> None:
        """So much of the file is here."""
        update = self.update
        if update is not None and update.state == "fetching" and share - self._share >= _STEP:
            self._share = share
            self.update = replace(update, progress=round(share, 2))

    def arrived(self, problem: str | None, now_s: float) -> None:
        """The fetch is over.

        Args:
            problem: Why it failed; None if the file is here and whole.
            now_s: Monotonic.
        """
        update = self.update
        if update is None or update.state != "fetching":
            return
        if problem is None:
            self._try(now_s)
        else:
            # As a board does: what could not be fetched is tried again.
            self.update, self._until_s = replace(update, state="waiting", reason=problem), now_s + 5.0

    def _try(self, now_s: float) -> None:
        wish = self._wish
        assert wish.bundle is not None
        self.update = Update(wish.bundle, "trying", None, None, None, wish.force)
        self._until_s = now_s + self.habits.trial_s

    def _end(self, update: Update) -> None:
        if self._unlucky and update.bundle in self.habits.bad:
            reason = "golden: 3 of 3 images differ by more than their tolerance"
            self._rejected[update.bundle, update.force] = reason
            self.update = replace(update, state="rolled_back", reason=reason, error="GoldenError")
            return
        self.release = update.bundle
        self._slots = [update.bundle, *(name for name in self._slots if name != update.bundle)][:_KEPT]
        self.update = replace(update, state="committed")
