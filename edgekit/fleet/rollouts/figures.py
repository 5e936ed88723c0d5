"""How a release does on one board, and what speaks against a new one beside the old on the same board. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from statistics import fmean, median
from typing import Any

from edgekit.fleet.rollouts.plan import Limits

# Fewer frames say little about what a camera sees.
LEAST_FRAMES = 200
# A difference of latency below this is none: a toy of 0.1 ms may take 0.2.
SLACK_MS = 1.0
_BINS = 16


@dataclass(frozen=True)
class Figures:
    """A summary of some Readings of one release; what is unknown is None.

    Attributes:
        readings: How many.
        fps: Mean of the windows.
        p95_ms: Median of the windows' latency p95, end to end.
        temp_c: Mean of the CPU.
        mix: Frames per top-1 class index.
        margins: Frames over 16 equal bins of the top-2 margin.
    """

    readings: int = 0
    fps: float | None = None
    p95_ms: float | None = None
    temp_c: float | None = None
    mix: Mapping[str, int] = field(default_factory=dict)
    margins: tuple[int, ...] = ()

    def to_bytes(self) -> bytes:
        """For a row."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Figures:
        """Read what `to_bytes` wrote."""
        values = json.loads(data)
        return cls(**{**values, "margins": tuple(values["margins"])})

    @property
    def margin(self) -> float | None:
        """Mean top-2 margin, 0 to 1, by the middles of the bins."""
        total = sum(self.margins)
        if not total:
            return None
        return sum((place + 0.5) / _BINS * count for place, count in enumerate(self.margins)) / total


def summarise(payloads: Iterable[Mapping[str, Any]]) -> Figures:
    """Sum Readings up.

    Args:
        payloads: Decoded Readings of one release on one board, or on boards of one kind.
    """
    fps: list[float] = []
    p95: list[float] = []
    temperatures: list[float] = []
    mix: dict[str, int] = {}
    margins = [0] * _BINS
    for values in payloads:
        fps.append(values["fps"])
        latency = (values.get("latency_ms") or {}).get("end_to_end") or {}
        if latency.get("p95") is not None:
            p95.append(latency["p95"])
        if values.get("cpu_temp_c") is not None:
            temperatures.append(values["cpu_temp_c"])
        for name, count in (values.get("class_counts") or {}).items():
            mix[name] = mix.get(name, 0) + count
        for place, count in enumerate((values.get("margin_hist") or ())[:_BINS]):
            margins[place] += count
    return Figures(
        len(fps),
        fmean(fps) if fps else None,
        median(p95) if p95 else None,
        fmean(temperatures) if temperatures else None,
        mix,
        tuple(margins) if any(margins) else (),
    )


def complaints(old: Figures | None, new: Figures, limits: Limits) -> tuple[str, ...]:
    """What speaks against the new release; empty if nothing does.

    Args:
        old: The release before, on the same board; None where it never ran.
        new: The release that is judged.
        limits: When it is worse.
    """
    if not new.fps:
        return ("it makes no results: FPS 0",)
    if old is None or not old.readings:
        return ()
    found = (_speed(old, new, limits), _latency(old, new, limits), _labels(old, new, limits), _sure(old, new, limits))
    return tuple(words for words in found if words)


def distance(old: Mapping[str, int], new: Mapping[str, int]) -> float:
    """Total variation distance of two label mixes: the share of frames that get another label, 0 to 1."""
    before, after = sum(old.values()), sum(new.values())
    if not before or not after:
        return 0.0
    return sum(abs(old.get(name, 0) / before - new.get(name, 0) / after) for name in {*old, *new}) / 2


def _speed(old: Figures, new: Figures, limits: Limits) -> str | None:
    if limits.fps is None or not old.fps or new.fps is None or new.fps >= limits.fps * old.fps:
        return None
    return (
        f"slower: {new.fps:.1f} FPS are {new.fps / old.fps:.2f} of the {old.fps:.1f} of the release before "
        f"(least {limits.fps:g})"
    )


def _latency(old: Figures, new: Figures, limits: Limits) -> str | None:
    if limits.p95 is None or not old.p95_ms or new.p95_ms is None:
        return None
    if new.p95_ms <= limits.p95 * old.p95_ms or new.p95_ms - old.p95_ms <= SLACK_MS:
        return None
    return (
        f"slower: p95 {new.p95_ms:.1f} ms is {new.p95_ms / old.p95_ms:.2f} times the {old.p95_ms:.1f} ms of the "
        f"release before (most {limits.p95:g})"
    )


def _labels(old: Figures, new: Figures, limits: Limits) -> str | None:
    if limits.mix is None or min(sum(old.mix.values()), sum(new.mix.values())) < LEAST_FRAMES:
        return None
    apart = distance(old.mix, new.mix)
    if apart <= limits.mix:
        return None
    return (
        f"it sees something else: {100 * apart:.0f} % of the frames get another label (most {100 * limits.mix:.0f} %)"
    )


def _sure(old: Figures, new: Figures, limits: Limits) -> str | None:
    before, after = old.margin, new.margin
    if limits.margin is None or before is None or after is None:
        return None
    if min(sum(old.margins), sum(new.margins)) < LEAST_FRAMES or before - after <= limits.margin:
        return None
    return f"less sure: the mean margin fell from {before:.2f} to {after:.2f} (most {limits.margin:g} less than before)"
