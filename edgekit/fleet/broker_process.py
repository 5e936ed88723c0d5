"""The embedded broker's own process: run as a file, with the path of its configuration.

It ends when its standard input closes, so it cannot outlive the program that started it. An interrupt from the
keyboard is that program's to handle: the broker must still be there while the last messages are stored.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from pathlib import Path


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    # The parent was killed before it could clean up: its folder holds this configuration and the log, no more.
    config = Path(sys.argv[1])
    for file in (config, config.with_suffix(".log")):
        file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        config.parent.rmdir()
    os._exit(0)


def main() -> None:
    """Serve until the parent goes away."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # rumqttd reports each packet as an error span; on a terminal that would bury everything else.
    logging.basicConfig(level=logging.WARNING)
    logging.getLogger("rumqttd").setLevel(logging.CRITICAL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from iotcore import Broker

    Broker(config_path=sys.argv[1]).run_forever()


if __name__ == "__main__":
    main()
