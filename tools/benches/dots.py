"""Dots in several panels that share their upward axis, as an SVG that reads on white and on black."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

from edgekit.reporting.figures import ticks

_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM, _GAP, _KEY = 860, 400, 52, 56, 44, 34, 22
_COLOURS = ("#0a7d5a", "#1f6feb", "#bf8700", "#cf222e", "#8250df")


class Spot(NamedTuple):
    """One thing measured.

    Attributes:
        series: Its colour, and with spots of the same series a line, by the order given.
        filled: Whether its dot is full.
        up: On the shared axis.
        across: Panel -> its place there; it is left out of panels that it lacks.
    """

    series: str
    filled: bool
    up: float
    across: Mapping[str, float]


def dots(title: str, up: str, panels: Sequence[str], spots: Sequence[Spot]) -> str:
    """Draw them.

    Args:
        title: Above the picture.
        up: What the shared axis counts, with its unit.
        panels: What each panel's axis counts, with its unit; axes across begin at 0.
        spots: At least one in each panel.
    """
    series = list(dict.fromkeys(spot.series for spot in spots))
    colours = {name: _COLOURS[at % len(_COLOURS)] for at, name in enumerate(series)}
    low, high = min(spot.up for spot in spots), max(spot.up for spot in spots)
    air = (high - low or 1) * 0.08
    low, high = low - air, high + air
    floor = _HEIGHT - _BOTTOM - _KEY
    wide = (_WIDTH - _LEFT - 12 - _GAP * (len(panels) - 1)) / len(panels)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" '
        f'height="{_HEIGHT}" font-family="system-ui, sans-serif" font-size="13">',
        "<style>text{fill:#24292f}.rule{stroke:#d0d7de}.hole{fill:#fff}"
        "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.rule{stroke:#30363d}.hole{fill:#0d1117}}</style>",
        f'<text x="10" y="24" font-size="16" font-weight="600">{escape(title)}</text>',
        f'<text x="10" y="44">{escape(up)}</text>',
    ]
    for at, panel in enumerate(panels):
        left = _LEFT + at * (wide + _GAP)
        there = [spot for spot in spots if panel in spot.across]
        most = 1.06 * max(spot.across[panel] for spot in there)

        def place(spot: Spot, panel: str = panel, left: float = left, most: float = most) -> tuple[float, float]:
            x = left + wide * spot.across[panel] / most
            return x, floor - (floor - _TOP) * (spot.up - low) / (high - low)

        for value in ticks(low, high, 5):
            y = floor - (floor - _TOP) * (value - low) / (high - low)
            parts.append(f'<path class="rule" d="M{left:.0f} {y:.1f}h{wide:.0f}"/>')
            if at == 0:
                parts.append(f'<text x="{left - 6:.0f}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
        for value in ticks(0, most, 5):
            x = left + wide * value / most
            parts.append(f'<text x="{x:.1f}" y="{floor + 16}" text-anchor="middle">{value:g}</text>')
        parts.append(f'<text x="{left + wide / 2:.1f}" y="{floor + 34}" text-anchor="middle">{escape(panel)}</text>')
        for name in series:
            for filled in (True, False):
                line = [place(spot) for spot in there if (spot.series, spot.filled) == (name, filled)]
                dash = "" if filled else ' stroke-dasharray="4 3"'
                points = " ".join(f"{x:.1f},{y:.1f}" for x, y in line)
                parts.append(
                    f'<polyline points="{points}" fill="none" stroke="{colours[name]}" stroke-width="1.5"{dash}/>'
                )
                style = f'fill="{colours[name]}"' if filled else 'class="hole"'
                parts += [
                    f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" {style} stroke="{colours[name]}" stroke-width="2"/>'
                    for x, y in line
                ]
    key = 10.0
    for name in series:
        parts.append(f'<circle cx="{key + 6:.0f}" cy="{_HEIGHT - 12}" r="5" fill="{colours[name]}"/>')
        parts.append(f'<text x="{key + 16:.0f}" y="{_HEIGHT - 8}">{escape(name)}</text>')
        key += 34 + 7.2 * len(name)
    return "\n".join([*parts, "</svg>", ""])
