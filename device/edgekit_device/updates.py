"""Follows `current`: what to serve at the start, and a trial whenever another release is to serve.

The link is looked at once a second, so `install`, `rollback` and `flash` need no way to speak to the service, and a
power cut in between loses nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from edgekit_device import memory, slots
from edgekit_device.bundle import read_file
from edgekit_device.contract.clock import utc_text
from edgekit_device.contract.errors import DanglingSlotError, EdgeKitError, SlotBusyError, SlotError
from edgekit_device.contract.file_table import MAX_BUNDLE_BYTES
from edgekit_device.ground import Ground, Host, Release, open_release
from edgekit_device.releases import Slot, current, slot_of
from edgekit_device.trial import Trial
from edgekit_device.verdicts import COMMITTED, MAX_ATTEMPTS, PENDING, REJECTED, Verdict, trusted, verdict_of
from edgekit_device.world import changes, world

_LOOK_S, _BLOCKED_S = 1.0, 10.0
_EXHAUSTED = f"its trial was cut off {MAX_ATTEMPTS} times"


def first_release(ground: Ground, say: Callable[[str], None] = lambda _: None) -> Release | None:
    """What to serve at the start: the current release if it has passed, else the trusted one while it is tried.

    Args:
        ground: The slots.
        say: Takes what is wrong with a release that is passed over.

    Returns:
        None where nothing is installed.

    Raises:
        BundleError: The only release is not as signed.
        SlotError: The releases cannot be read.
    """
    serving = slots.recover(ground.root, disk=ground.disk)
    if serving is None:
        return None
    back, order = trusted(ground.root), [serving]
    if back is not None:
        passed = verdict_of(ground.root, serving.bundle_id).state == COMMITTED
        order = [serving, back] if passed else [back, serving]
    problems: dict[str, EdgeKitError] = {}
    for slot in order:
        try:
            return open_release(slot, ground.keys)
        except EdgeKitError as error:
            problems[slot.bundle_id] = error
            say(f"{slot.bundle_id} cannot serve: {error}")
    raise problems[serving.bundle_id]


class Updates:
    """The releases of one run.

    Attributes:
        trial: The one under way; None while there is none.
        trouble: What became of the last one if it was not committed, in words.
    """

    def __init__(self, ground: Ground, host: Host, serving: Release) -> None:
        """Args: the slots; the supervisor; the release that its first worker is started with."""
        self.ground, self._host, self._serving = ground, host, serving
        self.trial: Trial | None = None
        self.trouble: str | None = None
        self._look_s = self._settled_s = self._moved_s = self._served = 0.0
        self._blocked: tuple[str, str] | None = None
        self._settled: str | None = None
        # A rejection that the disk did not take: written when it does, and not tried again before.
        self._owed: tuple[str, Verdict] | None = None

    @property
    def state(self) -> dict[str, Any] | None:
        """What is being tried, for `reported`; None when nothing is."""
        trial = self.trial
        return None if trial is None else {"release": trial.slot.bundle_id, "state": trial.state or "baseline"}

    def tick(self, now_s: float) -> None:
        """Go on; called all the time."""
        if self.trial is not None:
            self.trial.tick(now_s)
            if self._reap():
                memory.give_back()  # Of two bundles held, one is left.
        self._flow(now_s)
        if now_s < self._look_s:
            return
        self._look_s = now_s + _LOOK_S
        try:
            wanted = current(self.ground.root)
        except (DanglingSlotError, OSError):
            return
        if wanted is None:
            return
        if self._owed and self._keep(*self._owed):
            self._owed = None
        self._settle(wanted.bundle_id)
        if self.trial is not None:
            if wanted.bundle_id != self.trial.slot.bundle_id:
                self.trial.cancel(f"{wanted.bundle_id} is wanted instead")
        elif wanted.bundle_id != self._serving.bundle_id and (not self._owed or self._owed[0] != wanted.bundle_id):
            self._begin(wanted, now_s)

    def hear(self, message: Mapping[str, Any]) -> None:
        """Take a message of the worker."""
        if self.trial is not None:
            self.trial.hear(message)

    def serves(self, release: Release) -> None:
        """Another release serves now."""
        self._serving, self._settled, self._settled_s = release, None, 0.0

    def lost(self, kind: str, reason: str) -> Release | None:
        """The worker is gone. Returns what the next one is to serve; None changes nothing."""
        self._settled_s = 0.0
        if self.trial is None:
            return None
        return self.trial.lost(kind, reason)

    def hopeless(self, why: str) -> Release | None:
        """What serves fails on every rung. Returns what to serve instead, if there is something."""
        failed, trial = self._serving.bundle_id, self.trial
        try:
            if trial is not None and trial.state in ("", "baseline", "prove"):
                self.trial = None
                self._host.event("update_warning", f"{failed} serves no more, {trial.slot.bundle_id} serves untried")
                return open_release(trial.slot, self.ground.keys)
            now, back = current(self.ground.root), trusted(self.ground.root)
            if trial is not None or now is None or back is None or now.bundle_id != failed:
                return None
            old = verdict_of(self.ground.root, failed, self._serving.bundle.sha256)
            changed = changes(old.world, world())
            reason = f"model: {why}{f' (since it was proved: {changed})' if changed else ''}"
            release = open_release(back, self.ground.keys)
            self._reject(failed, old, reason)
        except (EdgeKitError, OSError) as error:
            self._host.event("update_warning", str(error))
            return None
        return release

    def close(self) -> None:
        """The service is told to stop: an attempt that is cut off by that does not count."""
        if self.trial is not None and not self.trial.done and self.trial.state not in ("commit", "rollback"):
            verdict = self.trial.verdict
            self._keep(self.trial.slot.bundle_id, replace(verdict, attempts=max(0, verdict.attempts - 1)))

    def _keep(self, bundle_id: str, verdict: Verdict) -> bool:
        """Write a verdict that can also be written later."""
        try:
            slots.judge(self.ground.root, bundle_id, verdict, disk=self.ground.disk)
        except (SlotError, OSError):
            return False
        return True

    # -- begin and end -------------------------------------------------------------------------------------------

    def _begin(self, slot: Slot, now_s: float) -> None:
        name = slot.bundle_id
        try:
            digest = hashlib.sha256(read_file(slot.bundle_path, MAX_BUNDLE_BYTES)).hexdigest()
            verdict = verdict_of(self.ground.root, name, digest)
            if verdict.state == REJECTED:
                self._block(name, f"rejected before ({verdict.reason}); edgekit-device install --force tries it again")
                return
            if verdict.attempts >= MAX_ATTEMPTS:
                self._reject(name, verdict, f"interrupted: {_EXHAUSTED}")
                return
            verdict = replace(verdict, attempts=verdict.attempts + 1)
            slots.judge(self.ground.root, name, verdict, disk=self.ground.disk)
        except SlotBusyError:
            return  # The installer has not let go yet.
        except (EdgeKitError, OSError) as error:
            # What cannot be written down is not tried: a board that loses its memory would try for ever.
            self._block(name, str(error))
            self._look_s = now_s + _BLOCKED_S
            return
        self._blocked, self.trouble = None, None
        self.trial = Trial(self.ground, self._host, self._serving, slot_of(self.ground.root, name), verdict)
        self._host.event(
            "update_started", f"{name}; {self._serving.bundle_id} serves meanwhile", attempt=verdict.attempts
        )

    def _reject(self, name: str, verdict: Verdict, reason: str) -> None:
        outcome = replace(verdict, state=REJECTED, attempts=0, reason=reason, at=utc_text())
        slots.judge(self.ground.root, name, outcome, disk=self.ground.disk)
        self.trouble = f"update_rejected: {name}: {reason}"
        self._host.event("update_rejected", f"{name}: {reason}", serving=self._serving.bundle_id)

    def _block(self, name: str, why: str) -> None:
        if self._blocked != (name, why):
            self._blocked = name, why
            self.trouble = f"update_blocked: {name}: {why}"
            self._host.event("update_blocked", f"{name}: {why}", serving=self._serving.bundle_id)

    def _reap(self) -> bool:
        """Take a trial away that is over. Returns whether it was."""
        trial = self.trial
        if trial is None or not trial.done:
            return False
        self.trial, outcome = None, trial.outcome
        if outcome.state == REJECTED:
            self.trouble = f"update_rejected: {trial.slot.bundle_id}: {outcome.reason}"
            if trial.unwritten:
                self._owed = trial.slot.bundle_id, outcome
        if outcome.state == COMMITTED and trial.unwritten:
            self.trouble = f"update_unwritten: {trial.slot.bundle_id}: {trial.unwritten}"
        elif outcome.state == COMMITTED:
            self._settled = trial.slot.bundle_id
        return True

    def _flow(self, now_s: float) -> None:
        """Count the time for which this release has served frames."""
        served = self._host.served
        if served != self._served:
            if served > self._served:
                self._settled_s += min(now_s - self._moved_s, max(2.0, 3 * self._host.pace_s))
            self._served, self._moved_s = served, now_s

    def _settle(self, wanted: str) -> None:
        """Commit a release that has nothing to be compared with, once it has served for the window."""
        name = self._serving.bundle_id
        if self.trial is not None or self._settled == name or not self._settled_s:
            return
        verdict = verdict_of(self.ground.root, name, self._serving.bundle.sha256)
        here = world()
        if verdict.state == COMMITTED:
            self._settled = name
            changed = changes(verdict.world, here)
            if changed and self._keep(name, replace(verdict, world=here)):
                self._host.event("model_reproved", f"{name} reproduces its golden images after: {changed}")
        elif self._settled_s >= self.ground.rules.window_s:
            passed = Verdict(self._serving.bundle.sha256, COMMITTED, world=here, at=utc_text())
            if verdict.state != PENDING or wanted != name:
                self._settled = name
            elif self._keep(name, passed):
                self._settled, self.trouble = name, None
                self._host.event("update_committed", name, serving=name)
