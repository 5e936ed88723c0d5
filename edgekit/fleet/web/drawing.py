"""Numbers as text and as small pictures, for the templates: pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from edgekit.fleet.alerts_judging import duration

WIDTH, HEIGHT = 96, 24


def spark(values: Sequence[float | None], floor: float = 0.0) -> list[str]:
    """Polylines of a sparkline, each as SVG ``points``; a hole ends one line and begins the next.

    Args:
        values: Equally spaced; None is a hole.
        floor: The value at the bottom.
    """
    known = [value for value in values if value is not None]
    if not known:
        return []
    top = max(max(known), floor + 1e-9)
    lines: list[list[str]] = [[]]
    for place, value in enumerate(values):
        if value is None:
            lines.append([])
            continue
        x = place * WIDTH / max(1, len(values) - 1)
        y = HEIGHT - 1.5 - (value - floor) / (top - floor) * (HEIGHT - 3)
        lines[-1].append(f"{x:.1f},{y:.1f}")
    # One point alone is drawn as a dash: a polyline of one point is invisible.
    return [" ".join(line if len(line) > 1 else [line[0], _beside(line[0])]) for line in lines if line]


def _beside(point: str) -> str:
    x, _, y = point.partition(",")
    return f"{float(x) + 2:.1f},{y}"


def number(value: float | None, digits: int = 1) -> str:
    """A number, or a dash where it is not known."""
    if value is None:
        return "–"
    return f"{value:.{digits}f}" if abs(value) < 10_000 else f"{value:.3g}"


def size(value: float | None) -> str:
    """Bytes in words."""
    if value is None:
        return "–"
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= factor:
            return f"{value / factor:.3g} {unit}"
    return f"{value:.0f} B"


def ago(at_ms: int | None, now_ms: int) -> str:
    """How long ago: ``12 s``; a dash where it is not known."""
    return "–" if at_ms is None else duration((now_ms - at_ms) / 1000)


def clock(at_ms: int | None) -> str:
    """UTC time for people and for ``<time datetime>``."""
    if at_ms is None:
        return "–"
    try:
        return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return "–"


def plain(text: object, most: int = 300) -> str:
    """What a board sent, without control and direction characters, which could make it look like something else."""
    cut = str(text)[:most]
    return "".join(c if c.isprintable() or c == " " else "\N{REPLACEMENT CHARACTER}" for c in cut)
