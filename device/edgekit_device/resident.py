"""Keeps a board running where systemd is not: a pid file, READY and WATCHDOG as systemd hears them, a new start.

    python -m edgekit_device.resident start|stop|restart|status [--root DIR]

It speaks systemd's own protocol to what it starts, so the service behaves alike under both. /etc/init.d/edgekit-device
calls it at boot, as the user edgekit.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from edgekit_device.status_file import started_ticks

RUN, STATE = "run/edgekit", "var/lib/edgekit"
PID_FILE, LOG_FILE, LAUNCH = "edgekit-device.pid", "service.log", "opt/edgekit/launch"
WATCHDOG_S, STOP_S, RESTART_S = 30.0, 15.0, 2.0
_MAX_LOG_BYTES = 256 << 10
_POLL_S = 0.5


def command_of(root: Path) -> list[str]:
    """What runs the board: the launcher of runtime releases where it was installed, else this runtime itself."""
    launch = root / LAUNCH
    if launch.is_file():
        return [str(launch), "run", "--root", str(root)]
    return [sys.executable, "-m", "edgekit_device", "run", "--root", str(root)]


def alive(root: Path) -> int | None:
    """The process id of the resident that runs; None when there is none."""
    try:
        pid, ticks = (int(word) for word in (root / RUN / PID_FILE).read_text().split())
    except (OSError, ValueError):
        return None
    return pid if started_ticks(pid) == ticks else None


def start(root: Path, command: Sequence[str] | None = None) -> int:
    """Start in the background, unless one runs.

    Returns:
        Exit code: 0 when one runs afterwards.
    """
    if alive(root) is not None:
        return 0
    for folder, mode in ((root / RUN, 0o755), (root / STATE, 0o700)):
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(mode)
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.close(reader)
        _become_daemon(root, writer, list(command or command_of(root)))
    os.close(writer)
    with os.fdopen(reader, "rb") as ready:
        word = ready.read()
    if word != b"ok":
        sys.stderr.write(f"edgekit-device: cannot start: {word.decode(errors='replace') or 'no reason given'}\n")
        return 1
    return 0


def stop(root: Path) -> int:
    """Stop what runs, and wait for its end.

    Returns:
        Exit code: 0 when none runs afterwards.
    """
    pid = alive(root)
    if pid is None:
        return 0
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    until = time.monotonic() + STOP_S + 10.0
    while alive(root) is not None and time.monotonic() < until:
        time.sleep(0.1)
    return 0 if alive(root) is None else 1


class Resident:
    """One child, kept alive.

    Args:
        command: What to run.
        log: Its standard error; None drops it.
        watchdog_s: After READY, the longest silence that is not a hang.
        restart_s: Pause before it is started again.
    """

    def __init__(
        self, command: Sequence[str], log: Path | None = None, watchdog_s: float = WATCHDOG_S, restart_s: float = 2.0
    ) -> None:
        self._command, self._log = list(command), log
        self._watchdog_s, self._restart_s = watchdog_s, restart_s
        self.stopping = False
        self.starts = 0

    def run(self) -> None:
        """Start the child again and again, until told to stop."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as heard:
            # Abstract: nothing to clean up, nobody else's file to overwrite. Such names belong to the network, which
            # containers may share, and process ids do not: hence at random.
            name = f"edgekit-notify-{secrets.token_hex(8)}"
            heard.bind(f"\0{name}")
            heard.settimeout(_POLL_S)
            while not self.stopping:
                child = self._spawn(f"@{name}")
                try:
                    self._watch(child, heard)
                finally:
                    _end(child)
                until = time.monotonic() + self._restart_s
                while not self.stopping and time.monotonic() < until:
                    time.sleep(0.1)

    def _spawn(self, address: str) -> subprocess.Popen[bytes]:
        self.starts += 1
        environment = {**os.environ, "NOTIFY_SOCKET": address, "WATCHDOG_USEC": str(int(self._watchdog_s * 1e6))}
        if self._log is not None and self._log.exists() and self._log.stat().st_size > _MAX_LOG_BYTES:
            self._log.replace(self._log.with_suffix(".log.1"))
        with (self._log or Path(os.devnull)).open("ab") as log:
            return subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=environment,
                start_new_session=True,
            )

    def _watch(self, child: subprocess.Popen[bytes], heard: socket.socket) -> None:
        ready, last_s = False, time.monotonic()
        while child.poll() is None and not self.stopping:
            try:
                words = heard.recv(4096)
            except TimeoutError:
                words = b""
            ready = ready or b"READY=1" in words
            if b"READY=1" in words or b"WATCHDOG=1" in words:
                last_s = time.monotonic()
            if ready and time.monotonic() - last_s > self._watchdog_s:
                return


def _end(child: subprocess.Popen[bytes]) -> None:
    """SIGTERM first: a supervisor that is well hands over what it still holds."""
    if child.poll() is None:
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(STOP_S)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _become_daemon(root: Path, writer: int, command: list[str]) -> None:
    """The child's side of the fork; never returns."""
    try:
        os.setsid()
        if os.fork() > 0:
            os._exit(0)
        null = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)
        os.chdir("/")
        pid = os.getpid()
        fresh = root / RUN / f".new-{PID_FILE}"
        fresh.write_text(f"{pid} {started_ticks(pid)}\n")
        fresh.replace(root / RUN / PID_FILE)
        resident = Resident(command, root / STATE / LOG_FILE)

        def told(signum: int, frame: object) -> None:
            resident.stopping = True

        signal.signal(signal.SIGTERM, told)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        os.write(writer, b"ok")
        os.close(writer)
        resident.run()
        (root / RUN / PID_FILE).unlink(missing_ok=True)
        os._exit(0)
    except BaseException as error:  # A forked child must never return into its parent's code.
        with contextlib.suppress(OSError):
            os.write(writer, str(error).encode()[:500])
        os._exit(1)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point.

    Returns:
        0 done; 1 failed, or for `status` that none runs.
    """
    parser = argparse.ArgumentParser(prog="python -m edgekit_device.resident")
    parser.add_argument("verb", choices=("start", "stop", "restart", "status"))
    parser.add_argument("--root", default="/", type=Path, metavar="DIR")
    args = parser.parse_args(argv)
    if args.verb == "status":
        pid = alive(args.root)
        print(f"pid {pid}" if pid else "not running")
        return 0 if pid else 1
    code = stop(args.root) if args.verb in ("stop", "restart") else 0
    return code or (start(args.root) if args.verb != "stop" else 0)


if __name__ == "__main__":
    sys.exit(main())
