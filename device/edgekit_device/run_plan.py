"""What one run is to do: read once, handed to the supervisor."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit_device.watchdog import Limits

if TYPE_CHECKING:
    from edgekit_device.bundle import Bundle
    from edgekit_device.ground import Ground
    from edgekit_device.preview_address import PreviewAddress
    from edgekit_device.runtimes.following import RuntimeWatch
    from edgekit_device.sources.frame import SourceOptions


@dataclass(frozen=True)
class RunPlan:
    """What one run is to do.

    Attributes:
        interval_s: Seconds between Readings.
        threads: Interpreter threads; 0 measures which are right.
        most_threads: Never more than that many.
        mode: ``throughput`` or ``latency``.
        seconds: Stop after that long; None runs until told.
        endless: The source is a device: when it cannot be opened, keep trying.
        pictures: Whether the host may ask for a picture.
        secrets: Of this run: they are taken out of every text that the host asks for.
        ground: The releases that are followed; None for a bundle that is run by hand.
        runtime: The runtime's own trial; None for a run that the launcher did not start.
        root: Folder that stands for the board's ``/``.
        updates: Address of the fleet's repository; None for no updates over the air.
    """

    bundle: Bundle
    bundle_data: bytes = field(repr=False)
    bundle_path: str
    source: str
    options: SourceOptions
    threads: int
    site: str
    device: str
    interval_s: float = 30.0
    seconds: float | None = None
    endless: bool = False
    most_threads: int = 1
    state_dir: Path = Path("/var/lib/edgekit")
    limits: Limits = field(default_factory=Limits)
    preview: PreviewAddress | None = None
    mode: str = "throughput"
    ground: Ground | None = None
    runtime: RuntimeWatch | None = None
    root: Path = Path("/")
    updates: str | None = None
    pictures: bool = False
    secrets: tuple[str, ...] = field(default=(), repr=False)
