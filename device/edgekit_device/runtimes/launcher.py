#!/usr/bin/python3 -I
"""Starts the board's runtime: the one that passed, or the new one on trial with somebody watching from outside.

A copy of this file lies at /opt/edgekit/launch and is what systemd or the pid-file supervisor starts, so it needs
nothing but the system's Python: a runtime that cannot even be imported must not keep the board from going back.

    /opt/edgekit/venv                     the runtime that `edgekit flash` made first; never changed, never on trial
    /opt/edgekit/runtimes/<id>/venv       releases
    /opt/edgekit/runtime -> runtimes/<id>/venv, or venv          which should run: a wish
    /opt/edgekit/runtimes.json            what became of each: on trial, committed or rejected

A start on trial is counted in the journal before it begins; what cannot be written is not tried. Rules: docs/adr/0011.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

VERSION = 1
"""Of what a release and this file expect of each other; a release names the least that it needs."""
LINK, FOLDER, BASE, JOURNAL, LOCK = "runtime", "runtimes", "venv", "runtimes.json", ".runtimes.lock"
PENDING, COMMITTED, REJECTED = "pending", "committed", "rejected"
MAX_ATTEMPTS = 3
WITHIN_S = 300.0
RUNNING, WANTED, BLOCKED = "EDGEKIT_RUNTIME", "EDGEKIT_RUNTIME_WANTED", "EDGEKIT_RUNTIME_BLOCKED"
"""Environment of what is started: the id that runs, the id that the link named, and why that was not tried."""
_GRACE_S, _KILL_S, _LOCK_S = 15.0, 10.0, 5.0
_MAX_BYTES = 1 << 20
_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


class Choice(NamedTuple):
    """What to start.

    Attributes:
        runtime: A release's id; empty for the one that flash made.
        on_trial: Whether this start is an attempt.
        journal: What to write first; None when nothing changes.
        relink: Whether the link has to be pointed to `runtime`.
    """

    runtime: str
    on_trial: bool = False
    journal: dict[str, Any] | None = None
    relink: bool = False


def read_journal(home: Path) -> dict[str, Any]:
    """``{"releases": {id: {...}}, ...}``; empty where the file is missing or damaged: all is then tried again."""
    try:
        with (home / JOURNAL).open("rb") as file:
            found = json.loads(file.read(_MAX_BYTES))
        releases = {str(name): dict(record) for name, record in found["releases"].items()}
        for record in releases.values():
            if record["state"] not in (PENDING, COMMITTED, REJECTED):
                raise ValueError(record["state"])
            record["attempts"], record["entered"] = int(record["attempts"]), int(record["entered"])
            record["within_s"] = float(record["within_s"])
        return {**found, "releases": releases}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {"schema": 1, "releases": {}}


def write_journal(home: Path, journal: Mapping[str, Any]) -> None:
    """Replace the journal durably: at every instant it is the old one or the new one.

    Raises:
        OSError: The disk refuses; the journal is as it was.
    """
    temporary = home / f".new-{JOURNAL}"
    try:
        descriptor = os.open(temporary, _NEW, 0o644)
        try:
            left = memoryview((json.dumps(journal, sort_keys=True) + "\n").encode())
            while left:
                left = left[os.write(descriptor, left) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.rename(home / JOURNAL)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _sync(home)


def point(home: Path, runtime: str) -> None:
    """Make the link name a release, or with an empty id the runtime that flash made.

    Raises:
        OSError: The disk refuses; the link is as it was.
    """
    temporary = home / f".new-{LINK}"
    try:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        temporary.symlink_to(f"{FOLDER}/{runtime}/venv" if runtime else BASE)
        temporary.rename(home / LINK)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _sync(home)


@contextlib.contextmanager
def journal_lock(home: Path) -> Iterator[None]:
    """Nobody else reads the journal in order to write it; held for moments only.

    Raises:
        OSError: The disk refuses, or somebody has held it for longer than is sane.
    """
    descriptor = os.open(home / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        until = time.monotonic() + _LOCK_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)


def wanted(home: Path) -> str:
    """The id that the link names; empty for the runtime that flash made."""
    try:
        parts = (home / LINK).readlink().parts
    except OSError:
        return ""
    return parts[1] if len(parts) == 3 and (parts[0], parts[2]) == (FOLDER, "venv") else ""


def python_of(home: Path, runtime: str) -> Path:
    """The interpreter of a runtime."""
    return (home / FOLDER / runtime / "venv" if runtime else home / BASE) / "bin" / "python"


def trusted(journal: Mapping[str, Any], but: str, there: Callable[[str], bool]) -> str:
    """The committed release that was entered last, other than `but`; empty for the runtime that flash made."""
    known = [
        (record["entered"], name)
        for name, record in journal["releases"].items()
        if name != but and record["state"] == COMMITTED and there(name)
    ]
    return max(known)[1] if known else ""


def choose(journal: Mapping[str, Any], wish: str, there: Callable[[str], bool], at: str) -> Choice:
    """Decide what to start; pure but for `there`.

    Args:
        journal: As read.
        wish: What the link names.
        there: Whether a release's interpreter can be started.
        at: Now, for a verdict.
    """
    back = trusted(journal, wish, there)
    record = journal["releases"].get(wish)
    if not wish:
        return Choice("")
    if not there(wish):
        return Choice(back, relink=record is None or record["state"] != COMMITTED)
    if record is None:  # The journal was lost with the card's sector; the release is whole: try it.
        record = {"state": PENDING, "attempts": 0, "entered": 0, "within_s": WITHIN_S, "sha256": "", "reason": None}
    if record["state"] == COMMITTED:
        return Choice(wish)
    if record["state"] == REJECTED:
        return Choice(back, relink=True)
    if record["attempts"] >= MAX_ATTEMPTS:
        why = f"it was started {MAX_ATTEMPTS} times and never passed ({record.get('note') or 'cut off each time'})"
        return Choice(back, journal=_with(journal, wish, {**record, **_rejected(why, at)}), relink=True)
    counted = {**record, "attempts": record["attempts"] + 1}
    return Choice(wish, on_trial=True, journal=_with(journal, wish, counted))


def change(home: Path, runtime: str, **values: Any) -> bool:
    """Change one release's record while it is on trial.

    Returns:
        Whether it was on trial still.

    Raises:
        OSError: The disk refuses; the journal is as it was.
    """
    with journal_lock(home):
        journal = read_journal(home)
        record = journal["releases"].get(runtime)
        if record is None or record["state"] != PENDING:
            return False
        write_journal(home, _with(journal, runtime, {**record, **values}))
    return True


def reject(home: Path, runtime: str, why: str) -> bool:
    """Write down that a release on trial did not pass; the link follows at the next start."""
    return change(home, runtime, **_rejected(why, now_text()))


def now_text() -> str:
    """UTC now, as it stands in the journal."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def prepare(home: Path) -> tuple[str, float | None, str, str | None]:
    """Choose, and write down what was chosen.

    Returns:
        (the id to start, seconds that its trial may take or None, what the link named, why that was not tried).
    """

    def there(name: str) -> bool:
        return os.access(python_of(home, name), os.X_OK)

    wish = wanted(home)
    try:
        with journal_lock(home):
            journal, wish = read_journal(home), wanted(home)
            choice = choose(journal, wish, there, now_text())
            if choice.journal is not None:
                write_journal(home, choice.journal)
            if choice.relink:
                point(home, choice.runtime)
    except OSError as error:
        journal = read_journal(home)
        if wish and journal["releases"].get(wish, {}).get("state") == COMMITTED and there(wish):
            return wish, None, wish, None
        return trusted(journal, wish, there), None, wish, f"{wish} was not started: {error}"
    within_s = (choice.journal or journal)["releases"][wish]["within_s"] if choice.on_trial else None
    return choice.runtime, within_s, wish, None


def guard(home: Path, runtime: str, within_s: float) -> None:
    """Leave a process behind that ends this one's successor when it has not passed in time.

    It survives whatever the new runtime does, because it shares nothing with it but the journal.
    """
    process = os.pidfd_open(os.getpid())
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        os.close(process)
        return
    if os.fork():
        os._exit(0)
    try:
        _watch(home, runtime, within_s, process)
    finally:
        os._exit(0)


def _watch(home: Path, runtime: str, within_s: float, process: int) -> None:
    begun, ended = time.monotonic(), select.poll()
    ended.register(process, select.POLLIN)
    limit_s = within_s + _GRACE_S
    while time.monotonic() - begun < limit_s:
        if ended.poll(1000):
            with contextlib.suppress(OSError):
                change(home, runtime, note=f"it ended by itself after {time.monotonic() - begun:.1f} s")
            return
        if read_journal(home)["releases"].get(runtime, {}).get("state") == COMMITTED:
            return
    with contextlib.suppress(OSError):
        if not reject(home, runtime, f"it hangs: no verdict {limit_s:.0f} s after its start"):
            return
    # Even when the disk refused: a process that hangs is no runtime, and the attempt is counted.
    signal.pidfd_send_signal(process, signal.SIGTERM)
    if not ended.poll(_KILL_S * 1000):
        signal.pidfd_send_signal(process, signal.SIGKILL)


def main(words: list[str], home: Path) -> None:
    """Become the runtime; comes back only when not even the one that flash made can be started."""
    runtime, within_s, wish, blocked = prepare(home)
    if blocked:
        sys.stderr.write(f"edgekit launch: {blocked}\n")
    environ = {name: text for name, text in os.environ.items() if name not in (RUNNING, WANTED, BLOCKED)}
    environ |= {RUNNING: runtime, WANTED: wish, **({BLOCKED: blocked} if blocked else {})}
    if within_s is not None:
        sys.stderr.write(f"edgekit launch: {runtime} on trial, {within_s:.0f} s\n")
        guard(home, runtime, within_s)
    for name in dict.fromkeys((runtime, trusted(read_journal(home), runtime, lambda name: True), "")):
        python = str(python_of(home, name))
        try:
            os.execve(python, [python, "-P", "-m", "edgekit_device", *words], {**environ, RUNNING: name})  # noqa: S606
        except OSError as error:
            sys.stderr.write(f"edgekit launch: {python}: {error.strerror}\n")
    sys.stderr.write("edgekit launch: no runtime can be started; flash this board again: edgekit flash BUNDLE TARGET\n")


def _with(journal: Mapping[str, Any], name: str, record: Mapping[str, Any]) -> dict[str, Any]:
    return {**journal, "releases": {**journal["releases"], name: dict(record)}}


def _rejected(why: str, at: str) -> dict[str, Any]:
    return {"state": REJECTED, "attempts": 0, "reason": why[:400], "at": at}


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    main(sys.argv[1:], Path(__file__).resolve().parent)
    sys.exit(1)
