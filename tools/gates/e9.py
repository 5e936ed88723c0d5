"""E9: enrolment cannot be replayed, founding survives every power cut, and configuration is data only."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.worlds.replays import replay
from tests.worlds.trusted_fleet import config_home, found_fleet
from tools.gates import trust_page
from tools.results import ROOT


def run(arguments: Sequence[str]) -> dict[str, Any]:
    """Replay `--replays` times (100), read `--documents` (10,000) under strace, cut every `--stride`-th step (1)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replays", type=int, default=100)
    parser.add_argument("--documents", type=int, default=10_000)
    parser.add_argument("--stride", type=int, default=1)
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        with config_home(place / "config"):
            accepted = replay(found_fleet(place / "config" / "fleet"), args.replays)
        fuzz, executed = fuzzed(args.documents, place)
        words = [sys.executable, "-m", "tests.worlds.founding_cuts", str(place / "cuts"), str(args.stride)]
        cuts = json.loads(subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    replays = {name: count for name, count in accepted.items() if name != "race"}
    clean = not fuzz["unnamed"] and not fuzz["seen"] and executed in (None, 1)
    passed = not any(replays.values()) and accepted["race"] == 1 and clean and not cuts["unfinished"]
    passed = passed and executed is not None
    strace = "strace is missing, NOT counted" if executed is None else f"{executed - 1} programs executed"
    figure = (
        f"{args.replays} replays of each kind: {sum(replays.values())} accepted, a race for one token won "
        f"{accepted['race']} time; {fuzz['count']} hostile configurations: {strace}, {len(fuzz['seen'])} files, "
        f"imports or sockets touched, {len(fuzz['unnamed'])} unnamed errors; {cuts['cuts']} power cuts while founding, "
        f"{len(cuts['unfinished'])} unfinished by the next run"
    )
    lines = [
        "A used token (by the same key and by a thief's), an old token and a used renewal are said again; sixteen",
        "boards race for one token. Hostile values are put into what a host, a token or a file may say: identity,",
        "`desired`, `watch`, `ack`, device.toml, fleet.toml, token. `fleet init` is cut at each change of the disk and",
        "run again.",
        "",
        f"**{figure}.**",
    ]
    trust_page.add("E9", "E9: replays, hostile configuration, power cuts", lines)
    return {"gate": "E9", "passed": passed, "figure": figure, "detail": json.dumps({"fuzz": fuzz, "cuts": cuts})}


def fuzzed(count: int, place: Path) -> tuple[dict[str, Any], int | None]:
    """Read hostile documents; gives what happened and how many programs were executed, or None without strace."""
    out, trace = place / "fuzz.json", place / "trace"
    words = [sys.executable, "-m", "tests.worlds.config_fuzz", str(count), str(out)]
    strace = shutil.which("strace")
    if strace:
        words = [strace, "-f", "-qq", "-e", "trace=execve,execveat", "-o", str(trace), *words]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
    executed = len(re.findall(r"execve(?:at)?\(.*= 0$", trace.read_text(), re.M)) if strace else None
    return json.loads(out.read_text()), executed
