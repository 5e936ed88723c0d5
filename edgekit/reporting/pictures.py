"""Pictures of figures as SVG: they scale, print, and follow a light or dark page. No library, no script."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from edgekit.reporting.bench import Bench, Cell
from edgekit.reporting.svg_style import svg_style

_STYLE = svg_style(
    ".line{stroke:#d0d7de}.int8{fill:#1f6feb}.float{fill:#8c959f}.whisker{stroke:#1b1f24}",
    ".line{stroke:#30363d}.whisker{stroke:#e6edf3}",
)
_WIDTH, _LEFT, _ROW = 760, 300, 26


def bench_svg(done: Bench) -> str:
    """Bars of the medians, one a cell, with a whisker from p50 to p99."""
    cells = [cell for cell in done.cells if cell.p50_ms is not None]
    longest = max((cell.p99_ms or 0.0 for cell in cells), default=1.0)
    # A rare pause of the machine must not squeeze every bar: what is longer is cut off and shown as a number.
    limit = min(longest, 3 * max((cell.p50_ms or 0.0 for cell in cells), default=1.0)) or 1.0
    scale = (_WIDTH - _LEFT - 130) / limit
    rows = [_bar(cell, 46 + at * _ROW, scale, limit) for at, cell in enumerate(cells)]
    machine = f"{done.machine['cpu']}, {done.machine['cores']} cores, {done.machine['interpreter']}"
    head = (
        '<text x="12" y="20" font-weight="600">ms of one inference: bar p50, line to p99</text>'
        f'<text x="12" y="36" class="soft">{escape(machine)}</text>'
    )
    return _svg(_WIDTH, 56 + len(cells) * _ROW, head + "".join(rows))


def _bar(cell: Cell, top: int, scale: float, limit: float) -> str:
    p50, p99 = cell.p50_ms or 0.0, cell.p99_ms or 0.0
    name = f"{Path(cell.model).stem[:22]}, {cell.rung}, {cell.threads} thr"
    end, middle = _LEFT + min(p99, limit) * scale, top + 10
    return (
        f'<text x="12" y="{top + 14}">{escape(name)}</text>'
        f'<rect class="{cell.kind}" x="{_LEFT}" y="{top + 2}" width="{p50 * scale:.1f}" height="16" rx="2"/>'
        f'<path class="whisker" d="M{_LEFT + p50 * scale:.1f} {middle}H{end:.1f}M{end:.1f} {top + 6}V{top + 14}"/>'
        f'<text x="{end + 6:.1f}" y="{top + 14}">{p50:.2f} <tspan class="soft">p99 {p99:.2f}</tspan></text>'
    )


def confusion_svg(confusion: Mapping[tuple[int, int], int], labels: Sequence[str], *, limit: int = 30) -> str:
    """A heat map, rows the truth, columns what was said; of many classes those with the most mistakes."""
    mistakes: dict[int, int] = {}
    for (true, said), count in confusion.items():
        for index in {true, said}:
            mistakes[index] = mistakes.get(index, 0) + (count if true != said else 0)
    shown = sorted(sorted(mistakes, key=lambda index: (-mistakes[index], index))[:limit])
    totals = {i: sum(n for (true, _), n in confusion.items() if true == i) for i in shown}
    side, left, top = 20, 190, 170
    parts = [f'<text x="12" y="20" font-weight="600">Confusion: {len(shown)} of {len(mistakes)} classes</text>']
    parts.append(
        '<text x="12" y="36" class="soft">row: what it is; column: what the model said; share of the row</text>'
    )
    for at, index in enumerate(shown):
        name = escape(labels[index][:26])
        x, y = left + at * side, top + at * side
        parts.append(f'<text x="{left - 6}" y="{y + 14}" text-anchor="end">{name}</text>')
        parts.append(f'<text transform="translate({x + 14} {top - 6}) rotate(-60)">{name}</text>')
    for row, true in enumerate(shown):
        for column, said in enumerate(shown):
            count = confusion.get((true, said), 0)
            if count:
                parts.append(_square(left + column * side, top + row * side, side, count, totals[true], true == said))
    edge = len(shown) * side
    parts.append(f'<rect x="{left}" y="{top}" width="{edge}" height="{edge}" fill="none" class="line"/>')
    # Slanted names lean over the right edge, and the title is wider than a small matrix.
    return _svg(max(460, left + edge + 110), top + edge + 16, "".join(parts))


def _square(x: int, y: int, side: int, count: int, total: int, right: bool) -> str:
    color = "#1f6feb" if right else "#cf222e"
    strength = 0.15 + 0.85 * math.sqrt(count / max(1, total))
    title = f"<title>{count} of {total}</title>"
    return (
        f'<rect x="{x}" y="{y}" width="{side}" height="{side}" fill="{color}" opacity="{strength:.2f}">{title}</rect>'
    )


def _svg(width: int, height: int, inside: str) -> str:
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    page = f'<rect class="page" width="{width}" height="{height}"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{_STYLE}{page}{inside}</svg>\n'
