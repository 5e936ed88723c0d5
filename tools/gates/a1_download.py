"""A1, downloading: every mutating system call of an update over the air x {SIGKILL, ENOSPC, EIO}, by strace.

After each: what serves is whole and signed, old or new; the next visit ends at the new one; nothing is left over.
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

from edgekit_device import slots
from edgekit_device.bundle import open_bundle
from edgekit_device.ota import errand
from tests.worlds.bundles import Signer
from tests.worlds.installer_process import UNNAMED
from tests.worlds.repositories import World, serving, world
from tests.worlds.traced import MUTATING, Scene, installer
from tools.gates.a1 import FAULTS, calls_of
from tools.ota_page import write_section

WANTED = "toy-1.1.0"
# A body comes in as many pieces as the network makes of it: the last write of one run is not there in each.
TRIES = 10


def run(arguments: Sequence[str]) -> dict[str, Any]:
    """Strike at every call; `--every N` takes each N-th."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1)
    args = parser.parse_args(arguments)
    if shutil.which("strace") is None:
        return {
            "gate": "A1-DOWNLOAD",
            "passed": None,
            "figure": "not run: needs strace (apt install strace)",
            "detail": "",
        }
    bad: list[str] = []
    tally: dict[str, collections.Counter[bool]] = {name: collections.Counter() for name in FAULTS}
    with tempfile.TemporaryDirectory() as folder, world(Path(folder) / "w") as made:
        template = made.board("template")
        made.publish("1.1.0", model=b"model" * 3000)
        with installer(Scene(Path(folder), Signer.make(Path(folder) / "k"))) as process:
            order(process, made, copy_of(template, "warm"), "-o", "/dev/null")
            log = Path(folder) / "log"
            order(process, made, copy_of(template, "traced"), "-o", str(log), "-e", f"trace={','.join(MUTATING)}")
            found = calls_of([line.partition(" ")[2].lstrip() for line in log.read_text().splitlines()])
            for place, (call, ordinal) in enumerate(found):
                if place % 20 == 0:
                    print(f"A1-DOWNLOAD: {place} of {len(found)} calls struck, {len(bad)} bad", flush=True)
                for number, (name, inject) in enumerate(FAULTS.items()):
                    if (place * len(FAULTS) + number) % args.every:
                        continue
                    options = (
                        "-o",
                        "/dev/null",
                        "-e",
                        f"trace={call}",
                        "-e",
                        f"inject={call}:{inject.format(ordinal)}",
                    )
                    for _ in range(TRIES):
                        root = copy_of(template, "struck")
                        code = order(process, made, root, *options)
                        if name != "SIGKILL" or code == -signal.SIGKILL:
                            break
                    problem = judge(made, root)
                    if code == UNNAMED:
                        problem = "ended with an unnamed error"
                    if name == "SIGKILL" and code != -signal.SIGKILL:
                        problem = f"was not struck: exit code {code}"
                    tally[name][problem is None] += 1
                    if problem:
                        bad.append(f"- {call} {ordinal}, {name}: {problem}")
    runs = sum(counter.total() for counter in tally.values())
    cells = " | ".join(f"{tally[name][True]} of {tally[name].total()}" for name in FAULTS)
    rows = ["| calls | " + " | ".join(FAULTS) + " |", "|---" * (1 + len(FAULTS)) + "|", f"| {len(found)} | {cells} |"]
    figure = (
        f"{runs} faults at the mutating calls of a download with its install: {runs - len(bad)} of {runs} boards whole "
    )
    figure += "and converged"
    write_section(
        "Faults at every system call of a download (gate A1-DOWNLOAD)", "\n".join([figure, "", *rows, *bad[:20]])
    )
    return {
        "gate": "A1-DOWNLOAD",
        "passed": not bad and runs > 0,
        "figure": figure,
        "detail": "\n".join(rows + bad[:10]),
    }


def copy_of(template: Path, name: str) -> Path:
    """A fresh board."""
    place = template.with_name(name)
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(template, place, symlinks=True)
    return place


def order(process: Any, made: World, root: Path, *strace: str) -> int:
    """One update in a child of the installer; its exit code."""
    code: int = process.obey({**made.order(root, WANTED), "verb": "download"}, *strace)
    return code


def judge(made: World, root: Path) -> str | None:
    """What is wrong with a board after an interruption; None if nothing is."""
    keys = [made.signer.public]
    try:
        slots.recover(root / "opt/edgekit")
        now = slots.current(root / "opt/edgekit")
        if now is None or now.bundle_id not in ("toy-1.0.0", WANTED):
            return f"serves {now}"
        open_bundle(now.bundle_path, keys)
        errand.enter_bundle(made.order(root, WANTED), lambda words: None, lambda bundle, data: None)
        if serving(root) != WANTED:
            return f"the next visit ended at {serving(root)}"
        state = root / "var/lib/edgekit/updates"
        left = [path.name for path in state.rglob("*") if path.name.endswith(".part") or "ready" in path.parts]
        left += [path.name for path in root.rglob(".new-*")]
        if left:
            return f"left {left}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None
