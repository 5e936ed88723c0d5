"""E7: schemathesis on the API's own description, logged in and not; resumable, round by round."""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from edgekit.artefacts import write_atomically
from edgekit.fleet.database import sqlite_url
from tests.worlds.api_fuzz import fuzz
from tests.worlds.api_storm import Storm, gather, send
from tests.worlds.dashboards import Shown, shown
from tests.worlds.showroom import boards, fill

REQUESTS = 50_000
_ROUND, _AT_ONCE = 2_000, 8
_CASES = 120
ROOT = Path(__file__).resolve().parents[2]


def run(arguments: Sequence[str]) -> dict[str, Any]:
    """Schemathesis' own phases first, then rounds of requests made of its cases until `--requests` are reached."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=REQUESTS)
    parser.add_argument("--state", type=Path, default=ROOT / ".stamps" / "e7.json", help="Where an ended run is kept.")
    args = parser.parse_args(list(arguments))
    state = _State(args.state)
    with TemporaryDirectory() as folder:
        url = sqlite_url(Path(folder) / "fleet.db")
        fill(url, boards(), minutes=36, window_s=3600.0)
        with shown(url) as world:
            _phases(world, state)
            _storm(world, state, args.requests)
    codes = state.values["codes"]
    shown_codes = ", ".join(f"{count} x {code}" for code, count in sorted(codes.items()))
    wrong, own, storm = state.values["wrong"], state.values["own"], sum(codes.values())
    if not wrong and own + storm >= args.requests:
        args.state.unlink(missing_ok=True)
    return {
        "gate": "E7",
        "passed": not wrong and own + storm >= args.requests,
        "figure": f"{own + storm} requests ({own} by schemathesis itself, {storm} put together from its cases), every "
        "fourth round without a login: "
        + ("a check failed" if wrong else "0 answers of 500 or more, 0 breaks of the description"),
        "detail": f"answers: {shown_codes}" + (f"\n```\n{wrong}\n```" if wrong else ""),
    }


class _State:
    """What was done, kept after each round: power may fail, or somebody needs the machine."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.values: dict[str, Any] = {
            "commit": _commit(),
            "phases": [],
            "rounds": 0,
            "own": 0,
            "codes": {},
            "wrong": "",
        }
        if path.exists():
            found = json.loads(path.read_text("utf-8"))
            if found["commit"] == self.values["commit"]:
                self.values = found

    def keep(self, **values: Any) -> None:
        """Note what was done."""
        self.values |= values
        self.path.parent.mkdir(exist_ok=True)
        write_atomically(self.path, json.dumps(self.values).encode())


def _phases(world: Shown, state: _State) -> None:
    for (phases, examples), login in itertools.product((("examples,coverage", 10), ("fuzzing", 60)), (True, False)):
        name = f"{phases}, {'with' if login else 'without'} a login"
        if name in state.values["phases"] or state.values["wrong"]:
            continue
        found = fuzz(world, examples, login, phases, seed=examples, limit_s=1800)
        wrong = "" if found.passed and found.requests else found.said
        done = [*state.values["phases"], name]
        state.keep(phases=done, own=state.values["own"] + found.requests, wrong=wrong)
        print(f"E7: {name}: {found.requests} requests", flush=True)


def _storm(world: Shown, state: _State, wanted: int) -> None:
    owner, cookie = world.owner(), world.dashboard.context.keeper.door.cookie
    operations: list[Any] = []
    while state.values["own"] + sum(state.values["codes"].values()) < wanted and not state.values["wrong"]:
        number = state.values["rounds"]
        if not operations or number % 8 == 0:
            operations = gather(owner.get("/openapi.json").json(), _CASES, number)
        login = number % 4 != 3
        headers = {"Origin": world.origin}
        if login:
            headers |= {"Cookie": f"{cookie}={owner.cookies[cookie]}", "X-CSRF-Token": world.csrf(owner)}
        # Side by side: on a busy machine a lone connection mostly waits for its turn.
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            share = _ROUND // _AT_ONCE
            jobs = [
                pool.submit(send, world.origin, operations, headers, share, number * _AT_ONCE + job, login=login)
                for job in range(_AT_ONCE)
            ]
        storm = sum((job.result() for job in jobs), Storm())
        codes = Counter({int(code): count for code, count in state.values["codes"].items()}) + storm.codes
        state.keep(rounds=number + 1, codes={str(k): v for k, v in codes.items()}, wrong="\n".join(storm.wrong))
        print(f"E7: round {number}: {sum(codes.values())} requests", flush=True)


def _commit() -> str:
    # Of the dashboard alone: what was tried stays tried while others land elsewhere.
    words = ["git", "log", "-1", "--format=%h", "--", "edgekit/fleet/web"]
    return subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip()
