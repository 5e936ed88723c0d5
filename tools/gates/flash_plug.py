"""F-PLUG: the plug of a board of this machine's own kind is pulled 50 times while a new version is flashed.

What the emulated board of gate F-BOARD does in hours takes minutes here: Debian's sshd in a chroot, and a kill of every
process of it at a random moment after the first change. Then the whole disk is looked at, and every tenth time a flash
that nothing interrupts must end where it should. What was found is kept in build/flash-plug/found.json; a run that was
stopped goes on there. Needs root, and: apt install openssh-server sudo
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tools.gates.flash_page import put_section
from tools.results import ROOT, commit, machine, versions

FOUND = ROOT / "build" / "flash-plug" / "found.json"
_SPAN_S, _BEYOND, _ASKING_S = 15.0, 1.15, 300.0
_WHOLE_EVERY = 10


def run(arguments: Sequence[str]) -> dict[str, Any]:
    """Pull `--pulls` times (50)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pulls", type=int, default=50)
    args = parser.parse_args(arguments)
    if os.geteuid():
        return {"gate": "F-PLUG", "passed": False, "figure": "not run: needs root", "detail": ""}
    sys.path.insert(0, str(ROOT))
    rows: list[dict[str, Any]] = json.loads(FOUND.read_text()) if FOUND.exists() else []
    if len(rows) < args.pulls:
        with tempfile.TemporaryDirectory(prefix="edgekit-plug-") as folder:
            _pull_all(Path(folder), args.pulls, rows)
    result = _verdict(rows, args.pulls)
    FOUND.unlink(missing_ok=True)
    return result


def _pull_all(place: Path, count: int, rows: list[dict[str, Any]]) -> None:
    from tests.worlds.flash_desk import Desk, current
    from tests.worlds.ssh_boards import make_board

    (place / "desk").mkdir()
    desk, world, span_s = Desk(place / "desk"), make_board(place), _SPAN_S
    world.start()
    try:
        desk.one(desk.bundle("1.0.0"), world)
        while len(rows) < count:
            row, took_s = _pull(desk, world, f"1.1.{len(rows)}", random.uniform(0.0, span_s))
            span_s = _BEYOND * took_s if took_s else span_s
            if len(rows) % _WHOLE_EVERY == _WHOLE_EVERY - 1:
                whole = desk.bundle(f"1.2.{len(rows)}")
                desk.one(whole, world)
                row["next"] = current(world) == whole.stem
            rows.append(row | {"commit": commit()})
            print(f"F-PLUG: {len(rows)}: {row}", flush=True)
            FOUND.parent.mkdir(parents=True, exist_ok=True)
            part = FOUND.with_suffix(".part")
            part.write_text(json.dumps(rows, indent=1) + "\n")
            part.rename(FOUND)
    finally:
        world.pull_the_plug()
        shutil.rmtree(world.disk, ignore_errors=True)


def _pull(desk: Any, world: Any, version: str, after_s: float) -> tuple[dict[str, Any], float]:
    """Flash, pull, look. Returns (what was found, seconds from the first change to the end; 0 if that was cut)."""
    from tests.worlds.flash_desk import current, half_installed

    bundle, before = desk.bundle(version), current(world)
    steps: list[str] = []
    times_s: list[float] = []
    changing, ended = threading.Event(), []

    def tell(target: str, step: Any) -> None:
        steps.append(step.name)
        times_s.append(time.monotonic())
        changing.set()

    def flash() -> None:
        (done,) = desk.flash(bundle, world, on_step=tell)
        ended.append(type(done.error).__name__ if done.error else "whole")
        times_s.append(time.monotonic())
        changing.set()

    flashing = threading.Thread(target=flash)
    flashing.start()
    changing.wait(_ASKING_S)
    flashing.join(after_s)
    early, step = flashing.is_alive(), steps[-1] if steps else "asking"
    world.pull_the_plug()
    flashing.join(300)
    world.start()
    found, serves = half_installed(world, desk.digests), current(world)
    if serves not in (before, bundle.stem):
        found.append(f"{serves or 'nothing'} is current")
    row = {"after_s": round(after_s, 1), "step": step if early else "over", "new": serves == bundle.stem}
    row |= {"half": found, "flash": ended[0] if ended else "hangs"}
    return row, times_s[-1] - times_s[0] if ended == ["whole"] else 0.0


def _verdict(rows: list[dict[str, Any]], wanted: int) -> dict[str, Any]:
    half = [f"{row['step']}, {row['after_s']} s: {words}" for row in rows for words in row["half"]]
    went_on = [row["next"] for row in rows if "next" in row]
    new = sum(row["new"] for row in rows)
    figure = (
        f"{len(rows)} plugs pulled while a new version was flashed: {len(rows) - new} times the old release, {new} "
        f"times the new one, {len(half)} half installs; {sum(went_on)} of {len(went_on)} flashes afterwards ended "
        "where they should"
    )
    times, newer = Counter(row["step"] for row in rows), Counter(row["step"] for row in rows if row["new"])
    table = ["| the plug was pulled in | times | old after it | new after it |", "|---|---|---|---|"]
    table += [f"| {step} | {n} | {n - newer[step]} | {newer[step]} |" for step, n in times.most_common()]
    commits = ", ".join(sorted({row["commit"] for row in rows}))
    head = ["    make gates ONLY=F-PLUG", "", f"Machine: {machine()}; Debian 12, Python {platform.python_version()},"]
    head += [f"{versions('asyncssh')}; at {commits}.", "", f"{figure}.", ""]
    put_section("## The plug is pulled", [*head, *table, *half[:10]])
    passed = not half and len(rows) >= wanted and all(went_on)
    return {"gate": "F-PLUG", "passed": passed, "figure": figure, "detail": "\n".join([*table, *half[:10]])}
