"""The supervisor: starts the worker, hears it, restarts it with the cause named, and reports.

It imports neither OpenCV nor an interpreter. Whatever ends or wedges the worker, the Readings go on: with FPS 0
and the reason in status and events, until frames flow again.
"""

from __future__ import annotations

import os
import queue
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit_device import health
from edgekit_device.contract.clock import utc_text
from edgekit_device.contract.telemetry import STEPS, Event, Reading, Result, Status
from edgekit_device.contract.topics import EVENT, RESULT, TELEMETRY
from edgekit_device.meter import BINS, quantiles_ms
from edgekit_device.watchdog import Limits, backoff_s, stuck
from edgekit_device.worker_process import WorkerProcess, WorkerSetup

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgekit_device.bundle import Bundle
    from edgekit_device.ladder import Ladder
    from edgekit_device.publish.outlet import Outlet
    from edgekit_device.sources.frame import SourceOptions

_TICK_S = 0.05
_WINDOW_WAIT_S = 1.5
_SLIVER_S = 0.5


@dataclass(frozen=True)
class RunPlan:
    """What one run is to do.

    Attributes:
        interval_s: Seconds between Readings.
        seconds: Stop after that long; None runs until told.
        endless: The source is a device: when it cannot be opened, keep trying.
    """

    bundle: Bundle
    bundle_data: bytes = field(repr=False)
    bundle_path: str
    source: str
    options: SourceOptions
    threads: int
    site: str
    device: str
    interval_s: float = 30.0
    seconds: float | None = None
    endless: bool = False
    state_dir: Path = Path("/var/lib/edgekit")
    limits: Limits = field(default_factory=Limits)


class Supervisor:
    """One run of one board, from the first worker to the last Reading."""

    def __init__(
        self, plan: RunPlan, ladder: Ladder, outlets: Sequence[Outlet], boot: str, say: Callable[[str], None]
    ) -> None:
        self.plan, self.ladder, self.outlets, self.boot, self.say = plan, ladder, outlets, boot, say
        self.stopping = False
        self._worker: WorkerProcess | None = None
        self._ready: dict[str, Any] | None = None
        self._failures = self._restarts = 0
        self._next_start_s = 0.0
        self._trouble: str | None = None
        self._seq = 0
        self._now: dict[str, Any] = {"label": None, "score": None}
        self._exit: int | None = None
        self._asked: tuple[int, float] | None = None
        self._asks = 0
        self._window_began_s = time.monotonic()

    # -- documents -------------------------------------------------------------------------------------------

    def status(self, state: str = "online") -> bytes:
        """The status document as it stands now."""
        delegate = self._ready["delegate"] if self._ready else None
        reason = "; ".join(part for part in (self._trouble, self.ladder.reason) if part) or None
        return Status(state, self.boot, self.plan.bundle.manifest.bundle_id, delegate, reason).to_bytes()

    def _announce(self) -> None:
        for outlet in self.outlets:
            outlet.announce(self.status())

    def _take_seq(self) -> int:
        self._seq += 1
        return self._seq - 1

    def event(self, kind: str, reason: str | None, **detail: Any) -> None:
        """Send one event and say it on the terminal."""
        self.say(f"{kind}: {reason}" if reason else kind)
        document = Event(self.boot, self._take_seq(), utc_text(), kind, reason, detail).to_bytes()
        for outlet in self.outlets:
            outlet.send(EVENT, document)

    def _publish_window(self, window: dict[str, Any]) -> None:
        plan, ready = self.plan, self._ready or {}
        pids = [os.getpid()] + ([self._worker.pid] if self._worker else [])
        reading = Reading(
            site=plan.site,
            device=plan.device,
            boot=self.boot,
            seq=self._take_seq(),
            at=utc_text(),
            clock=health.clock(),
            source=plan.source,
            bundle=plan.bundle.manifest.bundle_id,
            delegate=ready.get("delegate"),
            delegate_reason=self.ladder.reason,
            threads=ready.get("threads"),
            **window,
            **health.snapshot(plan.state_dir, *pids),
            **(self._now if window["inference_fps"] else {}),
        )
        self._window_began_s = time.monotonic()
        for outlet in self.outlets:
            outlet.send(TELEMETRY, reading.to_bytes())

    def _empty_window(self) -> dict[str, Any]:
        return {
            "window_s": round(time.monotonic() - self._window_began_s, 3),
            "fps": 0.0,
            "capture_fps": 0.0,
            "inference_fps": 0.0,
            "frames_dropped": 0,
            "latency_ms": {step: quantiles_ms(()) for step in STEPS},
            "class_counts": {},
            "entropy_hist": (0,) * BINS,
            "margin_hist": (0,) * BINS,
        }

    # -- the worker ------------------------------------------------------------------------------------------

    def _start_worker(self) -> None:
        plan = self.plan
        rung = self.ladder.current
        if rung is None:
            self.ladder.retry()
            rung = self.ladder.rungs[0]
        self._ready = None
        self._worker = WorkerProcess(
            WorkerSetup(
                bundle_data=plan.bundle_data,
                bundle_path=plan.bundle_path,
                key_id=plan.bundle.key_id,
                source=plan.source,
                options=plan.options,
                delegate=rung,
                threads=plan.threads,
            )
        )

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
        if not self.plan.endless:
            self._exit = 1
        self._trouble = f"model_failed: {why}"
        self._announce()

    def _on_message(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "ready":
            self._ready = message
            self._trouble = None
            golden = message["golden"]
            self.say(
                f"serving {self.plan.bundle.manifest.bundle_id} on {message['delegate']} "
                f"({message['interpreter']}, {message['threads']} threads); {golden['images']} golden images "
                f"reproduced within {golden['largest_difference']:.4f} (tolerance {golden['tolerance']:.4f})"
            )
            self._announce()
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
            document = Result(message["label"], message["score"], message["decision"]).to_bytes()
            for outlet in self.outlets:
                outlet.send(RESULT, document)
        elif kind == "end":
            self._on_end(message["error"])

    def _source_failed(self, reason: str) -> None:
        self._lost("camera_missing" if self.plan.endless else "source_failed", reason)
        if not self.plan.endless:
            self._exit = 1

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
            if now_s - worker.started_s > self.plan.limits.start_s:
                self._rung_failed(f"not ready after {self.plan.limits.start_s:.0f} s")
            return
        why = stuck(
            worker.look(), now_s, live=self._ready["live"], pace_s=self._ready["pace_s"], limits=self.plan.limits
        )
        if why:
            kind, _, reason = why.partition(": ")
            self._lost(kind, reason)

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
            self._publish_window(self._empty_window())
        if now_s < due_s:
            return due_s
        if self._worker is not None and self._ready is not None and self._asked is None:
            self._asks += 1
            self._asked = (self._asks, now_s + _WINDOW_WAIT_S)
            self._worker.ask_window(self._asks)
        elif self._asked is None:
            self._publish_window(self._empty_window())
        step = self.plan.interval_s
        return max(due_s + step, now_s) if now_s - due_s < step else now_s + step

    def run(self) -> int:
        """Run until told to stop, until the time is over or until the source ends.

        Returns:
            Exit code: 0 done, 1 the source or every rung failed.
        """
        begun = time.monotonic()
        for outlet in self.outlets:
            outlet.start(self.status())
        due_s = begun + self.plan.interval_s
        until = None if self.plan.seconds is None else begun + self.plan.seconds
        try:
            while self._exit is None and not self.stopping:
                self._hear()
                now = time.monotonic()
                if self._exit is None:
                    self._watch(now)
                due_s = self._report(now, due_s)
                if until is not None and now >= until:
                    self._exit = 0
            self._last_reading()
        finally:
            if self._worker is not None:
                self._worker.end()
            for outlet in self.outlets:
                outlet.close(self.status("stopped"))
        return self._exit or 0

    def _last_reading(self) -> None:
        """The window that is still open, so that a short run is reported whole.

        A sliver that a time limit cut off just after a Reading would only look like a board that stopped.
        """
        sliver_s = min(_SLIVER_S, self.plan.interval_s / 4)
        if self.plan.seconds is not None and self._seq and time.monotonic() - self._window_began_s < sliver_s:
            return
        if self._worker is not None and self._ready is not None:
            self._asks += 1
            self._asked = (self._asks, time.monotonic() + _WINDOW_WAIT_S)
            self._worker.ask_window(self._asks)
            while self._asked and time.monotonic() < self._asked[1] and self._worker is not None:
                self._hear()
        if self._worker is None or self._asked:
            self._publish_window(self._empty_window())


def new_boot() -> str:
    """128 random bits that name this start of the supervisor, 32 hex digits."""
    return secrets.token_hex(16)
