"""What bundles promise: bench speed, class mix and labels, read from the operator's own .edgekit files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgekit_device.contract.archive import read_archive
from edgekit_device.contract.errors import EdgeKitError
from edgekit_device.contract.file_table import MAX_BUNDLE_BYTES
from edgekit_device.contract.manifest import MAX_ENTRIES, Manifest


@dataclass(frozen=True)
class Baseline:
    """What one release is measured against.

    Attributes:
        fps: Frames per second of its own bench; None if the bundle carries none.
        rung: Of the delegate ladder that the bench was on; None if the bundle does not say.
        mix: Images per class index in the validation set; empty if the bundle carries none.
        labels: Names by class index.
    """

    fps: float | None = None
    mix: Mapping[str, float] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    rung: str | None = None

    def fps_on(self, rung: str | None) -> float | None:
        """The bench of a board that serves on this rung: on another, the loss of the rung is the news."""
        return self.fps if rung is None or self.rung in (None, rung) else None


NOTHING = Baseline()


def read_baselines(folder: Path | None) -> dict[str, Baseline]:
    """Every readable bundle in a folder, by ``NAME-VERSION``; a file that is none is left out.

    Args:
        folder: None or missing gives nothing.
    """
    if folder is None or not folder.is_dir():
        return {}
    found: dict[str, Baseline] = {}
    for path in sorted(folder.glob("*.edgekit")):
        try:
            if path.stat().st_size > MAX_BUNDLE_BYTES:
                continue
            entries = read_archive(path.read_bytes(), str(path), max_entries=MAX_ENTRIES)
            manifest = Manifest.from_bytes(bytes(entries["manifest.json"]))
            labels = bytes(entries.get("labels.txt", b"")).decode("utf-8").splitlines()
        except (EdgeKitError, OSError, KeyError, UnicodeDecodeError):
            continue
        fps, mix, bench = (manifest.baseline.get(key) for key in ("bench_fps", "class_mix", "bench"))
        rung = bench.get("rung") if isinstance(bench, dict) else None
        found[manifest.bundle_id] = Baseline(
            float(fps) if isinstance(fps, int | float) and fps > 0 else None,
            {str(k): float(v) for k, v in mix.items() if isinstance(v, int | float)} if isinstance(mix, dict) else {},
            tuple(labels),
            rung if isinstance(rung, str) else None,
        )
    return found
