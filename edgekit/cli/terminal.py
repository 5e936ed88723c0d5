"""What the verbs share on a terminal: JSON or words, a progress bar, sizes in words."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

Progress = Callable[[str, int, int], None]

_STAGES = {
    "read": "reading photos",
    "crop": "cutting crops",
    "decode": "decoding photos",
    "features": "features, once",
    "fine-tune": "training",
    "judge": "judging what was held out",
    "distil: ask": "asking the teacher",
    "distil": "distilling",
    "qat: ask": "asking the teacher",
    "qat": "training for int8",
    "lower": "lowering to float TFLite",
    "calibrate": "calibrating",
    "refine": "fitting weights to the grid",
    "quantise": "quantising",
    "blame": "one layer at a time",
    "study": "trying grids",
    "look": "looking at photos",
    "ranges": "measuring ranges",
    "agree": "comparing with the float model",
    "evaluate": "judging images",
    "bench": "timing",
    "fetch": "fetching wheels",
}


def print_json(document: Mapping[str, Any]) -> None:
    """One object on stdout and nothing else."""
    sys.stdout.write(json.dumps(document, sort_keys=True) + "\n")


@contextmanager
def progress_bar(*, quiet: bool) -> Iterator[Progress | None]:
    """A bar on stderr while it is a terminal; otherwise nothing.

    Args:
        quiet: Never draw one.
    """
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    class Rate(TextColumn):
        """Steps a second, once that is known."""

        def render(self, task: Task) -> Any:
            task.fields["rate"] = f"{task.speed:.0f}/s" if task.speed and task.speed >= 1 else ""
            return super().render(task)

    # Elapsed and left: 80 columns in all.
    counts = (TextColumn("{task.completed}/{task.total}"), Rate("{task.fields[rate]}"))
    columns = (TextColumn("{task.description:<30}"), BarColumn(12), *counts, TimeRemainingColumn(compact=True))
    console = Console(stderr=True, no_color="NO_COLOR" in os.environ)
    with Progress(*columns, TimeElapsedColumn(), console=console) as bars:
        tasks: dict[str, Any] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(_STAGES.get(stage, stage), total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield report


def megabytes(size: int) -> str:
    """A size in MB (10^6 bytes), kB below one."""
    return f"{size / 1e6:.2f} MB" if size >= 1_000_000 else f"{size / 1e3:.1f} kB"


def percent(share: float) -> str:
    """A share as 98.6 %."""
    return f"{100 * share:.1f} %"
