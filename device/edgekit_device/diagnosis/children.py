"""Try something in a child process: it may crash, hang or write what it likes, and that is a finding.

A child is a bare `python -c`, so that an import that kills the process kills nothing else.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from edgekit_device.exit_signal import signal_name

_MARK = "edgekit-answer:"
_LAST = 300
_KILL_WAIT_S = 2.0


class Answer(NamedTuple):
    """What came of a child.

    Attributes:
        value: What it answered; None when it did not get that far.
        problem: Why there is no answer, in words; None when there is one.
    """

    value: dict[str, Any] | None
    problem: str | None


def ask(
    code: str, *words: str, deadline_s: float, stdin: str = "", pass_fds: Sequence[int] = (), python: str | None = None
) -> Answer:
    """Run a piece of Python in a child and hear its answer.

    Args:
        code: Python that calls ``answer({...})`` once; `sys.argv[1:]` are the words.
        words: Arguments.
        deadline_s: The child is killed after that many seconds.
        stdin: What it may read.
        pass_fds: Descriptors that it inherits.
        python: The interpreter; the one that runs this by default.
    """
    whole = f"import json, sys\ndef answer(v): print('\\n{_MARK}' + json.dumps(v), flush=True)\n{code}"
    try:
        process = subprocess.Popen(
            [python or sys.executable, "-c", whole, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=tuple(pass_fds),
            start_new_session=True,
            text=True,
            errors="replace",
        )
    except OSError as cause:
        return Answer(None, f"cannot be started ({cause.strerror})")
    try:
        out, err = process.communicate(stdin, timeout=deadline_s)
    except subprocess.TimeoutExpired:
        _kill(process)
        return Answer(None, f"hung: no answer within {deadline_s:.0f} s")
    lines = [line.removeprefix(_MARK) for line in out.splitlines() if line.startswith(_MARK)]
    if lines:
        try:
            value = json.loads(lines[-1])
            return Answer(value, None) if isinstance(value, dict) else Answer(None, "gave no answer")
        except ValueError:
            return Answer(None, "gave no answer")
    last = ([line for line in err.splitlines() if line.strip()] or [""])[-1].strip()[:_LAST]
    return Answer(None, f"{_ending(process.returncode)}{': ' + last if last else ''}")


def _ending(code: int) -> str:
    name = signal_name(code)
    return f"crashed with {name}" if name else f"ended with exit code {code}"


def _kill(process: subprocess.Popen[str]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    try:
        # Its pipes may be held by a grandchild that left the session; they are not waited for.
        process.wait(_KILL_WAIT_S)
    except subprocess.TimeoutExpired:
        pass
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
