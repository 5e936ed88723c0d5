"""Lines over a number of bits or crops, as SVG: no library, no script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from edgekit.reporting.svg_style import svg_style

_COLORS = ("#1f6feb", "#d29922", "#2da44e", "#cf222e", "#8250df", "#8c959f", "#1b7c83", "#bf3989", "#9a6700", "#57606a")
_STYLE = svg_style(".rule{stroke:#d0d7de}", ".rule{stroke:#30363d}")
_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 760, 420, 60, 40, 210, 40

Points = Sequence[tuple[float, float]]


def curves_svg(title: str, across: str, upwards: str, lines: Mapping[str, Points]) -> str:
    """A line chart.

    Args:
        title: Above it.
        across: What the x axis counts, with its unit.
        upwards: What the y axis counts, with its unit.
        lines: Name -> (x, y) points, by rising x; drawn in the order given.
    """
    points = [point for line in lines.values() for point in line]
    left, right = _ends([x for x, _ in points])
    low, high = _ends([y for _, y in points])
    wide, tall = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        return _LEFT + (x - left) / (right - left) * wide, _TOP + (high - y) / (high - low) * tall

    parts = [f'<text x="12" y="22" font-weight="600">{escape(title)}</text>']
    for step in range(6):
        value = low + (high - low) * step / 5
        y = place(left, value)[1]
        parts.append(f'<path class="rule" d="M{_LEFT} {y:.1f}H{_LEFT + wide}"/>')
        parts.append(f'<text class="soft" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>')
    for x in sorted({x for x, _ in points}):
        at = place(x, low)[0]
        parts.append(f'<text class="soft" x="{at:.1f}" y="{_TOP + tall + 16}" text-anchor="middle">{x:g}</text>')
    parts.append(
        f'<text class="soft" x="{_LEFT + wide / 2}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(across)}</text>'
    )
    parts.append(f'<text class="soft" x="{_LEFT}" y="{_TOP - 6}">{escape(upwards)}</text>')
    for number, (name, line) in enumerate(lines.items()):
        color, key = _COLORS[number % len(_COLORS)], _TOP + 12 + 18 * number
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in line))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts.append(f'<rect x="{_WIDTH - _RIGHT + 16}" y="{key - 9}" width="10" height="10" fill="{color}"/>')
        parts.append(f'<text x="{_WIDTH - _RIGHT + 32}" y="{key}">{escape(name)}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">'
        f'{_STYLE}<rect class="page" width="{_WIDTH}" height="{_HEIGHT}"/>{"".join(parts)}</svg>\n'
    )


def _ends(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values, default=0.0), max(values, default=1.0)
    return (low, high) if high > low else (low - 0.5, high + 0.5)
