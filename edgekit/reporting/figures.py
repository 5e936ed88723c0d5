"""Pictures inside a report, as SVG. Places across are shares of the width, so that text keeps its size on a phone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from edgekit.reporting.markup import text

_AIR = 0.12
# Names in a picture: most letters, the height of a line in pixels, the width of a letter in percent of a phone's.
_LONGEST, _LINE, _LETTER = 26, 16, 2.3


@dataclass(frozen=True)
class Dot:
    """One model in the picture of size and time.

    Attributes:
        name: Beside the dot.
        across: Its size in MB.
        up: Its time in ms.
        mood: ``own`` for the model of the report, else empty.
    """

    name: str
    across: float
    up: float
    mood: str = ""


def interval(value: float, low: float, high: float, ends: tuple[float, float], unit: str, mark: float | None) -> str:
    """A figure with its interval on an axis.

    Args:
        value: What was measured.
        low: Lower end of the interval.
        high: Upper end of it.
        ends: Of the axis.
        unit: Behind the numbers.
        mark: A limit to draw, or None.
    """
    left, right = ends

    def at(x: float) -> float:
        return 2 + 96 * (min(max(x, left), right) - left) / (right - left)

    parts = ['<line class="axis" x1="2%" x2="98%" y1="34" y2="34"/>']
    for x in ticks(left, right, 5):
        parts.append(f'<line class="axis" x1="{at(x):.2f}%" x2="{at(x):.2f}%" y1="31" y2="37"/>')
        side = "start" if at(x) < 6 else "end" if at(x) > 94 else "middle"
        parts.append(f'<text class="s" x="{at(x):.2f}%" y="54" text-anchor="{side}">{plain(x)}{unit}</text>')
    if mark is not None:
        side = "end" if at(mark) > 80 else "start"
        parts.append(f'<line class="limit" x1="{at(mark):.2f}%" x2="{at(mark):.2f}%" y1="4" y2="40"/>')
        parts.append(
            f'<text class="s" x="{at(mark):.2f}%" dx="{-6 if side == "end" else 6}" y="12" text-anchor="{side}">'
            f"limit {mark:g}{unit}</text>"
        )
    parts.append(f'<line class="span" x1="{at(low):.2f}%" x2="{at(high):.2f}%" y1="34" y2="34"/>')
    parts.append(f'<circle class="dot own" cx="{at(value):.2f}%" cy="34" r="6"/>')
    return _svg(60, "".join(parts), f"{value:g}{unit}, 95 % interval {low:g} to {high:g}{unit}")


def scatter(dots: Sequence[Dot], across: str, up: str) -> str:
    """Dots, and the line of those that nothing beats in both."""
    height, top, bottom = 300, 26, 42
    right = max(dot.across for dot in dots) * (1 + _AIR)
    high = max(dot.up for dot in dots) * (1 + _AIR)

    def place(dot: Dot) -> tuple[float, float]:
        return 7 + 91 * dot.across / right, top + (height - top - bottom) * (1 - dot.up / high)

    parts = [f'<text class="s" x="7%" y="14">{text(up)}</text>']
    for y in ticks(0, high, 4):
        row = top + (height - top - bottom) * (1 - y / high)
        parts.append(f'<line class="grid" x1="7%" x2="98%" y1="{row:.1f}" y2="{row:.1f}"/>')
        parts.append(f'<text class="s" x="7%" dx="-6" y="{row + 4:.1f}" text-anchor="end">{y:g}</text>')
    for x in ticks(0, right, 5):
        column = 7 + 91 * x / right
        parts.append(f'<text class="s" x="{column:.2f}%" y="{height - 22}" text-anchor="middle">{x:g}</text>')
    parts.append(f'<text class="s" x="98%" y="{height - 4}" text-anchor="end">{text(across)}</text>')
    best = [place(dot) for dot in frontier(dots)]
    for (x1, y1), (x2, y2) in pairwise(best):
        parts.append(f'<line class="best" x1="{x1:.2f}%" y1="{y1:.1f}" x2="{x2:.2f}%" y2="{y2:.1f}"/>')
    taken: list[tuple[float, float, float]] = []
    # The model of the report keeps its name beside it, and is drawn over what lies at the same place.
    circles = []
    for dot in sorted(dots, key=lambda one: (one.mood != "own", -one.up)):
        x, y = place(dot)
        name = dot.name[:_LONGEST]
        side, shift = ("end", -11) if x > 55 else ("start", 11)
        wide = _LETTER * len(name) + 4
        left, end = (x - wide, x) if side == "end" else (x, x + wide)
        free = (
            row
            for step in range(2 * len(dots) + 2)
            for row in (y - step * _LINE, y + step * _LINE)
            if top <= row <= height - bottom
            and not any(abs(row - other) < _LINE and left < far and near < end for near, far, other in taken)
        )
        row = next(free, y)
        taken.append((left, end, row))
        circles.append(f'<circle class="dot {dot.mood or "plain"}" cx="{x:.2f}%" cy="{y:.1f}" r="6"/>')
        parts.append(f'<text x="{x:.2f}%" dx="{shift}" y="{row + 4:.1f}" text-anchor="{side}">{text(name)}</text>')
    parts += reversed(circles)
    return _svg(height, "".join(parts), f"{across} and {up} of {len(dots)} models")


def frontier(dots: Iterable[Dot]) -> list[Dot]:
    """The dots that no other beats in size and in time, by rising size."""
    kept: list[Dot] = []
    for dot in sorted(dots, key=lambda one: (one.across, one.up)):
        if not kept or dot.up < kept[-1].up:
            kept.append(dot)
    return kept


def histogram(
    counts: Sequence[int],
    low: float,
    high: float,
    *,
    marks: Sequence[float] = (),
    logarithmic: bool = False,
    height: int = 120,
    unit: str = "",
) -> str:
    """Bars of equal width.

    Args:
        counts: One a bar.
        low: Left edge of the first bar.
        high: Right edge of the last.
        marks: Places on the axis to draw a line at.
        logarithmic: Whether rare values are to be seen beside frequent ones.
        height: In CSS pixels.
        unit: Behind the numbers of the axis.
    """
    sizes = [math.log1p(count) if logarithmic else float(count) for count in counts]
    tallest = max(sizes, default=0.0) or 1.0
    floor, wide = height - 20, 100 / max(1, len(sizes))
    parts = []
    for at, size in enumerate(sizes):
        tall = (floor - 8) * size / tallest
        if tall > 0:
            parts.append(
                f'<rect class="bar" x="{at * wide + 0.1 * wide:.2f}%" y="{floor - tall:.1f}" width="{0.8 * wide:.2f}%" '
                f'height="{tall:.1f}"/>'
            )
    parts.append(f'<line class="axis" x1="0%" x2="100%" y1="{floor}" y2="{floor}"/>')
    for mark in marks:
        x = 100 * (mark - low) / (high - low) if high > low else 0.0
        x = min(99.7, max(0.3, x))
        parts.append(f'<line class="limit" x1="{x:.2f}%" x2="{x:.2f}%" y1="2" y2="{floor + 4}"/>')
    for x, value, side in ((0, low, "start"), (100, high, "end")):
        parts.append(f'<text class="s" x="{x}%" y="{height - 4}" text-anchor="{side}">{plain(value)}{unit}</text>')
    return _svg(height, "".join(parts), f"histogram from {low:.3g} to {high:.3g}{unit}")


def channels(lines: Mapping[str, Sequence[int]], ends: tuple[str, str], height: int = 150) -> str:
    """Several histograms over one another as lines: brightness by channel."""
    tallest = max((max(counts) for counts in lines.values()), default=1) or 1
    floor = height - 20
    drawn = []
    for name, counts in lines.items():
        places = " ".join(
            f"{100 * (at + 0.5) / len(counts):.2f},{100 * (1 - count / tallest):.2f}" for at, count in enumerate(counts)
        )
        drawn.append(f'<polyline class="line {text(name)}" points="{places}"/>')
    inner = (
        f'<svg x="0" y="6" width="100%" height="{floor - 6}" viewBox="0 0 100 100" preserveAspectRatio="none">'
        f"{''.join(drawn)}</svg>"
    )
    axis = f'<line class="axis" x1="0%" x2="100%" y1="{floor}" y2="{floor}"/>'
    words = (
        f'<text class="s" x="0%" y="{height - 4}">{text(ends[0])}</text>'
        f'<text class="s" x="100%" y="{height - 4}" text-anchor="end">{text(ends[1])}</text>'
    )
    return _svg(height, inner + axis + words, f"brightness of {', '.join(lines)} from {ends[0]} to {ends[1]}")


def ticks(low: float, high: float, count: int) -> list[float]:
    """Round places on an axis, about so many."""
    span = high - low
    if span <= 0 or not math.isfinite(span):
        return [low]
    raw = span / max(1, count)
    base = 10 ** math.floor(math.log10(raw))
    step = next((m * base for m in (1, 2, 2.5, 5, 10) if m * base >= raw * 0.999), 10 * base)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 10) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def plain(value: float) -> str:
    """Three figures, with a true minus."""
    return f"{value:.3g}".replace("-", "\u2212")


def _svg(height: int, inside: str, what: str) -> str:
    return f'<svg class="figure" role="img" aria-label="{text(what)}" width="100%" height="{height}">{inside}</svg>'
