"""Readings for a person: one short line each."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, TextIO

from edgekit_device.contract.topics import TELEMETRY, Kind
from edgekit_device.publish.outlet import OutletState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgekit_device.publish.outlet import Heard


def reading_line(reading: Mapping[str, object]) -> str:
    """One Reading in at most 79 columns: time, FPS, latency, rung, label.

    Args:
        reading: The parsed document.
    """
    latency = reading["latency_ms"]
    invoke = latency["end_to_end"] if isinstance(latency, dict) else {}
    numbers = [f"{value:.1f}" if (value := invoke.get(q)) is not None else "-" for q in ("p50", "p95")]
    score = reading["score"]
    seen = f"{reading['label']} {score:.2f}" if isinstance(score, float | int) else "-"
    time = str(reading["at"])[11:19]
    line = f"{time} {reading['fps']:6.1f} FPS  p50 {numbers[0]:>5} p95 {numbers[1]:>5} ms  "
    return f"{line}{reading['delegate'] or 'no delegate':<8} {seen}"[:79]


class Console:
    """Writes one line per Reading."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._sent = 0

    def start(self, status: bytes) -> None:
        """Nothing to open."""

    def announce(self, status: bytes) -> None:
        """What changed is said by the supervisor."""

    def send(self, kind: Kind, payload: bytes) -> None:
        """Write a Reading; everything else is left out."""
        if kind is TELEMETRY:
            self._stream.write(reading_line(json.loads(payload)) + "\n")
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
