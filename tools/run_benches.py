"""Make pages of docs/results/ again: ``--only spine``."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

BENCHES = {
    "arm64": "tools.benches.arm64",
    "convert": "tools.benches.convert",
    "dashboard": "tools.benches.dashboard",
    "evaluate": "tools.benches.evaluate",
    "prune": "tools.benches.prune",
    "runtime": "tools.benches.runtime",
    "speed": "tools.benches.speed",
    "spine": "tools.benches.spine",
    "train": "tools.benches.train",
    "wheels": "tools.benches.wheels",
}


def main() -> int:
    """Run what is asked for; every other argument goes to the bench."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help=f"comma-separated names out of {', '.join(BENCHES)}")
    args, rest = parser.parse_known_args()
    wanted = [name.strip() for name in args.only.split(",") if name.strip()] or list(BENCHES)
    unknown = [name for name in wanted if name not in BENCHES]
    if unknown:
        parser.error(f"no bench is called {', '.join(unknown)}; known: {', '.join(BENCHES)}")
    for name in wanted:
        print(f"{name}: running", flush=True)
        import_module(BENCHES[name]).run(rest)
    return 0


if __name__ == "__main__":
    sys.exit(main())
