"""Judge many images on all cores: one process a core, each with its own interpreter on one thread.

Processes and not threads, because a crafted image may hang a decoder or end its process; then the image is named and
a new process goes on with the next.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from edgekit.errors import RungError, UsageError
from edgekit_device.contract.preprocess import Preprocess
from edgekit_device.exit_signal import ending

DECODE_S = 2.0
"""Of processor time. Decoding 35 megapixels takes half a second; what takes longer than this is an attack."""
MEMORY_BYTES = 256_000_000
# Orders in a process's pipe beside the one it works on: it never waits for the next. Few at the end, so that all end
# together.
_MOST_AHEAD, _LEAST_AHEAD = 64, 2
# This process looks up so often; waking for every answer took a tenth of the cores from those who judge.
_NAP_S = 0.01
_START_S = 120.0
# Every picture's memory would go back to the kernel and come again page by page: 0.5 ms a picture of 500 pixels.
_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(8 << 20), "MALLOC_TRIM_THRESHOLD_": str(32 << 20)}

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Judged:
    """What became of one image.

    Attributes:
        sha256: Of the file; empty if it was skipped.
        models: One ``{"top"}`` a model, with ``entropy`` and ``margin`` for the first; empty if it was skipped.
        reason: Why it was skipped; None if it was judged.
    """

    sha256: str
    models: tuple[dict[str, Any], ...]
    reason: str | None


def judge_images(
    files: Sequence[Path],
    models: Sequence[tuple[bytes, Preprocess]],
    *,
    processes: int | None = None,
    decode_s: float = DECODE_S,
    progress: Progress | None = None,
) -> list[Judged]:
    """Run models on images, on all cores.

    Args:
        files: Image files.
        models: (bytes of the .tflite, its preprocessing); all see the same decoded pixels.
        processes: How many; one a core that this process may use by default.
        decode_s: Seconds of processor time after which decoding one image is given up.
        progress: Called with ("evaluate", done, total).

    Returns:
        One for each file, in the same order.

    Raises:
        RungError: A model cannot be run here.
        UsageError: The models have different numbers of classes.
    """
    count = max(1, min(processes or len(os.sched_getaffinity(0)), len(files)))
    found: dict[int, Judged] = {}
    waiting = deque(range(len(files)))
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as ready:

        def hire() -> None:
            member = stack.enter_context(contextlib.closing(_Member(models, decode_s)))
            ready.register(member.answers, selectors.EVENT_READ, member)

        for _ in range(count):
            hire()
        while len(found) < len(files):
            events = ready.select(_START_S)
            if not events:
                raise RungError("xnnpack", f"no answer in {_START_S:.0f} s")
            for key, _ in events:
                member: _Member = key.data
                alive = member.listen(found)
                if alive:
                    ahead = max(_LEAST_AHEAD, min(_MOST_AHEAD, len(waiting) // (4 * count)))
                    member.order(waiting, files, ahead)
                    continue
                ready.unregister(member.answers)
                waiting.extendleft(reversed(member.bury(found)))
                if waiting:
                    hire()
            if progress:
                progress("evaluate", len(found), len(files))
            if len(found) < len(files):
                time.sleep(_NAP_S)
    return [found[at] for at in range(len(files))]


class _Member:
    """One process: what it was told to do, and what it has answered."""

    def __init__(self, models: Sequence[tuple[bytes, Preprocess]], decode_s: float) -> None:
        # The child must find the packages the parent found, however those got onto its path.
        path = os.pathsep.join(str(Path(p).absolute()) for p in sys.path)
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._child = subprocess.Popen(
            [sys.executable, "-m", "edgekit.verification.judging"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, **_ALLOCATOR, "PYTHONPATH": path},
        )
        assert self._child.stdin and self._child.stdout
        self._orders, self.answers = self._child.stdin, self._child.stdout
        os.set_blocking(self.answers.fileno(), False)
        self._decode_s = decode_s
        self._told: deque[int] = deque()
        self._rest = b""
        self._started = False
        settings = {
            "models": [len(data) for data, _ in models],
            "preprocess": [spec.to_json() for _, spec in models],
            "decode_s": decode_s,
            "memory_bytes": MEMORY_BYTES,
        }
        self._send(json.dumps(settings).encode("ascii") + b"\n" + b"".join(data for data, _ in models))

    def listen(self, found: dict[int, Judged]) -> bool:
        """Take the answers that have come; False once the process has ended."""
        with contextlib.suppress(BlockingIOError):
            chunk = os.read(self.answers.fileno(), 1 << 16)
            if not chunk:
                return False
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            for line in lines:
                self._take(json.loads(line), found)
        return True

    def _take(self, document: dict[str, Any], found: dict[int, Judged]) -> None:
        if "error" in document:
            raise RungError("xnnpack", document["error"])
        if "classes" in document:
            if len(set(document["classes"])) > 1:
                numbers = " and ".join(map(str, document["classes"]))
                raise UsageError(f"the models have {numbers} classes: not the same task")
            self._started = True
            return
        at = self._told.popleft()
        assert at == document["at"]
        judged = tuple(document.get("models", ()))
        found[at] = Judged(document.get("sha256", ""), judged, document.get("reason"))

    def order(self, waiting: deque[int], files: Sequence[Path], ahead: int) -> None:
        """Keep its pipe filled."""
        lines = []
        while self._started and waiting and len(self._told) <= ahead:
            at = waiting.popleft()
            self._told.append(at)
            # JSON keeps file names that are not UTF-8: they come as lone surrogates.
            lines.append(json.dumps([at, os.fspath(files[at])]).encode("ascii") + b"\n")
        if lines:
            self._send(b"".join(lines))

    def bury(self, found: dict[int, Judged]) -> list[int]:
        """Name the image that ended the process.

        Returns:
            What it had been told and not begun.

        Raises:
            RungError: It ended before its first image: the model, or the installation.
        """
        code = self._child.wait()
        if not self._started or not self._told:
            raise RungError("xnnpack", f"the process that judges images {ending(code)}{self._last_words()}")
        culprit = self._told.popleft()
        reason = (
            f"decoding takes over {self._decode_s:g} s" if code == -signal.SIGPROF else f"judging it {ending(code)}"
        )
        found[culprit] = Judged("", (), reason)
        return list(self._told)

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read()[-4096:].decode("utf-8", "replace").strip().splitlines()
        return f" ({lines[-1][:200]})" if lines else ""

    def _send(self, data: bytes) -> None:
        # A process that has ended is noticed by its answers.
        with contextlib.suppress(BrokenPipeError):
            self._orders.write(data)
            self._orders.flush()

    def close(self) -> None:
        """End the process if it has not ended."""
        with contextlib.suppress(BrokenPipeError):
            self._orders.close()
        if self._child.poll() is None:
            self._child.kill()
        self._child.wait()
        self.answers.close()
        self._errors.close()
