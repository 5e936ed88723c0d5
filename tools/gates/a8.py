"""A8: models that are signed and bad, entered behind the back of every check at installing; the service goes back.

Each is also given to `edgekit-device install`, which refuses what can be seen beforehand. The service then shows frames
of the old model again, names the reason, and does not try the same bundle again until it is forced.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgekit_device.contract.errors import RejectedReleaseError
from tests.worlds.trial_board import QUICK, Board, bad_recipes

LIMIT_S = 60.0
_ENDS = r"update_(committed|rejected|blocked|unwritten|cancelled): toy-{}"


def run(arguments: Sequence[str]) -> dict[str, Any]:
    """Try every bad model; `--only WORDS` those whose name has the words, `--quick` with a short health window."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args(arguments)
    trial = QUICK if args.quick else "window_s=45"
    bad: list[str] = []
    rows = [
        "| model | `install` | the service, when it is entered all the same | back after s | longest without frames s |"
    ]
    rows.append("|---|---|---|---|---|")
    count = 0
    with tempfile.TemporaryDirectory() as folder, Board(Path(folder)) as board:
        old = board.committed()
        board.start(trial=trial)
        board.wait_reading(old)
        for number, (kind, recipe) in enumerate(bad_recipes().items()):
            if args.only not in kind:
                continue
            count += 1
            version = f"2.{number}.0"
            path = board.bundle(recipe, version)
            verb = "let through"
            if recipe.model and "live" not in kind and kind not in ("half the FPS", "four times the memory"):
                code = board.verb("install", str(path)).returncode
                verb = {3: "refused", 1: "refused"}.get(code, f"exit code {code}")
                if code not in (1, 3) or board.current != old:
                    bad.append(f"- {kind}: `install` ended with {code}, current is {board.current}")
            row, problem = _try(board, path, old, version)
            rows.append(f"| {kind} | {verb} | {row} |")
            if problem:
                bad.append(f"- {kind}: {problem}")
        # The control: a good one passes the very same service.
        good = board.bundle(type(recipe)(), "3.0.0")
        mark = len(board.said)
        board.enter(good)
        passed = "update_committed" in board.wait(_ENDS.format("3.0.0"), 90, after=mark)
        if not passed or board.current != "toy-3.0.0":
            bad.append(f"- the control, a good model, did not pass: {board.said[-3:]}")
    return {
        "gate": "A8",
        "passed": not bad and count > 0,
        "figure": f"{count - len(bad)} of {count} bad models rolled back in {LIMIT_S:.0f} s, the reason named, "
        f"not tried again; a good one was committed (health window {re.sub(',.*', '', trial)})",
        "detail": "\n".join(rows + bad),
    }


def _try(board: Board, path: Path, old: str, version: str) -> tuple[str, str | None]:
    """One bad model. Returns (cells of the table, what is wrong)."""
    name, mark, began = f"toy-{version}", len(board.said), time.monotonic()
    board.enter(path)
    try:
        line = board.wait(_ENDS.format(re.escape(version)), LIMIT_S + 30, after=mark)
        took = time.monotonic() - began
        board.wait_reading(old)
    except AssertionError as error:
        return f"{error} | |", str(error)
    reason = line.partition(f"{name}: ")[2]
    gap = _longest_gap(board, began)
    cells = f"{reason[:160]} | {took:.1f} | {gap:.1f}"
    status, until = board.status(), time.monotonic() + 10
    while reason not in (status["status"]["reason"] or "") and time.monotonic() < until:
        status = board.status()  # Written at most twice a second.
    if "update_rejected" not in line:
        return cells, f"ended with {line}"
    if took > LIMIT_S:
        return cells, f"took {took:.0f} s"
    if board.current != old or status["status"]["bundle"] != old or not status["alive"]:
        return cells, f"serves {status['status']}, current is {board.current}"
    if reason not in (status["status"]["reason"] or "") or board.verdict(name).state != "rejected":
        return cells, f"status says {status['status']['reason']}; verdict {board.verdict(name)}"
    try:
        board.enter(path)
    except RejectedReleaseError:
        pass
    else:
        return cells, "could be entered again"
    starts = [line for line in board.said[mark:] if f"update_started: {name}" in line]
    return cells, None if len(starts) == 1 else f"tried {len(starts)} times"


def _longest_gap(board: Board, since_s: float) -> float:
    """Longest run of Readings without frames since then, s."""
    longest = gap = 0.0
    for reading in board.readings[-max(1, int((time.monotonic() - since_s) / 0.25)) :]:
        gap = 0.0 if reading["fps"] > 0 else gap + reading["window_s"]
        longest = max(longest, gap)
    return longest
