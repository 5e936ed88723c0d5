"""A1, installing: every mutating system call of an install and a rollback x {SIGKILL, ENOSPC, EIO}, by strace.

After each: what serves is whole and signed, old or new; the next install converges; at most three releases are left.
"""

from __future__ import annotations

import argparse
import collections
import shutil
import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.worlds.bundles import Signer
from tests.worlds.installer_process import UNNAMED
from tests.worlds.traced import MUTATING, STATES, Scene, installer, judge, log_of

# "+": from that call on, as a disk that stays full or broken.
FAULTS = {
    "SIGKILL": "signal=KILL:when={}",
    "ENOSPC": "error=ENOSPC:when={}",
    "EIO": "error=EIO:when={}",
    "ENOSPC from there on": "error=ENOSPC:when={}+",
    "EIO from there on": "error=EIO:when={}+",
}


def run(arguments: Sequence[str]) -> dict[str, Any]:
    """Strike at every call; `--every N` takes each N-th, `--state WORDS` those whose name has the words."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--state", default="")
    args = parser.parse_args(arguments)
    if shutil.which("strace") is None:
        return {"gate": "A1", "passed": None, "figure": "not run: needs strace (apt install strace)", "detail": ""}
    bad: list[str] = []
    rows = ["| order | on | calls | " + " | ".join(FAULTS) + " |", "|---" * (3 + len(FAULTS)) + "|"]
    runs = 0
    with tempfile.TemporaryDirectory() as folder:
        scene = Scene(Path(folder), Signer.make(Path(folder) / "keys"))
        with installer(scene) as process:
            for verb in ("install", "rollback"):
                for state in STATES:
                    if args.state not in state or (verb == "rollback" and len(STATES[state][0]) < 2):
                        continue
                    calls = calls_of(log_of(process, scene, verb, state)[0])
                    tally: dict[str, collections.Counter[bool]] = {name: collections.Counter() for name in FAULTS}
                    for place, (call, ordinal) in enumerate(calls):
                        for number, (name, inject) in enumerate(FAULTS.items()):
                            if (place * len(FAULTS) + number) % args.every:
                                continue
                            root = scene.board(state, "struck")
                            options = ("-o", "/dev/null", "-e", f"trace={call}")
                            options += ("-e", f"inject={call}:{inject.format(ordinal)}")
                            code = process.obey(scene.order(verb, state, root), *options)
                            problem = judge(scene, root, verb, state, restart=name == "SIGKILL")
                            if code == UNNAMED:
                                problem = "ended with an unnamed error"
                            if name == "SIGKILL" and code != -signal.SIGKILL:
                                problem = f"was not struck: exit code {code}"
                            runs += 1
                            tally[name][problem is None] += 1
                            if problem:
                                bad.append(f"- {verb} on {state}, {call} {ordinal}, {name}: {problem}")
                    cells = " | ".join(f"{tally[name][True]} of {tally[name].total()}" for name in FAULTS)
                    rows.append(f"| {verb} | {state} | {len(calls)} | {cells} |")
    return {
        "gate": "A1",
        "passed": not bad and runs > 0,
        "figure": f"{runs} faults at every mutating call of install and rollback: {runs - len(bad)} of {runs} "
        "boards whole and converged",
        "detail": "\n".join(rows + bad[:10]),
    }


def calls_of(log: list[str]) -> list[tuple[str, int]]:
    """Each mutating call with its number among its kind."""
    seen: collections.Counter[str] = collections.Counter()
    found = []
    for line in log:
        name = line.partition("(")[0]
        if name in MUTATING:
            seen[name] += 1
            found.append((name, seen[name]))
    return found
