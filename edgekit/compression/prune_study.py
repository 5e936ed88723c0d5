"""What each group of channels can spare: accuracy when a share of it alone is zero, nothing being taught afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.compression.channels import ChannelGraph
from edgekit.compression.choosing import Worth
from edgekit.compression.rebuilding import Cut, zero
from edgekit.learning import Lessons, Places, Progress

SHARES = (0.25, 0.5, 0.75)
# Pixels -> logits, of the model as its weights are at the moment.
Run = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]
_BATCH = 32


@dataclass(frozen=True)
class StudyRow:
    """One group with a share of its channels gone.

    Attributes:
        group: Its first layer.
        channels: How many it has.
        gone: How many of them are zero.
        top1: Share of the pictures that is still right.
    """

    group: str
    channels: int
    gone: int
    top1: float

    @property
    def is_block(self) -> bool:
        """Whether it is a block, which goes as a whole."""
        return self.channels == 1

    def to_json(self) -> dict[str, Any]:
        """One object."""
        return asdict(self)


def study_groups(
    model: Any, graph: ChannelGraph, worth: Worth, lessons: Lessons, run: Run, places: Places, progress: Progress | None
) -> list[StudyRow]:
    """Take the channels that are worth least from one group after the other.

    Args:
        model: The classifier; its weights are the same again afterwards.
        graph: Its channels.
        worth: What they are worth.
        lessons: The pictures.
        run: The model as a function.
        places: Pictures with labels that it is judged on.
        progress: Called with (stage, done, total).

    Returns:
        For each group a row with nothing gone and one for each of SHARES; a block is a group with one row, all gone.
    """
    before = model.get_weights()
    whole = _right(run, lessons, places)
    rows: list[StudyRow] = []
    total = len(graph.groups) * len(SHARES) + len(graph.blocks)

    def judge(cut: Cut) -> float:
        zero(model, graph, cut)
        found = _right(run, lessons, places)
        model.set_weights(before)
        if progress:
            progress("study", min(total, len(rows) + 1 - len(graph.groups)), total)
        return found

    # Two groups may begin with the same layer, where a concatenation is added to it.
    makers = [group.name for group in graph.groups]
    names = [name if makers.count(name) == 1 else f"{name} ({at})" for at, name in enumerate(makers)]
    for group, name in zip(graph.groups, names, strict=True):
        rows.append(StudyRow(name, len(group.channels), 0, whole))
    for group, name in zip(graph.groups, names, strict=True):
        queue = group.channels[np.argsort(worth.channels[group.channels], kind="stable")]
        for share in SHARES:
            gone = round(share * len(queue))
            kept = np.ones(graph.count, bool)
            kept[queue[:gone]] = False
            rows.append(StudyRow(name, len(queue), gone, judge(Cut(kept))))
    for block in graph.blocks:
        rows.append(StudyRow(block.name, 1, 1, judge(Cut(np.ones(graph.count, bool), (block.name,)))))
    return rows


def _right(run: Run, lessons: Lessons, places: Places) -> float:
    parts = [places[start : start + _BATCH] for start in range(0, len(places), _BATCH)]
    hits = [run(lessons.exact(part)).argmax(axis=1) == lessons.targets[part] for part in parts]
    return float(np.concatenate(hits).mean())


def as_cells(rows: Sequence[StudyRow]) -> tuple[list[str], dict[str, list[float | None]]]:
    """(heads, name -> top-1 in per cent by share gone): every group, the most sensitive first, then every block."""
    heads = ["0 %", *(f"{100 * share:.0f} %" for share in SHARES)]
    cells: dict[str, list[float | None]] = {name: [top1 for _, top1 in line] for name, line in as_lines(rows).items()}
    blocks = sorted((row for row in rows if row.is_block), key=lambda row: row.top1)
    cells |= {f"without {row.group}": [*[None] * len(heads), 100 * row.top1] for row in blocks}
    return [*heads, *["the block"] * bool(blocks)], cells


def as_lines(rows: Sequence[StudyRow]) -> dict[str, list[tuple[float, float]]]:
    """Group -> (share gone in per cent, top-1 in per cent), the most sensitive first."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if not row.is_block:
            lines.setdefault(row.group, []).append((100 * row.gone / row.channels, 100 * row.top1))
    return dict(sorted(lines.items(), key=lambda line: sum(top1 for _, top1 in line[1])))
