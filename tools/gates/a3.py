"""A3: the state table of a trial: {kill, error, hang, kill for ever, journal read-only} at every edge of every state.

After each: the release that must serve does, `status` and the journal say what became of the other, and no loop takes
more than five starts.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.worlds.trial_states import EDGES, FAULTS, STATES, Table, chosen, table, workers


def run(arguments: Sequence[str]) -> dict[str, Any]:
    """Live through the table; `--every N` takes each N-th case, `--only WORDS` those whose name has the words."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--only", default="")
    args = parser.parse_args(arguments)
    cases = list(chosen(table(), args.every, args.only))
    with tempfile.TemporaryDirectory() as folder:
        world = Table(Path(folder))
        with ThreadPoolExecutor(workers()) as pool:
            found = dict(zip(cases, pool.map(world.attempt, cases), strict=True))
    bad = [f"- {case.name}: {problem}" for case, problem in found.items() if problem]
    rows = ["| state | " + " | ".join(FAULTS) + " |", "|---" * (1 + len(FAULTS)) + "|"]
    for state in STATES:
        cells = []
        for fault in FAULTS:
            here = [case for case in cases if (case.fault, case.state) == (fault, state)]
            ends = [f"{case.edge}: {' or '.join(case.ends)}" for case in here]
            held = sum(found[case] is None for case in here)
            cells.append(f"{held} of {len(here)} ({'; '.join(ends)})" if here else "-")
        rows.append(f"| {state} | {' | '.join(cells)} |")
    return {
        "gate": "A3",
        "passed": not bad and bool(cases),
        "figure": f"{len(cases) - len(bad)} of {len(cases)} cases ({len(FAULTS)} faults x {len(EDGES)} edges x "
        f"{len(STATES)} states, and a journal that is read-only from the start) end as promised",
        "detail": "\n".join(rows + bad),
    }
