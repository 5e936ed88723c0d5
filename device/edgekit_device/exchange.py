"""The supervisor's side of an update: what a trial asks of it, and how another release comes to serve."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from edgekit_device.answering import Desk
from edgekit_device.ladder import Ladder
from edgekit_device.ota.bundles import BundleGoal
from edgekit_device.ota.follower import Follower
from edgekit_device.ota.runtimes import RuntimeGoal
from edgekit_device.worker_process import WorkerProcess, WorkerSetup

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgekit_device.ground import Release
    from edgekit_device.log_ring import LogRing
    from edgekit_device.reporter import Reporter
    from edgekit_device.run_plan import RunPlan
    from edgekit_device.rung_keeper import RungKeeper
    from edgekit_device.updates import Updates


class Exchange:
    """The part of a supervisor that `ground.Host` describes; the rest of it gives what is declared here."""

    plan: RunPlan
    ladder: Ladder
    reporter: Reporter
    _keeper: RungKeeper
    _updates: Updates | None
    stopping: bool
    _follower: Follower | None
    _runtime_follower: Follower | None
    _worker: WorkerProcess | None
    _ready: dict[str, Any] | None
    _now: dict[str, Any]
    _asked: tuple[int, float] | None
    _failures: int
    _next_start_s: float

    def _take_up(self, plan: RunPlan, ladder: Ladder) -> None:
        raise NotImplementedError

    def _setup(self, rung: str, *, probe: bool = False) -> WorkerSetup:
        raise NotImplementedError

    def _publish_window(self, window: dict[str, Any]) -> None:
        raise NotImplementedError

    def _report_state(self) -> None:
        raise NotImplementedError

    def _announce(self) -> None:
        raise NotImplementedError

    def event(self, kind: str, reason: str | None, **detail: Any) -> None:
        """Send one event and say it on the terminal."""
        raise NotImplementedError

    def _desk(self, log: LogRing, plan: RunPlan) -> Desk:
        """What answers to the host are made from."""

        def ask_worker(number: str) -> bool:
            self.tell("picture", id=number)
            return self._ready is not None

        return Desk(
            log,
            send=lambda document: self.reporter.answer(document),
            note=lambda kind, reason: self.event(kind, reason),
            ask_worker=ask_worker,
            pictures=plan.pictures,
            root=plan.root,
            secrets=plan.secrets,
        )

    @property
    def rung(self) -> str | None:
        """The rung that serves; None while no worker is ready."""
        return self._ready["delegate"] if self._ready else None

    @property
    def layout(self) -> Mapping[str, int]:
        """How the processor is used: ``threads`` of each interpreter, ``lanes`` of them."""
        ready = self._ready or {"threads": 1, "lanes": 1}
        return {"threads": max(1, ready["threads"] // ready["lanes"]), "lanes": ready["lanes"]}

    @property
    def served(self) -> float:
        """Frames served by this worker."""
        return self._worker.look().served if self._worker else 0.0

    @property
    def pace_s(self) -> float:
        """Seconds between frames of the source."""
        return float(self._ready["pace_s"]) if self._ready else 0.0

    def tell(self, cmd: str, **values: Any) -> None:
        """Send a command to the worker."""
        if self._worker is not None:
            self._worker.tell(cmd, **values)

    def adopt(self, release: Release, message: Mapping[str, Any]) -> None:
        """The worker serves this release from now on; what the one before served is reported under its own name."""
        before = self.reporter.who.bundle_id
        if message["window"]["inference_fps"]:
            self._now = message["now"]
            self._publish_window(message["window"])
        self._now = {"label": None, "score": None}
        self._ready = {**(self._ready or {}), **{k: v for k, v in message.items() if k not in ("window", "now")}}
        self._serve(release)
        self.event("model_swapped", f"{before} -> {release.bundle_id} on {message['delegate']}")
        self._announce()

    def restart_with(self, release: Release) -> None:
        """End the worker, if there is one, and start one with this release."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.kill()
        self._ready = self._asked = None
        self._failures, self._next_start_s = 0, 0.0
        self._serve(release)
        self._announce()

    def probe(self, release: Release, rung: str) -> str | None:
        """Prove a rung in a process of its own; blocks. Returns why it does not work, or None."""
        setup = replace(self._setup(rung, probe=True), **self._of(release), key_id=release.bundle.key_id)
        return WorkerProcess(setup).verdict(self.plan.limits.start_s)

    @staticmethod
    def _of(release: Release) -> dict[str, Any]:
        return {"bundle_data": release.data, "bundle_path": release.path}

    def _serve(self, release: Release) -> None:
        if release.bundle is not self.plan.bundle:
            ladder = Ladder.for_choice(self.ladder.asked, release.bundle.manifest.models)
            ladder.failures = {rung: why for rung, why in self.ladder.failures.items() if rung in ladder.rungs}
            self._keeper.close()
            self._take_up(replace(self.plan, bundle=release.bundle, **self._of(release)), ladder)
            self.reporter.who = replace(self.reporter.who, bundle_id=release.bundle_id)
        if self._updates is not None:
            self._updates.serves(release)

    def _follow(self, plan: RunPlan) -> Follower | None:
        if plan.ground is None:
            return None
        goal = BundleGoal(plan.ground.root, lambda: self.reporter.who.bundle_id)
        return Follower(goal, plan.root, plan.updates, self.event)

    def _follow_runtime(self, plan: RunPlan) -> Follower | None:
        if plan.ground is None or plan.runtime is None:
            return None
        return Follower(RuntimeGoal(plan.ground.root, plan.runtime.runtime), plan.root, plan.updates, self.event)

    def _tick_followers(self, now_s: float) -> None:
        """One at a time, the runtime first: a bundle may need it."""
        bundle, runtime = self._follower, self._runtime_follower
        said = [follower.update for follower in (bundle, runtime) if follower]
        if runtime is not None and not (bundle is not None and bundle.fetches):
            runtime.tick(now_s)
        if bundle is not None and not (runtime is not None and runtime.busy):
            bundle.tick(now_s)
        if [follower.update for follower in (bundle, runtime) if follower] != said:
            self._report_state()

    def _tick_updates(self, now_s: float) -> None:
        self._tick_followers(now_s)
        updates = self._updates
        if updates is None:
            return
        before = updates.state, updates.trouble
        updates.tick(now_s)
        if (updates.state, updates.trouble) != before:
            self._announce()

    def _tick_runtime(self, now_s: float) -> None:
        """Judge the runtime that runs; end when another one is to run, and the launcher starts that."""
        watch = self.plan.runtime
        if watch is None:
            return
        said = watch.tick(now_s, self.reporter.links)
        for kind, reason in said:
            self.event(kind, reason)
        if said:
            self._announce()
        self.stopping = self.stopping or watch.leaving is not None

    def _turn_back(self, kind: str, reason: str) -> bool:
        """A worker died or hung: if that was a model on trial, the next worker has the one before."""
        release = self._updates.lost(kind, reason) if self._updates else None
        if release is None:
            return False
        self._failures, self._next_start_s = 0, 0.0
        self._serve(release)
        return True
