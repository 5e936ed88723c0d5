"""Each decision on change, for a program on the same board: JSON lines on a Unix socket or on stdout.

    edgekit-device run ... --results unix:/run/edgekit/results.sock
    socat - UNIX-CONNECT:/run/edgekit/results.sock

Whoever connects gets the current decision first, then each change. A reader that does not read is let go.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit_device.contract.errors import UsageError
from edgekit_device.contract.topics import RESULT, Kind
from edgekit_device.publish.outlet import OutletState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgekit_device.publish.outlet import Heard, Outlet

_MOST_READERS = 16


class ResultSocket:
    """Serves decisions on a Unix stream socket."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._readers: list[socket.socket] = []
        self._last = b""
        self._sent = 0
        self._server: socket.socket | None = None

    def start(self, status: bytes) -> None:
        """Listen; a socket file that a killed run left behind is replaced, anything else is not touched.

        Raises:
            UsageError: The path cannot be used.
        """
        try:
            with contextlib.suppress(FileNotFoundError):
                if not stat.S_ISSOCK(os.lstat(self._path).st_mode):
                    raise UsageError(f"--results unix:{self._path}: something else lies there")
                self._path.unlink()
            server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            server.bind(str(self._path))
            self._path.chmod(0o660)
            server.listen(_MOST_READERS)
        except OSError as cause:
            raise UsageError(f"--results unix:{self._path}: {cause.strerror or cause}") from cause
        self._server = server
        threading.Thread(target=self._welcome, args=(server,), name="results", daemon=True).start()

    def _welcome(self, server: socket.socket) -> None:
        while True:
            try:
                reader, _ = server.accept()
            except OSError:
                return
            reader.setblocking(False)
            with self._lock:
                if len(self._readers) < _MOST_READERS and self._write(reader, self._last):
                    self._readers.append(reader)
                else:
                    reader.close()

    @staticmethod
    def _write(reader: socket.socket, line: bytes) -> bool:
        try:
            return not line or reader.send(line) == len(line)
        except OSError:
            return False

    def announce(self, status: bytes) -> None:
        """A status is no decision; it is left out."""

    def send(self, kind: Kind, payload: bytes) -> None:
        """Send a decision to every reader; everything else is left out."""
        if kind is not RESULT:
            return
        line = payload + b"\n"
        with self._lock:
            self._last = line
            kept = []
            for reader in self._readers:
                if self._write(reader, line):
                    kept.append(reader)
                else:
                    reader.close()
            self._readers = kept
            self._sent += 1

    def heard(self) -> Sequence[Heard]:
        """Nothing comes back this way."""
        return ()

    def state(self) -> OutletState:
        """Always connected."""
        return OutletState(True, None, self._sent, 0, 0)

    def close(self, status: bytes) -> None:
        """Close every reader and take the socket file away."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        with self._lock:
            for reader in self._readers:
                reader.close()
            self._readers.clear()
        self._path.unlink(missing_ok=True)


def results_outlet(text: str) -> Outlet:
    """``stdout`` or ``unix:PATH``.

    Raises:
        UsageError: Neither.
    """
    if text == "stdout":
        from edgekit_device.publish.jsonl import JsonLines

        return JsonLines(kinds=(RESULT,))
    kind, _, path = text.partition(":")
    if kind != "unix" or not path:
        raise UsageError(f"--results {text}: write stdout or unix:/run/edgekit/results.sock")
    return ResultSocket(Path(path))
