"""E7: schemathesis on the API's own description, logged in and not."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from edgekit.fleet.database import sqlite_url
from tests.worlds.api_fuzz import fuzz
from tests.worlds.dashboards import shown
from tests.worlds.showroom import boards, fill

REQUESTS = 50_000


def run(arguments: Sequence[str]) -> dict[str, Any]:
    """Fuzz until the count is reached."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=REQUESTS)
    args = parser.parse_args(list(arguments))
    requests, failed, rounds = 0, "", 0
    with TemporaryDirectory() as folder:
        url = sqlite_url(Path(folder) / "fleet.db")
        fill(url, boards(), minutes=36, window_s=3600.0)
        with shown(url) as world:
            while requests < args.requests and not failed:
                # Every fourth round without a login; seeds differ, so that no round repeats another.
                found = fuzz(
                    world,
                    min(1000, args.requests),
                    rounds % 4 != 3,
                    "examples,coverage,fuzzing",
                    seed=rounds,
                    limit_s=1800,
                )
                requests += found.requests
                rounds += 1
                failed = "" if found.passed and found.requests else found.said
    return {
        "gate": "E7",
        "passed": not failed,
        "figure": f"{requests} requests in {rounds} rounds, every fourth without a login: "
        f"{'a check failed' if failed else '0 answers of 500 or more, 0 breaks of the description'}",
        "detail": f"```\n{failed}\n```" if failed else "",
    }
