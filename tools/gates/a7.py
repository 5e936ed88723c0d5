"""A7: a writer swaps and edits the file between check and use; bytes that nobody signed are never used."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.worlds.bundles import Signer
from tests.worlds.races import race, sparse


def run(arguments: Sequence[str]) -> dict[str, Any]:
    """Race `--count` times (1,000)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        signer = Signer.make(Path(folder) / "keys")
        found = race(args.count, Path(folder), signer)
        grown = sparse(Path(folder), signer)
    used = found["installed"] + found["opened"]
    return {
        "gate": "A7",
        # A race that one side always wins is none.
        "passed": not found["unverified"]
        and not found["unnamed"]
        and used > 0 < found["refused"]
        and grown != "opened",
        "figure": (
            f"{args.count} races against {found['swaps']} swaps: {found['unverified']} uses of unverified bytes; "
            f"{found['installed']} installed and {found['opened']} opened as signed, {found['refused']} refused by "
            f"name, {found['unnamed']} other errors; 3 GiB sparse file: {grown}"
        ),
        "detail": "",
    }
