"""The supervisor: starts the worker, hears it, restarts it with the cause named, and reports.

It imports neither OpenCV nor an interpreter. Whatever ends or wedges the worker, the Readings go on: with FPS 0
and the reason in status and events, until frames flow again.
"""

from __future__ import annotations

import os
import queue
import secrets
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from edgekit_device.answering import Answering
from edgekit_device.camera_state import STALLED, CameraState
from edgekit_device.choice import fingerprint, keep_choice, load_choice
from edgekit_device.contract.asking import Request
from edgekit_device.contract.desired import Desired
from edgekit_device.exchange import Exchange
from edgekit_device.ground import Release
from edgekit_device.health.sampler import HealthPlaces
from edgekit_device.housekeeping import Housekeeping
from edgekit_device.ladder import EDGETPU, Ladder
from edgekit_device.log_ring import LogRing
from edgekit_device.meter import empty_window
from edgekit_device.publish.wishes import Wishes
from edgekit_device.reporter import Identity, Reporter
from edgekit_device.run_plan import RunPlan
from edgekit_device.rung_keeper import RungKeeper
from edgekit_device.updates import Updates
from edgekit_device.watchdog import backoff_s, stuck
from edgekit_device.worker_process import WorkerProcess, WorkerSetup

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgekit_device.publish.outlet import Outlet

_TICK_S = 0.05
_WINDOW_WAIT_S = 1.5
_SLIVER_S = 0.5


class Supervisor(Exchange):
    """One run of one board, from the first worker to the last Reading."""

    def __init__(
        self,
        plan: RunPlan,
        ladder: Ladder,
        outlets: Sequence[Outlet],
        boot: str,
        say: Callable[[str], None],
        house: Housekeeping | None = None,
    ) -> None:
        who = Identity(plan.site, plan.device, boot, plan.bundle.manifest.bundle_id, plan.source)
        house = house or Housekeeping(HealthPlaces(plan.state_dir))
        log = LogRing(say)
        self.reporter = Reporter(who, outlets, house, log)
        self._take_up(plan, ladder)
        serving = Release(plan.bundle, plan.bundle_data, plan.bundle_path)
        self._updates = Updates(plan.ground, self, serving) if plan.ground else None
        self._follower, self._runtime_follower = self._follow(plan), self._follow_runtime(plan)
        self._answering = Answering(self._desk(log, plan))
        self.stopping = False
        self._worker: WorkerProcess | None = None
        self._ready: dict[str, Any] | None = None
        self._failures = self._restarts = 0
        self._next_start_s = self._opening_s = 0.0
        self._trouble: str | None = None
        self.camera = CameraState()
        self._now: dict[str, Any] = {"label": None, "score": None}
        self._exit: int | None = None
        self._asked: tuple[int, float] | None = None
        self._asks = 0
        self._window_began_s = time.monotonic()
        self.wishes = Wishes(plan.interval_s)

    def _take_up(self, plan: RunPlan, ladder: Ladder) -> None:
        """From now on, this model."""
        self.plan, self.ladder = plan, ladder
        self._keeper = RungKeeper(
            ladder, lambda rung: WorkerProcess(self._setup(rung, probe=True)), plan.limits.start_s
        )
        self._choice_key = fingerprint(
            plan.bundle.manifest.files[plan.bundle.manifest.models["cpu"]].sha256,
            plan.source,
            realtime=plan.options.realtime,
            mode=plan.mode,
        )
        self._choice = load_choice(plan.state_dir, self._choice_key)
        self._remember_failures()

    # -- documents -------------------------------------------------------------------------------------------

    def status(self, state: str = "online") -> bytes:
        """The status document as it stands now."""
        delegate = self._ready["delegate"] if self._ready else None
        update = self._updates.trouble if self._updates else None
        runtime = self.plan.runtime.trouble if self.plan.runtime else None
        parts = (self._trouble, self.camera.trouble, self.ladder.reason, update, runtime)
        reason = "; ".join(part for part in parts if part) or None
        return self.reporter.status(state, delegate, reason)

    def _announce(self) -> None:
        self.reporter.announce(self.status())
        self._report_state()

    def _report_state(self) -> None:
        who = self.reporter.who
        delegate = self._ready["delegate"] if self._ready else None
        update = self._follower.update if self._follower else None
        runtime = self._runtime_follower.update if self._runtime_follower else None
        document = self.wishes.reported(who.boot, who.bundle_id, delegate, self._trouble, update, runtime)
        if self._updates and self._updates.state:
            document = replace(document, extra={"trial": self._updates.state})
        if self.plan.runtime is not None:
            document = replace(document, runtime=self.plan.runtime.runtime or None)
        self.reporter.reported(document.to_bytes())

    def _listen(self, now_s: float, due_s: float) -> float:
        """Do what the host asks for, say what the publishers want said. Returns when the next Reading is due."""
        for wish in self.reporter.listen():
            if isinstance(wish, Request):
                self._answering.hear(wish, now_s)
                continue
            self.wishes.hear(wish, now_s)
            for follower in (self._follower, self._runtime_follower):
                if follower and isinstance(wish, Desired):
                    follower.hear(wish, now_s)
            self._report_state()
        self._answering.tick(now_s)
        return min(due_s, now_s + self.wishes.interval_s(now_s))

    def event(self, kind: str, reason: str | None, **detail: Any) -> None:
        """Send one event and say it on the terminal."""
        self.reporter.event(kind, reason, detail)

    def _publish_window(self, window: dict[str, Any]) -> None:
        pids = [os.getpid()] + ([self._worker.pid] if self._worker else [])
        self.reporter.reading(window, self._ready or {}, pids, now=self._now, ladder_reason=self.ladder.reason)
        if self.plan.runtime is not None:
            self.plan.runtime.made(self.reporter.spoken - 1, window["window_s"], window["fps"])
        self._window_began_s = time.monotonic()

    # -- the worker ------------------------------------------------------------------------------------------

    def _remember_failures(self) -> None:
        """Start on the rung that served last time; a stick that was missing then is looked for again at once."""
        if self.ladder.explicit:
            return
        known = {r: why for r, why in self._choice.failures.items() if r in self.ladder.rungs and r != EDGETPU}
        if len(known) < len(self.ladder.rungs):
            for rung, why in known.items():
                self.ladder.fail(rung, why)

    def _setup(self, rung: str, *, probe: bool = False) -> WorkerSetup:
        plan = self.plan
        return WorkerSetup(
            bundle_data=plan.bundle_data,
            bundle_path=plan.bundle_path,
            key_id=plan.bundle.key_id,
            source=plan.source,
            options=replace(plan.options, device_id=self.camera.device_id),
            delegate=rung,
            threads=plan.threads or self._choice.threads.get(rung, 0),
            most_threads=plan.most_threads,
            lanes=1 if plan.threads else self._choice.lanes.get(rung, 1),
            mode=plan.mode,
            preview=plan.preview,
            pictures=plan.pictures,
            probe=probe,
        )

    def _start_worker(self) -> None:
        rung = self.ladder.current
        if rung is None:
            self.ladder.retry()
            rung = self.ladder.rungs[0]
        self._ready = None
        self._opening_s = 0.0
        self._worker = WorkerProcess(self._setup(rung))

    def _drop_worker(self) -> None:
        """Forget a worker that is dead or must be; the next start follows the backoff."""
        worker, self._worker = self._worker, None
        if worker is not None:
            served = worker.look().served
            self._failures = 0 if served else self._failures + 1
            worker.kill()
        self._ready = self._asked = None
        self._restarts += 1
        self._next_start_s = time.monotonic() + backoff_s(self._failures, self.plan.limits)

    def _lost(self, kind: str, reason: str) -> None:
        self._trouble = f"{kind}: {reason}"
        self._drop_worker()
        if self._turn_back(kind, reason):
            pass
        elif self.ladder.current == EDGETPU and not self.ladder.explicit and kind in ("worker_died", "inference_hang"):
            # libedgetpu takes the process with it when the stick goes: the CPU model serves until it is back.
            following = self.ladder.fail(EDGETPU, reason)
            self._failures, self._next_start_s = 0, 0.0
            self.event("delegate_fallback", f"{EDGETPU}: {reason}", to=following)
        self.event(kind, reason, restarts=self._restarts)
        self._announce()

    def _rung_failed(self, why: str) -> None:
        """The worker could not get ready: try the next rung, or give up where that is the honest answer."""
        rung = self.ladder.current or self.ladder.rungs[0]
        following = self.ladder.fail(rung, why)
        self._drop_worker()
        if following is not None:
            self._failures = 0
            self._next_start_s = 0.0
            self.event("delegate_fallback", f"{rung}: {why}", to=following)
            return
        self.event("model_failed", why)
        instead = self._updates.hopeless(why) if self._updates else None
        if instead is not None:
            self.restart_with(instead)
            return
        if self.ladder.explicit or not self.plan.endless:
            self._exit = 1
        self._trouble = f"model_failed: {why}"
        self._announce()

    def _on_message(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "ready":
            self._ready = message
            self._trouble = None
            golden = message["golden"]
            self.event(
                "model_ready",
                f"{self.plan.bundle.manifest.bundle_id} on {message['delegate']} ({message['interpreter']}, "
                f"{message['threads']} threads); {golden['images']} golden images reproduced within "
                f"{golden['largest_difference']:.4f} (tolerance {golden['tolerance']:.4f})",
                cold_invoke_ms=golden["cold_ms"],
                ready_s=message["seconds"],
                tuned_ms=message["tuned_ms"],
            )
            self._announce()
            self._keep_choice(message)
        elif kind == "opening":
            self._opening_s = time.monotonic()
        elif kind == "failed" and message["stage"] == "source":
            self._source_failed(message["reason"])
        elif kind == "failed":
            self._rung_failed(message["reason"])
        elif kind == "window":
            if self._asked and message["id"] == self._asked[0]:
                self._asked = None
                self._now = message["now"]
                self._publish_window(message["window"])
        elif kind == "result":
            self.reporter.result(message)
        elif kind == "camera":
            self._on_camera(message)
        elif kind == "notice":
            self.event(message["word"], message["reason"])
        elif kind == "picture":
            self._answering.hear_picture(message)
        elif kind == "end":
            self._on_end(message["error"])
        elif self._updates is not None:
            self._updates.hear(message)

    def _source_failed(self, reason: str) -> None:
        self._lost("camera_missing" if self.plan.endless else "source_failed", reason)
        if not self.plan.endless:
            self._exit = 1

    def _on_camera(self, message: dict[str, Any]) -> None:
        if self._ready and "pace_s" in message:
            self._ready["pace_s"] = message["pace_s"]
        said = self.camera.hear(message, time.monotonic())
        if said:
            self.event(said.kind, said.reason, **said.detail)
            self._announce()

    def _camera_stuck(self, kind: str, reason: str) -> None:
        """End a worker that hangs in its camera; the next starts at once, because a camera comes back unannounced."""
        self._drop_worker()
        self._turn_back(kind, reason)
        self._failures, self._next_start_s = 0, 0.0
        self._on_camera({"state": kind, "reason": reason})

    def _on_end(self, error: str | None) -> None:
        if self.plan.endless:
            self._lost("camera_lost", error or "the source ended")
            return
        if error:
            self._trouble = f"source_broken: {error}"
            self.event("source_broken", error)
        self._exit = 1 if error else 0

    def _watch(self, now_s: float) -> None:
        worker = self._worker
        if worker is None:
            if now_s >= self._next_start_s and self._exit is None:
                self._start_worker()
            return
        cause = worker.exit_cause()
        if cause is not None:
            words = worker.last_words()
            text = f"{cause}{': ' + words if words else ''}"
            if self._ready is None:
                self._rung_failed(f"the worker died before it was ready ({text})")
            else:
                self._lost("worker_died", text)
            return
        if self._ready is None:
            limits, opened_s = self.plan.limits, self._opening_s
            if now_s - worker.started_s > limits.start_s:
                self._rung_failed(f"not ready after {limits.start_s:.0f} s")
            elif opened_s and self.ladder.current == EDGETPU and now_s - opened_s > limits.open_edgetpu_s:
                self._rung_failed(f"hangs: not open after {limits.open_edgetpu_s:.0f} s")
            return
        regained = self._keeper.watch(now_s)
        if regained is not None:
            self._move_to(regained)
            return
        limits, stalled = self.plan.limits, self.camera.kind == STALLED
        why = stuck(
            worker.look(),
            now_s,
            live=self._ready["live"],
            pace_s=self._ready["pace_s"],
            limits=replace(limits, read_s=min(limits.read_s, limits.read_again_s)) if stalled else limits,
        )
        if why:
            kind, _, reason = why.partition(": ")
            (self._camera_stuck if kind == STALLED else self._lost)(kind, reason)

    def _move_to(self, rung: str) -> None:
        """Leave a worker that serves well for a better rung that is back."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.end()
        self._ready = self._asked = None
        self._failures, self._next_start_s = 0, 0.0
        self.event("delegate_regained", rung)

    def _keep_choice(self, ready: dict[str, Any]) -> None:
        rung, lanes = ready["delegate"], ready["lanes"]
        new = tuple(words for words in ready["warnings"] if words not in self._choice.warnings)
        for words in new:
            self.event("slow", words)
        choice = replace(
            self._choice,
            threads={**self._choice.threads, rung: ready["threads"] // lanes},
            lanes={**self._choice.lanes, rung: lanes},
            failures=dict(self.ladder.failures),
            warnings=self._choice.warnings + new,
        )
        self.reporter.house.note_warnings(choice.warnings)
        if choice != self._choice and not self.plan.threads:
            self._choice = choice
            keep_choice(self.plan.state_dir, self._choice_key, choice)

    def _hear(self) -> None:
        worker = self._worker
        if worker is None:
            time.sleep(_TICK_S)
            return
        try:
            message = worker.messages.get(timeout=_TICK_S)
            while self._worker is worker:
                self._on_message(message)
                message = worker.messages.get_nowait()
        except queue.Empty:
            pass

    # -- the run ---------------------------------------------------------------------------------------------

    def _report(self, now_s: float, due_s: float) -> float:
        """Ask for a window when a Reading is due; answer for a worker that cannot. Returns the next due time."""
        if self._asked and now_s > self._asked[1]:
            self._asked = None
            self._publish_window(empty_window(time.monotonic() - self._window_began_s))
        if now_s < due_s:
            return due_s
        if self._worker is not None and self._ready is not None and self._asked is None:
            self._ask(now_s)
        elif self._asked is None:
            self._publish_window(empty_window(time.monotonic() - self._window_began_s))
        step = self.wishes.interval_s(now_s)
        return max(due_s + step, now_s) if now_s - due_s < step else now_s + step

    def run(self) -> int:
        """Run until told to stop, until the time is over or until the source ends.

        Returns:
            Exit code: 0 done, 1 the source or every rung failed.
        """
        begun = time.monotonic()
        self.reporter.start(self.status())
        due_s = begun + self.plan.interval_s
        until = None if self.plan.seconds is None else begun + self.plan.seconds
        try:
            while self._exit is None and not self.stopping:
                self._hear()
                now = time.monotonic()
                if self._exit is None:
                    self._watch(now)
                self._tick_updates(now)
                self._tick_runtime(now)
                pace_s = self._ready["pace_s"] if self._ready else 0.0
                self.reporter.house.beat(now, self._worker.look() if self._worker else None, pace_s)
                self.reporter.tell_links(now)
                due_s = self._report(now, self._listen(now, due_s))
                if until is not None and now >= until:
                    self._exit = 0
            self._last_reading()
        finally:
            if self._worker is not None:
                self._worker.end()
            self._keeper.close()
            self._answering.close()
            if self._updates is not None:
                self._updates.close()
            if self.plan.runtime is not None:
                self.plan.runtime.close()
            for follower in (self._follower, self._runtime_follower):
                if follower is not None:
                    follower.close()
            self.reporter.close(self.status("stopped"))
        return self._exit or 0

    def _last_reading(self) -> None:
        """The window that is still open, so that a short run is reported whole.

        A sliver that a time limit cut off just after a Reading would only look like a board that stopped.
        """
        if self._asked is not None:
            self._await_window()  # It holds this very window; a second question would only split it.
            return
        sliver_s = min(_SLIVER_S, self.plan.interval_s / 4)
        if (
            self.plan.seconds is not None
            and self.reporter.spoken
            and time.monotonic() - self._window_began_s < sliver_s
        ):
            return
        if self._worker is None or self._ready is None:
            self._publish_window(empty_window(time.monotonic() - self._window_began_s))
            return
        self._ask(time.monotonic())
        self._await_window()

    def _await_window(self) -> None:
        while self._asked and self._worker is not None and time.monotonic() < self._asked[1]:
            self._hear()
        if self._asked:
            self._asked = None
            self._publish_window(empty_window(time.monotonic() - self._window_began_s))

    def _ask(self, now_s: float) -> None:
        if self._worker is not None:
            self._asks += 1
            self._asked = (self._asks, now_s + _WINDOW_WAIT_S)
            self._worker.ask_window(self._asks)


def new_boot() -> str:
    """128 random bits that name this start of the supervisor, 32 hex digits."""
    return secrets.token_hex(16)
