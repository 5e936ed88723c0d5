"""Readings as JSON lines on a stream: one document a line and nothing else."""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from typing import TYPE_CHECKING, TextIO

from edgekit_device.contract.topics import TELEMETRY, Kind
from edgekit_device.publish.outlet import OutletState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgekit_device.publish.outlet import Heard

_WAITING_LINES = 4096
_CLOSE_S = 5.0
# Two kinds of lines may share one stream.
_LINE = threading.Lock()


class JsonLines:
    """Writes the documents of the chosen kinds, a line each.

    A reader that has stopped reading (a paused pager, a program that waits for something else) holds up its lines
    only: they wait in memory, and past 4,096 the oldest are given up and counted. The watchdog goes on.
    """

    def __init__(self, stream: TextIO | None = None, kinds: Iterable[Kind] = (TELEMETRY,)) -> None:
        # The descriptor, not the stream: a thread that is left waiting in a stream's buffer would hold its lock.
        self._descriptor = (stream or sys.stdout).fileno()
        self._kinds = frozenset(kinds)
        self._sent = self._lost = 0
        self._lines: deque[bytes] = deque()
        self._news = threading.Condition()
        self._closing = False
        self._broken: OSError | None = None
        self._writer = threading.Thread(target=self._write, name="json-lines", daemon=True)

    def start(self, status: bytes) -> None:
        """Begin to write."""
        self._writer.start()

    def announce(self, status: bytes) -> None:
        """A status is not a Reading; it is left out."""

    def send(self, kind: Kind, payload: bytes) -> None:
        """Hand over one line.

        Raises:
            BrokenPipeError: The reader has gone; the caller ends quietly.
            OSError: The stream cannot be written, for instance a file on a full disk.
        """
        if kind not in self._kinds:
            return
        with self._news:
            if self._broken is not None:
                raise self._broken
            if len(self._lines) == _WAITING_LINES:
                self._lines.popleft()
                self._lost += 1
            self._lines.append(payload + b"\n")
            self._news.notify()

    def heard(self) -> tuple[Heard, ...]:
        """Nobody answers here."""
        return ()

    def state(self) -> OutletState:
        """Always connected."""
        return OutletState(True, None, self._sent, len(self._lines), self._lost)

    def close(self, status: bytes) -> None:
        """Write what waits, as long as somebody reads; at most 5 s without a line that leaves."""
        with self._news:
            self._closing = True
            self._news.notify()
        before = -1
        while self._writer.is_alive() and before != self._sent:
            before = self._sent
            self._writer.join(_CLOSE_S)

    def _write(self) -> None:
        while True:
            with self._news:
                while not self._lines and not self._closing:
                    self._news.wait()
                if not self._lines:
                    return
                line = self._lines.popleft()
            try:
                with _LINE:
                    while line:
                        line = line[os.write(self._descriptor, line) :]
            except OSError as error:
                with self._news:
                    self._broken = error
                return
            self._sent += 1
