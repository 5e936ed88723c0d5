"""Run a board's own tool with a deadline: whatever it does, the caller gets text or None, in time."""

from __future__ import annotations

import os
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from threading import Event

DEADLINE_S = 1.5
_MAX_OUTPUT_BYTES = 64 * 1024
_SLICE_S = 0.1
_REAP_S = 0.2


class ToolRunner:
    """Runs tools one after the other, and never a second one while a first cannot be ended.

    A process that waits inside the kernel, as vcgencmd does on a firmware that does not answer, survives SIGKILL for
    as long; starting it again and again would fill the process table.
    """

    def __init__(self, deadline_s: float = DEADLINE_S, stop: Event | None = None) -> None:
        self.deadline_s = deadline_s
        self._stop = stop or Event()
        self._undead: subprocess.Popen[bytes] | None = None

    def ask(self, command: Sequence[str]) -> str | None:
        """What a tool prints to stdout.

        Args:
            command: Program and arguments.

        Returns:
            Its text; None when it is missing, fails, prints too much or nothing, or is not done in time.
        """
        if self._undead is not None and self._undead.poll() is None:
            return None
        self._undead = None
        program = shutil.which(command[0])
        if program is None:
            return None
        try:
            process = subprocess.Popen(
                [program, *command[1:]],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except (OSError, ValueError):
            return None
        try:
            output = self._read(process)
            return None if output is None else output.decode("utf-8", "replace")
        finally:
            self._end(process)

    def _read(self, process: subprocess.Popen[bytes]) -> bytes | None:
        """All output of a process that ended well in time; None otherwise."""
        stdout, found = process.stdout, b""
        if stdout is None:
            return None
        until = time.monotonic() + self.deadline_s
        with selectors.DefaultSelector() as ready:
            ready.register(stdout, selectors.EVENT_READ)
            while (left := until - time.monotonic()) > 0 and not self._stop.is_set():
                if not ready.select(min(left, _SLICE_S)):
                    continue
                piece = os.read(stdout.fileno(), 4096)
                if not piece:
                    try:
                        code = process.wait(max(0.01, until - time.monotonic()))
                    except subprocess.TimeoutExpired:
                        return None
                    return found if code == 0 and found else None
                found += piece
                if len(found) > _MAX_OUTPUT_BYTES:
                    return None
        return None

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """End the tool and what it started; never wait for one that does not die."""
        # Once it was waited for, its number may be another's.
        if process.returncode is None:
            try:
                # Its whole session: a shell script's child would hold the pipe and live on.
                os.killpg(process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass
        if process.stdout is not None:
            process.stdout.close()
        try:
            process.wait(_REAP_S)
        except subprocess.TimeoutExpired:
            self._undead = process
