"""A run's side of its own trial: it commits the runtime it runs in once that is proved, and makes way for another.

Proved is a Reading with frames of this very start that a collector has stored: then frames, camera, broker, account and
collector have all worked with the new runtime, and a way back over the air is open. A board that publishes nowhere
proves itself by frames alone. The launcher decides what runs; nothing here starts or ends a process.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit_device.runtimes import launcher
from edgekit_device.runtimes.launcher import BLOCKED, COMMITTED, PENDING, REJECTED, RUNNING, WANTED

if TYPE_CHECKING:
    from edgekit_device.publish.outlet import OutletState

_LOOK_S, _AGAIN_S = 1.0, 60.0
_MOST_WINDOW_S = 60.0
_MAX_PROOFS = 1000


class RuntimeWatch:
    """The runtime of one run.

    Attributes:
        runtime: Id of the release that runs; empty for the one that flash made.
        on_trial: Whether it still has to pass.
        leaving: Why this run has to end, so that the launcher starts what should run; None while it does not.
        trouble: What became of the last release if it is not the one that runs, in words.
    """

    def __init__(self, home: Path, environ: Mapping[str, str], *, publishes: bool, now_s: float) -> None:
        """Args: /opt/edgekit; the launcher's environment; whether a broker is configured; monotonic now."""
        self.home, self.runtime, self._wish = home, environ[RUNNING], environ.get(WANTED, "")
        self._publishes, self._begun_s, self._look_s = publishes, now_s, 0.0
        self._proofs: set[int] = set()
        self._frames_s = 0.0
        self._blocked, self._again_s = environ.get(BLOCKED), now_s + _AGAIN_S
        self.leaving: str | None = None
        self.trouble: str | None = None
        self._said: list[tuple[str, str]] = []
        record = self._record(self.runtime)
        self.on_trial = bool(self.runtime) and record.get("state") == PENDING
        self._within_s = float(record.get("within_s", launcher.WITHIN_S))
        if self._blocked:
            self._tell("runtime_blocked", self._blocked)
        elif self.on_trial:
            self._said.append(("runtime_started", f"{self.runtime}, on trial for {self._within_s:.0f} s"))
        else:
            self._last_verdict()

    @classmethod
    def from_environment(cls, home: Path, *, publishes: bool, now_s: float) -> RuntimeWatch | None:
        """None for a run that the launcher did not start: nobody would start the next one."""
        here = {name: os.environ.pop(name) for name in (RUNNING, WANTED, BLOCKED) if name in os.environ}
        return cls(home, here, publishes=publishes, now_s=now_s) if RUNNING in here else None

    def made(self, seq: int, window_s: float, fps: float) -> None:
        """A Reading was made.

        Args:
            seq: Its number.
            window_s: Its length.
            fps: New frames a second; one without frames proves nothing.
        """
        if self.on_trial and fps > 0:
            self._frames_s += window_s
            if len(self._proofs) < _MAX_PROOFS:
                self._proofs.add(seq)

    def tick(self, now_s: float, links: Callable[[], Sequence[OutletState]]) -> list[tuple[str, str]]:
        """Go on; called all the time, looks once a second.

        Args:
            now_s: Monotonic.
            links: How each way out stands; asked for when needed only.

        Returns:
            Events to send: (kind, reason).
        """
        if now_s >= self._look_s and not self.leaving:
            self._look_s = now_s + _LOOK_S
            if self.on_trial:
                self._judge(now_s, links())
            self._look(now_s)
        said, self._said = self._said, []
        return said

    def close(self) -> None:
        """The service is told to stop: an attempt that is cut off by that does not count."""
        if self.on_trial and not self.leaving:
            attempts = max(0, int(self._record(self.runtime).get("attempts", 1)) - 1)
            self._change(attempts=attempts)

    def standing(self) -> dict[str, Any]:
        """For `reported`: what runs, and how it stands with the release that was asked for last."""
        wish = self._wish or self.runtime
        record = self._record(wish)
        return {"runtime": self.runtime or None, "wanted": wish or None, "on_trial": self.on_trial, **record}

    # -- parts ---------------------------------------------------------------------------------------------------

    def _judge(self, now_s: float, links: Sequence[OutletState]) -> None:
        age_s = now_s - self._begun_s
        window_s = min(_MOST_WINDOW_S, self._within_s / 2)
        if self._publishes:
            passed = any(link.has_stored(seq) for link in links for seq in self._proofs)
        else:
            passed = self._frames_s >= window_s
        if passed:
            if self._change(state=COMMITTED, attempts=0, reason=None, at=launcher.now_text()):
                self.on_trial = False
                self._said.append(("runtime_committed", self.runtime))
        elif age_s >= self._within_s:
            self._fail(self._why(links))

    def _why(self, links: Sequence[OutletState]) -> str:
        if not self._proofs:
            return f"no Reading with frames within {self._within_s:.0f} s"
        if not self._publishes:
            return f"frames for {self._frames_s:.0f} s only, within {self._within_s:.0f} s"
        reasons = "; ".join(link.reason for link in links if link.reason)
        why = reasons or "connected, and no collector stored any"
        return f"no Reading was acknowledged within {self._within_s:.0f} s ({why})"

    def _fail(self, why: str) -> None:
        self.on_trial = False
        self.leaving = f"{self.runtime} did not pass: {why}"
        self._tell("runtime_rejected", f"{self.runtime}: {why}")
        try:
            launcher.reject(self.home, self.runtime, why)
        except OSError as error:
            # The attempt is counted already: after the third the launcher goes back by itself.
            self._said.append(("runtime_unwritten", f"{self.runtime} rejected, and that cannot be kept: {error}"))

    def _look(self, now_s: float) -> None:
        """Make way when something else should run than when this run was started."""
        wish = launcher.wanted(self.home)
        if wish != self._wish:
            self._wish, self._blocked = wish, None
            if wish != self.runtime:
                self.leaving = f"{wish or 'the runtime that flash made'} is to run instead of {self._name}"
                self._said.append(("runtime_leaving", self.leaving))
        elif self._blocked and now_s >= self._again_s:
            self._again_s = now_s + _AGAIN_S
            if self._writable():
                self.leaving = f"{wish} can be tried now"
                self._said.append(("runtime_leaving", self.leaving))

    @property
    def _name(self) -> str:
        return self.runtime or "the runtime that flash made"

    def _last_verdict(self) -> None:
        """Say what became of a release that was tried before this start, if that is the latest news."""
        known = launcher.read_journal(self.home)["releases"]
        newest = max(known, key=lambda name: known[name]["entered"], default="")
        if newest and newest != self.runtime and known[newest]["state"] == REJECTED:
            self._tell("runtime_rejected", f"{newest}: {known[newest].get('reason')}")

    def _tell(self, kind: str, reason: str) -> None:
        self.trouble = f"{kind}: {reason}"
        self._said.append((kind, reason))

    def _record(self, name: str) -> dict[str, Any]:
        return dict(launcher.read_journal(self.home)["releases"].get(name, {}))

    def _change(self, **values: Any) -> bool:
        try:
            return launcher.change(self.home, self.runtime, **values)
        except OSError:
            return False

    def _writable(self) -> bool:
        try:
            with launcher.journal_lock(self.home):
                launcher.write_journal(self.home, launcher.read_journal(self.home))
        except OSError:
            return False
        return True
