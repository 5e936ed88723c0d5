"""What a run does beside its work: look after the board's health, tell systemd, keep the status file.

Each of the three is in the background or instant; the supervisor's loop waits for none.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit_device.contract.clock import utc_text
from edgekit_device.contract.documents import SCHEMA
from edgekit_device.health import HealthSampler
from edgekit_device.health.sampler import HealthPlaces
from edgekit_device.notify import Notifier, Pulse
from edgekit_device.status_file import StatusFile, started_ticks

if TYPE_CHECKING:
    from edgekit_device.progress import Snapshot
    from edgekit_device.publish.outlet import Outlet


class Housekeeping:
    """The board's side of one run.

    Attributes:
        sampler: Reads the board's health.
        pulse: Tells systemd.
    """

    def __init__(self, places: HealthPlaces, notifier: Notifier | None = None, status_path: Path | None = None) -> None:
        """Args: where health is read, the way to systemd if any, the status file if one is to be kept."""
        self.sampler = HealthSampler(places)
        self.pulse = Pulse(notifier or Notifier(None))
        self._status_path = status_path
        self._file: StatusFile | None = None
        self._document: dict[str, Any] = {
            "schema": SCHEMA,
            "pid": os.getpid(),
            "pid_started_ticks": started_ticks(os.getpid()),
            "started_at": utc_text(),
            "status": {},
            "reading": None,
            "outlets": [],
            "warnings": [],
        }

    def start(self, status: bytes) -> None:
        """Begin.

        Args:
            status: The first status document.
        """
        self.sampler.start()
        if self._status_path is not None:
            self._file = StatusFile(self._status_path)
        self.note_status(status)

    def beat(self, now_s: float, look: Snapshot | None, pace_s: float = 0.0) -> None:
        """One turn of the supervisor's loop.

        Args:
            now_s: Monotonic now.
            look: The worker's progress; None while there is no worker.
            pace_s: Seconds between frames of the source.
        """
        if look is None:
            self.pulse.beat(now_s, 0.0)
        else:
            self.pulse.beat(now_s, look.served, frame_at_s=look.frame_at_s, pace_s=pace_s)

    def health(self, pids: Sequence[int], delegate: str | None, window: Mapping[str, Any]) -> dict[str, Any]:
        """The health part of a Reading.

        Args:
            pids: The run's processes.
            delegate: The rung that serves.
            window: The window's part of the Reading; each inference is in one of its class counts.
        """
        inferences = sum(window["class_counts"].values())
        return self.sampler.snapshot(*pids, delegate=delegate, window_s=window["window_s"], inferences=inferences)

    def note_status(self, status: bytes) -> None:
        """What the board says of itself has changed."""
        self._document["status"] = json.loads(status)
        self._say()

    def note_reading(self, reading: Mapping[str, Any], outlets: Sequence[Outlet] = ()) -> None:
        """A Reading is out.

        Args:
            reading: The document.
            outlets: The ways out, for how each stands.
        """
        self._document["reading"] = dict(reading)
        self._document["outlets"] = [{"name": type(way).__name__, **way.state()._asdict()} for way in outlets]
        self._say()

    def note_warnings(self, warnings: Sequence[str]) -> None:
        """What is slower here than it should be.

        Args:
            warnings: In words, with the remedy.
        """
        self._document["warnings"] = list(warnings)
        self._say()

    def close(self, status: bytes) -> None:
        """Say goodbye and end the threads.

        Args:
            status: The last status document.
        """
        self.pulse.stopping()
        self.note_status(status)
        if self._file is not None:
            self._file.close()
        self.sampler.close()

    def _say(self) -> None:
        self.pulse.say(in_words(self._document))
        if self._file is not None:
            written = {"written_at": utc_text(), "written_at_s": time.clock_gettime(time.CLOCK_BOOTTIME)}
            self._file.put({**self._document, **written})


def in_words(document: Mapping[str, Any], age_s: float | None = None) -> str:
    """One line: what serves, how fast, and what is wrong.

    Args:
        document: A status file's content.
        age_s: How old it is, s; an FPS from before the last window is history and is left out.
    """
    status, reading = document.get("status") or {}, document.get("reading") or {}
    if status.get("delegate"):
        fps = reading.get("fps")
        recent = age_s is None or age_s < 2 * (reading.get("window_s") or 0.0) + 1.0
        speed = f", {fps:.1f} FPS" if recent and isinstance(fps, int | float) else ""
        line = f"serving {status.get('bundle')} on {status['delegate']}{speed}"
    else:
        line = f"not serving {status.get('bundle')}"
    return f"{line}; {status['reason']}" if status.get("reason") else line
