"""Horizontal bars with their spread as an SVG that reads on white and on black."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

_LEFT, _WIDTH, _ROW, _TOP = 210, 720, 30, 56


class Bar(NamedTuple):
    """One row: its name, the middle, the least and the most of the rounds, and whether it is ours."""

    name: str
    middle: float
    low: float
    high: float
    own: bool


def bars(title: str, unit: str, rows: Sequence[Bar]) -> str:
    """Draw the rows in the order given.

    Args:
        title: Above the picture.
        unit: Of every figure.
        rows: At least one.
    """
    scale = (_WIDTH - _LEFT - 90) / max(row.high for row in rows)
    height = _TOP + _ROW * len(rows) + 14
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        'font-family="system-ui, sans-serif" font-size="13">',
        "<style>text{fill:#24292f}.own{fill:#0a7d5a}.other{fill:#8c959f}.spread{stroke:#24292f;stroke-width:1.5}"
        "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.own{fill:#2fbf8f}.other{fill:#6e7681}"
        ".spread{stroke:#e6edf3}}</style>",
        f'<text x="10" y="24" font-size="16" font-weight="600">{escape(title)}</text>',
        f'<text x="10" y="42">{escape(unit)}; bar: median of the rounds, line: least to most</text>',
    ]
    for number, row in enumerate(rows):
        y = _TOP + _ROW * number
        kind, weight = ("own", "600") if row.own else ("other", "400")
        low, high = _LEFT + row.low * scale, _LEFT + row.high * scale
        parts += [
            f'<text x="{_LEFT - 8}" y="{y + 17}" text-anchor="end" font-weight="{weight}">{escape(row.name)}</text>',
            f'<rect class="{kind}" x="{_LEFT}" y="{y + 4}" width="{row.middle * scale:.1f}" height="18" rx="2"/>',
            f'<line class="spread" x1="{low:.1f}" x2="{high:.1f}" y1="{y + 13}" y2="{y + 13}"/>',
            f'<text x="{high + 8:.1f}" y="{y + 17}" font-weight="{weight}">{row.middle:.1f}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])
