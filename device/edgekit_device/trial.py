"""One trial: the new release is proved, loaded beside the old one, shadowed, swapped in, watched, and judged.

The supervisor ticks it; it never waits. Whatever goes wrong ends in the release that served before. States, in order:
baseline, (twin,) prove, load, shadow, swap, watch, then commit; or from any of them rollback.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from edgekit_device import slots
from edgekit_device.contract.clock import utc_text
from edgekit_device.contract.errors import EdgeKitError, SlotBusyError, SlotError
from edgekit_device.ground import Ground, Host, Release
from edgekit_device.judging import Measured, judge_memory, judge_speed, label_shift
from edgekit_device.ladder import CPU_RUNGS, EDGETPU
from edgekit_device.releases import Slot
from edgekit_device.trial_proof import Proof, prove
from edgekit_device.verdicts import COMMITTED, MAX_ATTEMPTS, REJECTED, Verdict
from edgekit_device.world import world

STATES = ("baseline", "twin", "prove", "load", "shadow", "swap", "watch", "commit", "rollback")
_ASK_S, _SWAP_S, _HANG_S = 0.5, 5.0, 6.0
_WRITES, _WRITE_AGAIN_S = 5, 1.0
_STEP_S = 2.0
_LOOK = 0.6


class Trial:
    """A trial under way.

    Attributes:
        state: One of STATES.
        outcome: The verdict, once it is over.
        done: Whether nothing is left to be done.
        unwritten: Why the outcome could not be kept; None when it was.
    """

    def __init__(self, ground: Ground, host: Host, base: Release, slot: Slot, verdict: Verdict) -> None:
        """Args: ground; supervisor; what serves; what to try; its verdict so far, with this attempt counted."""
        self.ground, self.host, self.base, self.slot, self.verdict = ground, host, base, slot, verdict
        self.known = verdict.state == COMMITTED
        self.state, self.done, self.outcome = "", False, verdict
        self.release: Release | None = None
        self.unwritten: str | None = None
        self._now_s = self._since_s = self._asked_s = self._flow_s = self._moved_s = 0.0
        self._served, self._ran, self._writes = 0.0, False, 0
        self._old: Measured | None = None
        self._swapped = self._had_edgetpu = self._spoilt = False
        self._duel = ""
        self._proof: queue.SimpleQueue[Proof] = queue.SimpleQueue()
        self._steps: dict[str, Callable[[], None]] = {
            "baseline": self._baseline, "twin": self._twin, "prove": self._prove, "load": self._wait_for_load,
            "shadow": self._shadow, "swap": self._wait_for_swap, "watch": self._watch, "commit": self._commit,
            "rollback": self._rollback,
        }  # fmt: skip

    def tick(self, now_s: float) -> None:
        """Go on; called all the time."""
        self._now_s = now_s
        try:
            if not self.state:
                self._enter("baseline")
            self._flow()
            self._run()
            self._steps[self.state]()
        except SlotBusyError as error:
            if self.state not in ("commit", "rollback"):
                self.fail(str(error))  # Else an install is under way, and the verdict is written when it is done.
        except (EdgeKitError, OSError) as error:
            self._trouble(f"{self.state}: {error}")

    def _run(self) -> None:
        if self.state and not self._ran:
            self._ran = True
            self.ground.watcher("run", self.state)

    def _trouble(self, why: str) -> None:
        if self.state in ("commit", "rollback"):
            self._again(why)
        else:
            self.fail(why)

    def _enter(self, state: str) -> None:
        if self.state:
            self.ground.watcher("leave", self.state)
        self.state, self._ran, self._flow_s = state, False, 0.0
        self._since_s = self._moved_s = self._now_s
        self._asked_s = 0.0
        self.ground.watcher("enter", state)

    def _flow(self) -> None:
        """Count the time in which frames were served: a camera that is away is not the model's fault."""
        served = self.host.served
        if served != self._served:
            if served > self._served:
                self._flow_s += min(self._now_s - self._moved_s, max(_STEP_S, 3 * self.host.pace_s))
            self._served, self._moved_s = served, self._now_s

    @property
    def _age_s(self) -> float:
        return self._now_s - self._since_s

    def _ask(self, every_s: float = _ASK_S) -> None:
        if self.host.rung and self._now_s - self._asked_s >= every_s:
            self._asked_s = self._now_s
            self.host.tell("measure")

    # -- forward -------------------------------------------------------------------------------------------------

    def _baseline(self) -> None:
        if self.known and self.host.rung:
            self._prepare()
        else:
            self._ask()

    def _prepare(self) -> None:
        self._had_edgetpu = self.host.rung == EDGETPU
        if self._had_edgetpu:
            self._enter("twin")
            self._load(self.base, CPU_RUNGS[0], 0)
        else:
            self._begin_proof()

    def _load(self, release: Release, rung: str, frames: int) -> None:
        self.host.tell(
            "load", path=release.path, sha256=release.bundle.sha256, key_id=release.bundle.key_id, delegate=rung,
            frames=frames, bundle=release.bundle_id, **self.host.layout,
        )  # fmt: skip

    def _twin(self) -> None:
        if self._age_s > self.ground.rules.load_s + _SWAP_S:
            self.fail("the CPU twin of the model before did not serve")

    def _begin_proof(self) -> None:
        self._enter("prove")
        answer: queue.SimpleQueue[Proof] = queue.SimpleQueue()
        rung, self._proof = self.host.rung or CPU_RUNGS[0], answer
        ground, host, base, slot = self.ground, self.host, self.base, self.slot
        edgetpu, forced = self._had_edgetpu, self.verdict.forced

        def run() -> None:
            answer.put(prove(ground, host, base, slot, rung=rung, edgetpu=edgetpu, forced=forced))

        threading.Thread(target=run, name="trial-proof", daemon=True).start()

    def _prove(self) -> None:
        if self.host.rung is None:
            return  # The worker before died meanwhile, and its successor is on its way.
        try:
            found = self._proof.get_nowait()
        except queue.Empty:
            return
        if found.release is None:
            self.fail(found.problem or "it was not proved")
            return
        self.release = found.release
        self._says(judge_memory(found.old_bytes, found.new_bytes, self.ground.rules))
        if self.state != "prove":
            return
        on_tpu = self._had_edgetpu and EDGETPU in found.release.bundle.manifest.models
        self._enter("load")
        shadow = 0 if on_tpu or self.known else self.ground.rules.shadow_frames
        self._load(found.release, EDGETPU if on_tpu else found.rung, shadow)

    def _says(self, why: str | None) -> None:
        """A measured limit is over: that ends the trial, unless somebody insisted."""
        if why and (self.verdict.forced or self.known):
            self.host.event("update_warning", f"{self.slot.bundle_id}: {why}")
        elif why:
            self.fail(why)

    def _wait_for_load(self) -> None:
        if self._age_s > self.ground.rules.load_s:
            self._spoilt = True
            self.fail(f"load: hangs, not ready after {self.ground.rules.load_s:.0f} s")

    def _shadow(self) -> None:
        if self._flow_s > self.ground.rules.settle_s + _HANG_S:
            self._spoilt = True
            self.fail("shadow: hangs on live frames")

    def _begin_swap(self) -> None:
        self._enter("swap")
        self.host.tell("swap")

    def _wait_for_swap(self) -> None:
        if self._age_s > _SWAP_S:
            self._spoilt = True
            self.fail(f"swap: the worker did not swap within {_SWAP_S:.0f} s")

    def _watch(self) -> None:
        self._ask(min(5.0, max(_ASK_S / 2, self.ground.rules.window_s / 10)))

    def _judge(self, message: Mapping[str, Any]) -> None:
        if message["odd"]:
            self.fail(f"scores: {message['odd']} live frames got scores that are not finite")
            return
        rules, over = self.ground.rules, self._flow_s >= self.ground.rules.window_s
        if not message["frames"] or (not over and self._flow_s < _LOOK * rules.window_s):
            return
        new = Measured(message["frames"], message["p50_ms"], message["p95_ms"])
        why = judge_speed(self._old, new, rules) if self._old else None
        if over or (why and self._duel == "over" and not self.verdict.forced):
            self._says(why)
            if self.state == "watch":
                self._enter("commit")
        elif why and not self._duel:
            # Something else may keep the board busy: slow is what is slower than the old model at the same time.
            self._duel = "on"
            self.host.tell("measure", forget=True)
            self.host.tell("duel", frames=rules.shadow_frames)

    def _duelled(self, message: Mapping[str, Any]) -> None:
        self._old, self._duel = Measured(message["frames"], message["p50_ms"], message["p95_ms"]), "over"

    # -- what the worker says ------------------------------------------------------------------------------------

    def hear(self, message: Mapping[str, Any]) -> None:
        """Take a message of the worker that is about the models it holds."""
        kind = message["type"]
        try:
            self._run()
            if kind == "measured" and self.state == "baseline":
                enough = self.ground.rules.baseline_frames
                if message["frames"] >= enough or (message["frames"] and self._flow_s > self.ground.rules.settle_s):
                    self._old = Measured(message["frames"], message["p50_ms"], message["p95_ms"])
                    self._prepare()
            elif kind == "measured" and self.state == "watch" and message["bundle"] == self.slot.bundle_id:
                self._judge(message)
            elif kind == "beside" and self.state == "twin":
                self.host.tell("swap")
            elif kind == "beside" and self.state == "load":
                self._loaded()
            elif kind == "shadowed" and self.state == "shadow":
                self._shadowed(message)
            elif kind == "shadowed" and self.state == "watch":
                self._duelled(message)
            elif kind == "beside_failed" and self.state in ("twin", "load", "shadow"):
                self.fail(f"{self.state}: {message['reason']}")
            elif kind == "swapped":
                self._did_swap(message)
        except (EdgeKitError, OSError) as error:
            self._trouble(f"{self.state}: {error}")

    def _loaded(self) -> None:
        on_tpu = self._had_edgetpu and self.release is not None and EDGETPU in self.release.bundle.manifest.models
        if self.known or on_tpu:
            self._begin_swap()
        else:
            self._enter("shadow")

    def _shadowed(self, message: Mapping[str, Any]) -> None:
        shift = label_shift(message["old"], message["new"])
        if shift >= self.ground.rules.label_shift:
            why = f"labels: {shift:.0%} of {message['frames']} live frames got labels in another proportion"
            if self.ground.rules.label_shift_fails:
                self._says(why)
            else:
                self.host.event("update_warning", f"{self.slot.bundle_id}: {why}")
        if self.state == "shadow":
            self._begin_swap()

    def _did_swap(self, message: Mapping[str, Any]) -> None:
        if self.state == "twin":
            self.host.adopt(self.base, message)
            self.host.tell("drop")
            self._begin_proof()
        elif self.state == "swap" and self.release is not None:
            self._swapped = True
            self.host.adopt(self.release, message)
            self._enter("commit" if self.known else "watch")
        elif self.state == "rollback" and message["bundle"] == self.base.bundle_id:
            self._swapped = False
            self.host.adopt(self.base, message)
            self.host.tell("drop")

    # -- ends ----------------------------------------------------------------------------------------------------

    def lost(self, kind: str, reason: str) -> Release | None:
        """The worker is gone. Returns what the next one is to serve; None changes nothing."""
        if self.state in ("", "baseline", "commit") or (self.state == "prove" and not self._had_edgetpu):
            return None  # The model before, or one that has passed: not this trial's fault.
        if self.state != "rollback":
            # Nor are a camera that hangs, and a CPU twin that dies while the new model has the stick: begin anew.
            camera = kind.startswith("camera") or self.state in ("twin", "prove")
            if camera and self.verdict.attempts < MAX_ATTEMPTS:
                self._repeat()
            else:
                self.fail(f"{self.state}: {kind}: {reason}", worker=False)
        self._swapped = self._spoilt = False
        return self.base

    def _repeat(self) -> None:
        """A camera that hangs takes the worker with it: try again, and count it."""
        self._swapped = False
        try:
            again = replace(self.verdict, attempts=self.verdict.attempts + 1)
            slots.judge(self.ground.root, self.slot.bundle_id, again, disk=self.ground.disk)
        except SlotError as error:
            self.fail(str(error), worker=False)
        else:
            self.verdict, self.outcome, self.release, self._old = again, again, None, None
            self._duel = ""
            self._enter("baseline")

    def fail(self, why: str, *, worker: bool = True) -> None:
        """Give the release up: first what served before serves again, then that is written down.

        Args:
            why: Named reason.
            worker: The worker lives and can swap.
        """
        if self.state == "rollback" or self.done:
            return
        self.outcome = replace(self.verdict, state=REJECTED, attempts=0, reason=why[:400], at=utc_text())
        self._swapped = self._swapped and worker
        try:
            self._enter("rollback")
        except OSError as error:
            self.host.event("update_warning", str(error))
        if self._swapped and not self._had_edgetpu:
            self.host.tell("swap")

    def cancel(self, why: str) -> None:
        """Somebody wants another release: go back without a verdict, and do not count this attempt."""
        if self.state in ("commit", "rollback") or self.done:
            return
        self.fail(why)
        self.outcome = replace(self.verdict, attempts=max(0, self.verdict.attempts - 1))

    def _rollback(self) -> None:
        if self._swapped and not self._had_edgetpu and self._age_s < _SWAP_S / 2:
            return  # The worker is about to swap back.
        if self._swapped or self._spoilt or self._had_edgetpu:
            # A thread that hangs in the new model, or a stick that the new model holds, goes with its process only.
            self._swapped = self._spoilt = self._had_edgetpu = False
            self.host.restart_with(self.base)
        self._write()

    def _commit(self) -> None:
        if self.outcome is self.verdict:
            self.host.tell("drop")
            self.outcome = replace(
                self.verdict, state=COMMITTED, attempts=0, reason=None, forced=False, world=world(), at=utc_text()
            )
        self._write()

    def _write(self) -> None:
        if self._now_s < self._asked_s:
            return
        slots.judge(self.ground.root, self.slot.bundle_id, self.outcome, disk=self.ground.disk)
        self._finish(None)

    def _again(self, why: str) -> None:
        """The disk refuses the verdict: what serves is right, so try again for a while and say so."""
        self._writes += 1
        self._asked_s = self._now_s + _WRITE_AGAIN_S
        if self._writes >= _WRITES:
            self._finish(why)

    def _finish(self, unwritten: str | None) -> None:
        self.done, self.unwritten = True, unwritten
        name, verdict = self.slot.bundle_id, self.outcome
        if unwritten:
            self.host.event("update_unwritten", f"{name} {verdict.state}, and that cannot be kept: {unwritten}")
        back = self.state == "rollback"
        cancelled = back and verdict.state != REJECTED
        word = "update_cancelled" if cancelled else "update_rejected" if back else "update_committed"
        reason = f"{name}: {verdict.reason}" if verdict.reason else name
        serves = self.base if back or self.release is None else self.release
        self.host.event(word, reason, serving=serves.bundle_id, attempts=self.verdict.attempts)
        try:
            self.ground.watcher("leave", self.state)
        except OSError as error:
            self.host.event("update_warning", str(error))
