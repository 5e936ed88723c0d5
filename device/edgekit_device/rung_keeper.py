"""Tries lost rungs again, in a process of their own, beside the worker that serves."""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgekit_device.ladder import Ladder
    from edgekit_device.worker_process import WorkerProcess


class RungKeeper:
    """Watches for a better rung that comes back.

    Args:
        ladder: The rungs; its failures and tries are kept up to date here.
        open_probe: Starts a process that opens and proves one rung, then ends.
        limit_s: How long a probe may take.
    """

    def __init__(self, ladder: Ladder, open_probe: Callable[[str], WorkerProcess], limit_s: float) -> None:
        self._ladder, self._open_probe, self._limit_s = ladder, open_probe, limit_s
        self._probe: WorkerProcess | None = None
        self._rung = ""
        self._due_s: float | None = None

    def watch(self, now_s: float) -> str | None:
        """Look after the lost rungs; called while a worker serves.

        Returns:
            A rung that was proved again just now; the ladder has it back already.
        """
        if self._probe is not None:
            return self._judge(self._probe, now_s)
        lost = self._ladder.lost()
        if lost is None:
            self._due_s = None
        elif self._due_s is None:
            self._due_s = now_s + self._ladder.retry_after_s(lost)
        elif now_s >= self._due_s:
            self._rung, self._probe = lost, self._open_probe(lost)
        return None

    def _judge(self, probe: WorkerProcess, now_s: float) -> str | None:
        try:
            message = probe.messages.get_nowait()
        except queue.Empty:
            message = {}
        if message.get("type") == "ready":
            # Its end frees the device for the worker that follows.
            self.close()
            self._due_s = None
            self._ladder.regain(self._rung)
            return self._rung
        why = message.get("reason") if message.get("type") == "failed" else None
        cause = probe.exit_cause()
        if why is None and cause is not None:
            why = f"the probe died ({cause}{': ' + words if (words := probe.last_words()) else ''})"
        if why is None and now_s - probe.started_s > self._limit_s:
            why = f"the probe was not ready after {self._limit_s:.0f} s"
        if why is not None:
            self.close()
            self._ladder.fail(self._rung, why)
            self._due_s = now_s + self._ladder.retry_after_s(self._rung)
        return None

    def close(self) -> None:
        """End a probe that is under way."""
        probe, self._probe = self._probe, None
        if probe is not None:
            probe.kill()
