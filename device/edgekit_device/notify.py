"""What systemd is told: READY after the first real inference, WATCHDOG only while frames flow.

The protocol is one datagram of ``KEY=value`` lines to the socket that NOTIFY_SOCKET names; sd_notify(3) and
sd_watchdog_enabled(3). Nothing here waits and nothing here fails: without systemd it does nothing.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping

_LINE_LIMIT = 200
# How often the counter is looked at: the last ping leaves at most one look after the frames stopped, and
# sd_watchdog_enabled(3) asks for a ping each half of the time limit.
_LOOKS_PER_LIMIT = 6


class Notifier:
    """A datagram socket to the service manager, or nothing.

    Attributes:
        watchdog_s: The time limit that the manager set for pings, s; None when it wants none.
    """

    def __init__(self, address: str | None, watchdog_s: float | None = None) -> None:
        self.watchdog_s = watchdog_s
        self._socket: socket.socket | None = None
        if address and address[0] in "/@":
            self._address = "\0" + address[1:] if address[0] == "@" else address
            try:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
                self._socket.setblocking(False)
            except OSError:
                self._socket = None

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str] | None = None) -> Notifier:
        """Take the manager's words out of the environment, so that no child believes that they are meant for it.

        Args:
            environ: The environment; that of this process by default.
        """
        environ = os.environ if environ is None else environ
        address = environ.pop("NOTIFY_SOCKET", None)
        limit, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
        meant = not pid or pid == str(os.getpid())
        # Over a year is no limit, but a typing error or an attack on our arithmetic.
        usable = meant and limit.isascii() and limit.isdigit() and 0 < len(limit) <= 13 and int(limit) > 0
        return cls(address, int(limit) / 1e6 if usable else None)

    def send(self, **fields: str | int) -> bool:
        """Send fields; one that is lost (no manager, a full socket) is not sent again.

        Returns:
            Whether the manager's socket took it.
        """
        if self._socket is None:
            return False
        lines = "\n".join(f"{key}={_one_line(str(value))}" for key, value in fields.items())
        try:
            self._socket.sendto(lines.encode("utf-8"), self._address)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Give the socket back."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class Pulse:
    """Decides what the manager hears, from the count of served frames; pure but for the notifier.

    A supervisor that is alive says nothing about the board's purpose. So it is the frames that ping: when none was
    served within the limit, whatever the cause, the manager starts the service anew.
    """

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier
        self._ready = False
        self._served = 0.0
        self._look_at_s = 0.0
        self._said: str | None = None

    @property
    def ready(self) -> bool:
        """Whether a real inference was served since the start."""
        return self._ready

    def beat(self, now_s: float, served: float, *, frame_at_s: float = 0.0, pace_s: float = 0.0) -> None:
        """Look at the counter and ping if it moved.

        Args:
            now_s: Monotonic now.
            served: Frames that the present worker served; starts again from 0 with each worker.
            frame_at_s: Monotonic time of the last new frame; 0 if none.
            pace_s: Seconds between frames of the source. One that is slower than the limit by its nature keeps the
                pings going for twice its pace.
        """
        if served > 0 and not self._ready:
            self._ready = True
            self._served = served
            self._notifier.send(READY=1, **({"WATCHDOG": 1} if self._notifier.watchdog_s else {}))
            self._look_at_s = now_s
            return
        limit_s = self._notifier.watchdog_s
        if not self._ready or limit_s is None or now_s - self._look_at_s < limit_s / _LOOKS_PER_LIMIT:
            return
        self._look_at_s = now_s
        slow = pace_s > limit_s / 4 and served > 0 and now_s - frame_at_s < 2 * pace_s
        if (served > 0 and served != self._served) or slow:
            self._notifier.send(WATCHDOG=1)
        self._served = served

    def say(self, words: str) -> None:
        """Set the line that ``systemctl status`` shows; sent on change only."""
        if words != self._said:
            self._said = words
            self._notifier.send(STATUS=words)

    def stopping(self, words: str = "stopping") -> None:
        """Say goodbye."""
        self._notifier.send(STOPPING=1, STATUS=words)
        self._notifier.close()


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_LINE_LIMIT]
