"""The supervisor's end of an errand: a child that fetches and enters a release, and what it says, without waiting."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
import time
from typing import IO, Any

# Nothing said for so long: a golden self-test may take a minute on each rung.
_SILENT_S = 900.0
_END_WAIT_S = 5.0
_LOST = {"end": "refused", "error": "ErrandLostError", "passing": True}


class ErrandProcess:
    """One errand under way.

    Args:
        order: What `errand.main` reads.
    """

    def __init__(self, order: dict[str, Any]) -> None:
        self._lines: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._heard_s = time.monotonic()
        self._over = False
        self._process = subprocess.Popen(
            [sys.executable, "-m", "edgekit_device.ota.errand"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            errors="replace",
        )
        self._hear = threading.Thread(target=self._listen, args=(self._process.stdout,), name="errand", daemon=True)
        self._hear.start()
        try:
            if self._process.stdin is not None:
                # It stays open: its end is how the child learns that nobody waits for it any more.
                self._process.stdin.write(json.dumps(order) + "\n")
                self._process.stdin.flush()
        except OSError:
            pass  # It is dead already; `heard` says so.

    def heard(self) -> list[dict[str, Any]]:
        """What it said since the last time; the last words of all have ``end``."""
        found: list[dict[str, Any]] = []
        # Looked at before the queue: what a dead child has said is in there by then.
        dead = self._process.poll() is not None and not self._hear.is_alive()
        while not self._lines.empty():
            found.append(self._lines.get())
        now_s = time.monotonic()
        if found:
            self._heard_s = now_s
        if self._over or any("end" in words for words in found):
            self._over = True
        elif dead:
            found.append({**_LOST, "reason": f"the process that fetches ended with code {self._process.returncode}"})
            self._over = True
        elif now_s - self._heard_s > _SILENT_S:
            found.append({**_LOST, "reason": f"the process that fetches said nothing for {_SILENT_S:.0f} s"})
            self._over = True
        return found

    def end(self) -> None:
        """Take it away; what it has fetched stays for the next one."""
        if self._process.stdin is not None:
            try:
                self._process.stdin.close()
            except OSError:
                pass
        self._process.kill()
        self._process.wait(_END_WAIT_S)
        self._hear.join(_END_WAIT_S)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _listen(self, lines: IO[str] | None) -> None:
        for line in lines or ():
            try:
                words = json.loads(line)
            except ValueError:
                continue  # Killed in the middle of a line.
            if isinstance(words, dict):
                self._lines.put(words)
