"""D2 for bundles: mutated archives, manifests, golden vectors and signature files; every refusal has a name."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.worlds.bundle_mutations import mutate_bundles
from tests.worlds.bundles import Signer


def run(arguments: Sequence[str]) -> dict[str, Any]:
    """Read `--count` mutations (100,000)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        found = mutate_bundles(args.count, Signer.make(Path(folder)), args.seed)
    named = sum(found["named"].values())
    lines = ["| outcome | times |", "|---|---|", f"| verified: the change does not matter | {found['verified']} |"]
    lines += [f"| {name} | {count} |" for name, count in found["named"].items()]
    return {
        "gate": "D2-BUNDLES",
        "passed": not found["unnamed"] and not found["over_100_ms"] and named > found["bundles"] // 2,
        "figure": (
            f"{found['bundles']} mutations: {named} refused by name, {found['verified']} verified, "
            f"{len(found['unnamed'])} unnamed errors, {found['over_100_ms']} over 100 ms "
            f"(slowest {found['slowest_ms']} ms)"
        ),
        "detail": "\n".join(lines + [f"- {words}" for words in found["unnamed"][:5]]),
    }
