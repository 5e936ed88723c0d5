"""The supervisor's handle on one worker process: start it, hear it, watch it, end it."""

from __future__ import annotations

import collections
import json
import os
import queue
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from edgekit_device.exit_signal import signal_name
from edgekit_device.progress import Progress, Snapshot, sealed_memory

if TYPE_CHECKING:
    from edgekit_device.preview_address import PreviewAddress
    from edgekit_device.sources.frame import SourceOptions

_STDERR_LINES = 40
_STOP_WAIT_S = 2.0
_PROBE_LOOK_S = 0.1


@dataclass(frozen=True)
class WorkerSetup:
    """Everything a worker is told; plain values, because it crosses a process border.

    Attributes:
        threads: Threads of each interpreter; 0 measures which are right, at most `most_threads`.
        lanes: Interpreters side by side, where `threads` is given.
        mode: ``throughput`` or ``latency``.
        probe: Only open and prove the rung, say so, and end.
        pictures: Whether the worker may give a picture when it is asked for one.
    """

    bundle_data: bytes = field(repr=False)
    bundle_path: str
    key_id: str
    source: str
    options: SourceOptions
    delegate: str
    threads: int
    most_threads: int = 1
    probe: bool = False
    preview: PreviewAddress | None = None
    lanes: int = 1
    mode: str = "throughput"
    pictures: bool = False


class WorkerProcess:
    """One running worker.

    Attributes:
        messages: What the worker said, oldest first.
        started_s: Monotonic start time.
    """

    def __init__(self, setup: WorkerSetup) -> None:
        self.messages: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self.started_s = time.monotonic()
        self._progress = Progress.create()
        self._stderr: collections.deque[str] = collections.deque(maxlen=_STDERR_LINES)
        bundle_fd = sealed_memory("edgekit-bundle", setup.bundle_data)
        read_fd, write_fd = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "edgekit_device.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(bundle_fd, write_fd, self._progress.fd),
                text=True,
                errors="replace",
            )
        except OSError:
            os.close(read_fd)
            self._progress.close()
            raise
        finally:
            os.close(bundle_fd)
            os.close(write_fd)
        self._hear = threading.Thread(target=self._listen, args=(read_fd,), name="worker-messages", daemon=True)
        self._note = threading.Thread(target=self._take_notes, name="worker-stderr", daemon=True)
        self._hear.start()
        self._note.start()
        self._send(
            {
                "bundle_fd": bundle_fd,
                "message_fd": write_fd,
                "progress_fd": self._progress.fd,
                "bundle_path": setup.bundle_path,
                "key_id": setup.key_id,
                "source": setup.source,
                "options": {k: v for k, v in asdict(setup.options).items() if k not in ("faults", "photos")},
                "faults": list(setup.options.faults),
                "delegate": setup.delegate,
                "threads": setup.threads,
                "most_threads": setup.most_threads,
                "lanes": setup.lanes,
                "mode": setup.mode,
                "probe": setup.probe,
                "pictures": setup.pictures,
                "preview": None if setup.preview is None else asdict(setup.preview),
            }
        )

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def _listen(self, fd: int) -> None:
        with os.fdopen(fd, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                try:
                    self.messages.put(json.loads(line))
                except ValueError:
                    continue  # A worker killed in the middle of a line leaves half of one.

    def _take_notes(self) -> None:
        stderr = self._process.stderr
        if stderr is None:
            return
        for line in stderr:
            self._stderr.append(line.rstrip())
            if os.environ.get("EDGEKIT_DEBUG"):
                sys.stderr.write(f"worker: {line}")

    def _send(self, document: dict[str, Any]) -> None:
        stdin = self._process.stdin
        try:
            if stdin is not None:
                stdin.write(json.dumps(document) + "\n")
                stdin.flush()
        except (OSError, ValueError):
            pass  # It is dead or dying; `exit_cause` will say why.

    def ask_window(self, number: int) -> None:
        """Ask for the current window; the answer comes as a message with that id."""
        self._send({"cmd": "window", "id": number})

    def tell(self, cmd: str, **values: Any) -> None:
        """Send a command; what it comes to arrives as messages."""
        self._send({"cmd": cmd, **values})

    def verdict(self, limit_s: float) -> str | None:
        """Wait for a probe to end. Returns why the rung does not work, or None if it does."""
        try:
            while time.monotonic() < self.started_s + limit_s:
                cause = self.exit_cause()
                try:
                    message = self.messages.get(timeout=_PROBE_LOOK_S)
                except queue.Empty:
                    if cause is not None:
                        return f"the probe died ({cause}: {self.last_words()})"
                    continue
                if message["type"] in ("ready", "failed"):
                    return None if message["type"] == "ready" else str(message["reason"])
            return f"the probe was not ready after {limit_s:.0f} s"
        finally:
            self.kill()

    def look(self) -> Snapshot:
        """Where the worker is now, without asking it."""
        return self._progress.look()

    def last_words(self) -> str:
        """The last line that the worker wrote to stderr that is no routine message."""
        lines = [line for line in self._stderr if line and not line.startswith(("INFO:", "W0000", "I0000"))]
        return lines[-1][:200] if lines else ""

    def exit_cause(self) -> str | None:
        """Why the worker ended, in words; None while it runs or while its last messages are unread."""
        code = self._process.poll()
        if code is None or self._hear.is_alive() or not self.messages.empty():
            return None
        return signal_name(code) or f"exit code {code}"

    def end(self) -> None:
        """End the worker, kindly first, and leave nothing behind."""
        self._send({"cmd": "stop"})
        if self._process.stdin is not None:
            try:
                self._process.stdin.close()
            except OSError:
                pass
        try:
            self._process.wait(_STOP_WAIT_S)
        except subprocess.TimeoutExpired:
            pass
        self.kill()

    def kill(self) -> None:
        """End the worker now: SIGKILL is the only signal that a hung native call obeys."""
        self._process.kill()
        self._process.wait()
        self._hear.join(_STOP_WAIT_S)
        self._note.join(_STOP_WAIT_S)
        for stream in (self._process.stdin, self._process.stderr):
            if stream is not None and not stream.closed:
                try:
                    stream.close()
                except OSError:
                    pass
        self._progress.close()
