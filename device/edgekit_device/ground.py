"""Where releases are tried, and what a trial asks of the supervisor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from edgekit_device.bundle import Bundle, open_bundle
from edgekit_device.disk import REAL_DISK, Disk
from edgekit_device.judging import Rules
from edgekit_device.releases import Slot


class Release(NamedTuple):
    """A bundle that was opened from a slot: what a worker is started with."""

    bundle: Bundle
    data: bytes
    path: str

    @property
    def bundle_id(self) -> str:
        """``NAME-VERSION``."""
        return self.bundle.manifest.bundle_id


def open_release(slot: Slot, keys: Sequence[Path]) -> Release:
    """Open what a slot holds.

    Raises:
        BundleError: It is not as signed, or it requires a newer runtime.
    """
    return Release(*open_bundle(slot.bundle_path, keys), str(slot.bundle_path))


@dataclass(frozen=True)
class Ground:
    """Where and how releases are tried.

    Attributes:
        root: Folder of the slots.
        keys: Public keys that count.
        rules: Limits of a trial.
        disk: Where the journal's system calls go.
        watcher: Told of each step as (edge, state): ``enter``, ``run`` once, ``leave``.
    """

    root: Path
    keys: tuple[Path, ...]
    rules: Rules = field(default_factory=Rules)
    disk: Disk = REAL_DISK
    watcher: Callable[[str, str], None] = lambda _edge, _state: None


class Host(Protocol):
    """What a trial needs of the supervisor."""

    @property
    def rung(self) -> str | None:
        """The rung that serves; None while no worker is ready."""

    @property
    def layout(self) -> Mapping[str, int]:
        """How the processor is used: ``threads`` of each interpreter, ``lanes`` of them."""

    @property
    def served(self) -> float:
        """Frames served by this worker."""

    @property
    def pace_s(self) -> float:
        """Seconds between frames of the source."""

    def tell(self, cmd: str, **values: Any) -> None:
        """Send a command to the worker."""

    def adopt(self, release: Release, message: Mapping[str, Any]) -> None:
        """The worker serves this release now."""

    def restart_with(self, release: Release) -> None:
        """End the worker, if there is one, and start one with this release."""

    def probe(self, release: Release, rung: str) -> str | None:
        """Prove a rung in a process of its own; blocks. Returns why it does not work, or None."""

    def event(self, kind: str, reason: str | None, **detail: Any) -> None:
        """Send an event."""
