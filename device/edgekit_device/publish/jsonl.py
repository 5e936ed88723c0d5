"""Readings as JSON lines on a stream: one document a line and nothing else."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TextIO

from edgekit_device.contract.topics import TELEMETRY, Kind
from edgekit_device.publish.outlet import OutletState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgekit_device.publish.outlet import Heard


class JsonLines:
    """Writes the documents of the chosen kinds, a line each."""

    def __init__(self, stream: TextIO | None = None, kinds: Iterable[Kind] = (TELEMETRY,)) -> None:
        self._stream = stream or sys.stdout
        self._kinds = frozenset(kinds)
        self._sent = 0

    def start(self, status: bytes) -> None:
        """Nothing to open."""

    def announce(self, status: bytes) -> None:
        """A status is not a Reading; it is left out."""

    def send(self, kind: Kind, payload: bytes) -> None:
        """Write one line.

        Raises:
            BrokenPipeError: The reader has gone; the caller ends quietly.
        """
        if kind in self._kinds:
            self._stream.write(payload.decode("utf-8") + "\n")
            self._stream.flush()
            self._sent += 1

    def heard(self) -> tuple[Heard, ...]:
        """Nobody answers here."""
        return ()

    def state(self) -> OutletState:
        """Always connected."""
        return OutletState(True, None, self._sent, 0, 0)

    def close(self, status: bytes) -> None:
        """Nothing to give back."""
