"""A table whose cells say by colour how much is lost, as SVG: no library, no script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from edgekit.reporting.svg_style import svg_style

_STYLE = svg_style(".cell{fill:#cf222e}")
_LEFT, _TOP, _CELL, _ROW, _EDGE = 250, 64, 72, 20, 12
_LETTERS = 38


def heatmap_svg(title: str, below: str, columns: Sequence[str], rows: Mapping[str, Sequence[float | None]]) -> str:
    """Numbers in cells; the lowest is darkest, the highest has no colour.

    Args:
        title: Above it.
        below: A line under the title: what the numbers are, with their unit.
        columns: Their heads.
        rows: Name -> numbers from the first column on; None leaves a cell empty.
    """
    known = [value for row in rows.values() for value in row if value is not None]
    low, high = min(known, default=0.0), max(known, default=1.0)
    span = high - low or 1.0
    wide, tall = _LEFT + _CELL * len(columns) + _EDGE, _TOP + _ROW * len(rows) + _EDGE
    parts = [
        f'<text x="{_EDGE}" y="20" font-weight="600">{escape(title)}</text>',
        f'<text class="soft" x="{_EDGE}" y="37">{escape(below)}</text>',
    ]
    for at, head in enumerate(columns):
        middle = _LEFT + _CELL * at + _CELL / 2
        parts.append(f'<text class="soft" x="{middle:g}" y="{_TOP - 8}" text-anchor="middle">{escape(head)}</text>')
    for number, (name, row) in enumerate(rows.items()):
        top = _TOP + _ROW * number
        shown = name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…"
        parts.append(f'<text x="{_LEFT - 8}" y="{top + 14}" text-anchor="end">{escape(shown)}</text>')
        for at, value in enumerate(row):
            if value is None:
                continue
            left = _LEFT + _CELL * at
            # Half at most, so that the figure stays readable on it in both modes.
            shade = 0.55 * (high - value) / span
            parts.append(
                f'<rect class="cell" x="{left}" y="{top}" width="{_CELL - 2}" height="{_ROW - 2}" '
                f'fill-opacity="{shade:.3f}"/>'
            )
            parts.append(f'<text x="{left + _CELL / 2 - 1:g}" y="{top + 14}" text-anchor="middle">{value:.1f}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {tall}" width="{wide}" role="img">'
        f'{_STYLE}<rect class="page" width="{wide}" height="{tall}"/>{"".join(parts)}</svg>\n'
    )
