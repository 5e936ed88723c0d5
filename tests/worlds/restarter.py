"""Starts a program again whenever it ends, as systemd does: python -m tests.worlds.restarter COMMAND."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from types import FrameType

PAUSE_S = 0.2


def main(command: list[str]) -> int:
    """Until SIGTERM, which is passed on."""
    ended = False
    process: subprocess.Popen[bytes] | None = None

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal ended
        ended = True
        if process is not None and process.poll() is None:
            process.send_signal(number)

    signal.signal(signal.SIGTERM, stop)
    code = 0
    while not ended:
        process = subprocess.Popen(command)
        code = process.wait()
        sys.stderr.write(f"restarter: {process.pid} ended with {code}\n")
        sys.stderr.flush()
        time.sleep(float(os.environ.get("RESTART_S", PAUSE_S)))
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
