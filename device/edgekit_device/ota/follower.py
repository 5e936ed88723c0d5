"""Follows what `desired` asks for: when to fetch, what to make of what came, and how far it is, for `reported`.

Each wish, a release and a word of force, is carried out once; what a hand changes afterwards is left. The fetching is a
child's work (`errand`), the trial is the slots' (`updates`); this decides between them and never waits.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from edgekit_device.contract.errors import EdgeKitError
from edgekit_device.contract.reported import Update
from edgekit_device.ota.depot import STATE, unprepared
from edgekit_device.ota.errands import ErrandProcess
from edgekit_device.ota.memory import Memory, keep_memory, read_memory
from edgekit_device.trusted_time import BUILD_S

if TYPE_CHECKING:
    from edgekit_device.contract.desired import Desired, Window

_LOOK_S = 1.0
# After trouble that passes; after a refusal that somebody may be behind.
_AGAIN_S = (15.0, 3600.0)
_SUSPECT_S = (300.0, 6 * 3600.0)
_STEP = 0.05
PENDING, COMMITTED, REJECTED = "pending", "committed", "rejected"


class Standing(NamedTuple):
    """How a release stands on this board.

    Attributes:
        state: ``pending``, ``committed`` or ``rejected``.
        reason: Why it was rejected.
        current: It is the one that the board is to serve.
        serving: It serves already.
        held: It lies on the board, whole.
    """

    state: str = PENDING
    reason: str | None = None
    current: bool = False
    serving: bool = False
    held: bool = False


class Goal(Protocol):
    """A kind of release that can be followed."""

    kind: str

    def wanted(self, desired: Desired) -> str | None:
        """What is asked for."""

    def standing(self, name: str) -> Standing:
        """How it stands here; read from the disk.

        Raises:
            EdgeKitError: It cannot be read now.
            OSError: The same.
        """


class Follower:
    """Follows one kind of release; times are monotonic and given.

    Args:
        goal: Which kind.
        root: Folder that stands for the board's ``/``.
        url: Of the repository; None where there is none.
        event: Sends an event: kind, reason.
        start: Starts an errand.
    """

    def __init__(
        self,
        goal: Goal,
        root: Path,
        url: str | None,
        event: Callable[[str, str], None],
        start: Callable[[dict[str, Any]], ErrandProcess] = ErrandProcess,
    ) -> None:
        self._goal, self._root, self._url, self._event, self._start = goal, root, url, event, start
        self._place = root / STATE / f"{goal.kind}.json"
        self._memory = read_memory(self._place)
        self._desired: Desired | None = None
        self._errand: ErrandProcess | None = None
        self._due_s = self._look_s = 0.0
        self._failures = 0
        self._told: str | None = None
        self.update: Update | None = None

    def hear(self, desired: Desired, now_s: float) -> None:
        """Take what is asked for now; only the newest counts."""
        before, self._desired = self._desired, desired
        name = self._goal.wanted(desired)
        if before is not None and (self._goal.wanted(before), before.force) == (name, desired.force):
            return
        self._drop()
        self._failures, self._told, self.update = 0, None, None
        self._due_s = now_s + random.uniform(0.0, desired.jitter_s or 0.0)  # noqa: S311 - spreads load
        self._look_s = 0.0
        if name is not None and (self._memory.name, self._memory.force) != (name, desired.force):
            self._memory = Memory(name, desired.force)

    def tick(self, now_s: float) -> None:
        """Go on; called all the time."""
        name = self._goal.wanted(self._desired) if self._desired else None
        if name is None or self._desired is None:
            return
        if self._errand is not None:
            self._hear_errand(name, now_s)
            return
        if now_s < self._look_s:
            return
        self._look_s = now_s + _LOOK_S
        if self._memory.ended:
            self._show(self._memory.state, reason=self._memory.reason, error=self._memory.error)
            return
        try:
            standing = self._goal.standing(name)
        except (EdgeKitError, OSError) as trouble:
            self._show("waiting", reason=str(trouble), error=type(trouble).__name__)
            return
        self._step(name, standing, now_s)

    @property
    def busy(self) -> bool:
        """Whether what is asked for is neither here nor refused: another kind had better wait for it."""
        return self.update is not None and self.update.state in ("waiting", "fetching", "verifying", "trying")

    @property
    def fetches(self) -> bool:
        """Whether an errand is under way."""
        return self._errand is not None

    def close(self) -> None:
        """The service stops: what was fetched so far stays."""
        self._drop()

    def _step(self, name: str, standing: Standing, now_s: float) -> None:
        if standing.current:
            if standing.state == COMMITTED and standing.serving:
                self._finish("committed")
            else:
                self._show("trying", progress=1.0)
            return
        entered = self._memory.state == "entered"
        if standing.state == REJECTED and (entered or self._memory.force is None):
            self._finish("rolled_back", standing.reason or "it was rejected", "RejectedReleaseError")
        elif entered and not standing.held:
            self._finish("rolled_back", "it was entered and has been taken away again")
        elif entered:
            # Its switch was taken back by a hand, or by a trial whose verdict the disk did not take.
            self._finish("rolled_back", "another release was made current by hand")
        else:
            self._begin(name, standing, now_s)

    def _begin(self, name: str, standing: Standing, now_s: float) -> None:
        desired = self._desired
        if desired is None:
            return
        closed = closed_until(desired.window, time.time())
        if closed:
            self._show("waiting", reason=closed)
            return
        if now_s < self._due_s:
            if self.update is None:
                self._show("waiting", reason="its turn has not come yet")
            return
        order: dict[str, Any] = {"kind": self._goal.kind, "root": str(self._root), "name": name}
        if standing.held and standing.state == COMMITTED:
            order["held"] = True
        else:
            why = unprepared(self._root, self._url)
            if why:
                self._show("refused", reason=why, error="NotPreparedError")
                return
        limits = {} if desired.max_bytes_per_s is None else {"max_bytes_per_s": desired.max_bytes_per_s}
        order |= {"url": self._url, "force": desired.force is not None, "limits": limits}
        try:
            self._errand = self._start(order)
        except OSError as trouble:
            self._again(_AGAIN_S, now_s)
            self._show("waiting", reason=str(trouble), error=type(trouble).__name__)
            return
        self._show("fetching", progress=0.0)

    def _hear_errand(self, name: str, now_s: float) -> None:
        errand = self._errand
        for words in errand.heard() if errand else ():
            if words.get("end") == "entered":
                self._drop()
                self._memory = Memory(name, self._memory.force, "entered")
                keep_memory(self._place, self._memory)
                self._show("trying", progress=1.0)
                self._look_s = 0.0
            elif "end" in words:
                self._drop()
                self._refused(words, now_s)
            else:
                self._show(str(words.get("state")), progress=words.get("progress"))

    def _refused(self, words: dict[str, Any], now_s: float) -> None:
        error, reason = str(words.get("error")), str(words.get("reason"))
        if words.get("passing"):
            self._again(_AGAIN_S, now_s)
            self._say("waiting", error, reason)
        elif words.get("suspect"):
            self._again(_SUSPECT_S, now_s)
            self._say("refused", error, reason)
        elif error in ("RejectedReleaseError", "RejectedRuntimeError"):
            self._finish("rolled_back", reason, error)
        else:
            self._finish("refused", reason, error)

    def _say(self, state: str, error: str, reason: str) -> None:
        if self._told != error:
            self._told = error
            self._event("update_refused" if state == "refused" else "update_waiting", f"{error}: {reason}")
        self._show(state, reason=reason, error=error)

    def _again(self, span_s: tuple[float, float], now_s: float) -> None:
        low, high = span_s
        wait_s = min(high, low * 2.0**self._failures)
        self._failures = min(self._failures + 1, 30)
        self._due_s = now_s + random.uniform(wait_s / 2, wait_s)  # noqa: S311 - spreads load

    def _finish(self, state: str, reason: str | None = None, error: str | None = None) -> None:
        self._memory = Memory(self._memory.name, self._memory.force, state, reason, error)
        keep_memory(self._place, self._memory)
        if state == "refused":
            self._event("update_refused", f"{self._memory.name}: {error}: {reason}")
        elif state == "rolled_back":
            self._event("update_rolled_back", f"{self._memory.name}: {reason}")
        self._show(state, reason=reason, error=error)

    def _show(
        self, state: str, *, progress: float | None = None, reason: str | None = None, error: str | None = None
    ) -> None:
        if progress is not None:
            # In steps: each change is a retained message.
            progress = round(int(progress / _STEP) * _STEP, 2) if progress < 1 else 1.0
        self.update = Update(self._memory.name, state, progress, reason, error, self._memory.force)

    def _drop(self) -> None:
        errand, self._errand = self._errand, None
        if errand is not None:
            errand.end()


def closed_until(window: Window | None, wall_s: float) -> str | None:
    """Why it is not the time now, in words; None if it is.

    Args:
        window: Two times of day, UTC.
        wall_s: The wall clock, s since 1970.
    """
    if window is None:
        return None
    if wall_s < BUILD_S:
        return f"updates begin at {window[0]} UTC, and this board's clock is not set"
    now = f"{datetime.fromtimestamp(wall_s, UTC):%H:%M}"
    begin, end = window
    inside = begin <= now < end if begin < end else now >= begin or now < end
    return None if inside else f"updates begin at {begin} UTC, it is {now}"
