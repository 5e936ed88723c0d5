"""A2: the power is cut anywhere in an install or a rollback; every disk that may be left then boots a signed model.

The strace log of a real run is replayed: what was not synced is dropped, kept or torn in all combinations.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.worlds.bundles import Signer
from tests.worlds.crash_states import Recording, distinct, lay_out
from tests.worlds.traced import STATES, Scene, installer, judge, log_of

LEAST = 500


def run(arguments: Sequence[str]) -> dict[str, Any]:
    """Replay every state; `--every N` takes each N-th, `--state WORDS` those whose name has the words."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--state", default="")
    args = parser.parse_args(arguments)
    if shutil.which("strace") is None:
        return {"gate": "A2", "passed": None, "figure": "not run: needs strace (apt install strace)", "detail": ""}
    rows = ["| order | on | calls that change the disk | syncs | states | bad |", "|---|---|---|---|---|---|"]
    total, bad, seen_without = 0, [], 0
    with tempfile.TemporaryDirectory() as folder:
        scene = Scene(Path(folder), Signer.make(Path(folder) / "keys"))
        with installer(scene) as process:
            for verb in ("install", "rollback"):
                for state in STATES:
                    if args.state not in state or (verb == "rollback" and len(STATES[state][0]) < 2):
                        continue
                    log, root = log_of(process, scene, verb, state)
                    recording = Recording(root, scene.board(state, "before"), log)
                    count, wrong = _replay(scene, recording, verb, state, args.every)
                    syncs = sum(not hasattr(step, "data") for step in recording.steps)
                    changes = len(recording.steps) - syncs
                    rows.append(f"| {verb} | {state} | {changes} | {syncs} | {count} | {len(wrong)} |")
                    total, bad = total + count, bad + [f"- {verb} on {state}: {words}" for words in wrong]
                    if verb == "install" and not seen_without:
                        # The control: the same log without its syncs must leave boards that do not boot.
                        unsynced = Recording(root, scene.board(state, "before"), [c for c in log if "fsync(" not in c])
                        seen_without = len(_replay(scene, unsynced, verb, state, max(args.every, 3))[1])
    enough = total * args.every >= LEAST or bool(args.state)
    return {
        "gate": "A2",
        "passed": not bad and enough and seen_without > 0,
        "figure": f"{total} disks after a power cut: {len(bad)} without a working model or a converging install"
        f"; with the syncs struck from a log the replay finds {seen_without} bad ones",
        "detail": "\n".join(rows + bad[:10]),
    }


def _replay(scene: Scene, recording: Recording, verb: str, state: str, every: int) -> tuple[int, list[str]]:
    """How many disks were tried, and what is wrong with some."""
    count, wrong = 0, []
    for number, disk in enumerate(distinct(recording)):
        if number % every:
            continue
        place = scene.folder / "boards" / "cut"
        shutil.rmtree(place, ignore_errors=True)
        lay_out(disk, recording.top, place)
        count += 1
        problem = judge(scene, place, verb, state, restart=True)
        if problem:
            wrong.append(problem)
    return count, wrong
