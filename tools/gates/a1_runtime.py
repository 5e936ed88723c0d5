"""A1-RUNTIME: every mutating call of installing, starting, judging and rolling back a runtime x {SIGKILL, ENOSPC, EIO}.

By strace. For the calls of our own an environment is copied in place of pip; pip itself is struck at a sample of its
calls. After each: what would be started is there, old or new; the next install converges; at most two are held; nothing
is left.
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
from tests.worlds.runtime_traced import SCENES, RuntimeScene, calls_of, judge, process
from tests.worlds.traced import Installer
from tools.gates.a1 import FAULTS

PIP_SCENE = "install beside one that passed"


def run(arguments: Sequence[str]) -> dict[str, Any]:
    """Strike at every call; `--every N` takes each N-th, `--pip N` that many of pip's, `--scene WORDS` some scenes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--pip", type=int, default=24)
    parser.add_argument("--scene", default="")
    args = parser.parse_args(arguments)
    if shutil.which("strace") is None:
        return {
            "gate": "A1-RUNTIME",
            "passed": None,
            "figure": "not run: needs strace (apt install strace)",
            "detail": "",
        }
    bad: list[str] = []
    rows = ["| what | calls | " + " | ".join(FAULTS) + " |", "|---" * (2 + len(FAULTS)) + "|"]
    runs = 0
    # In memory: thousands of boards are made, and what is proved is the order of calls.
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        scene = RuntimeScene(Path(folder), Signer.make(Path(folder) / "keys"))
        with process(scene) as found:
            for name in SCENES:
                if args.scene in name:
                    row, count, problems = _strike(found, scene, name, args.every)
                    rows.append(row)
                    runs += count
                    bad += problems
        if args.pip:
            with process(scene, quick=False) as found:
                calls = len(calls_of(found, scene, PIP_SCENE, quick=False))
                every = max(1, calls * len(FAULTS) // args.pip)
                row, count, problems = _strike(found, scene, PIP_SCENE, every, quick=False)
                rows.append(row)
                runs += count
                bad += problems
    return {
        "gate": "A1-RUNTIME",
        "passed": not bad and runs > 0,
        "figure": f"{runs} faults at {'the' if args.every == 1 else f'one in {args.every} of the'} mutating calls of "
        f"runtime releases{'' if args.pip else ', without those of pip'}: {runs - len(bad)} of {runs} boards "
        "start the old or the new runtime and converge",
        "detail": "\n".join(rows + bad[:10]),
    }


def _strike(
    found: Installer, scene: RuntimeScene, name: str, every: int, *, quick: bool = True
) -> tuple[str, int, list[str]]:
    """Strike one scene. Returns (row of the table, runs, what is wrong)."""
    calls, bad, runs = calls_of(found, scene, name, quick=quick), [], 0
    tally: dict[str, collections.Counter[bool]] = {fault: collections.Counter() for fault in FAULTS}
    for place, (call, ordinal) in enumerate(calls):
        for number, (fault, inject) in enumerate(FAULTS.items()):
            if (place * len(FAULTS) + number) % every:
                continue
            home = scene.board(name, "struck")
            options = ("-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:{inject.format(ordinal)}")
            code = found.obey(scene.order(name, home, quick=quick), *options)
            problem = judge(scene, home, name)
            if code == UNNAMED:
                problem = "ended with an unnamed error"
            if fault == "SIGKILL" and quick and code != -signal.SIGKILL:
                problem = f"was not struck: exit code {code}"
            runs += 1
            tally[fault][problem is None] += 1
            if problem:
                bad.append(f"- {name}, {call} {ordinal}, {fault}: {problem}")
    title = name if quick else f"{name}, pip and all (a sample)"
    cells = " | ".join(f"{tally[fault][True]} of {tally[fault].total()}" for fault in FAULTS)
    return f"| {title} | {len(calls)} | {cells} |", runs, bad
