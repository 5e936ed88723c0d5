"""D5: hostile and broken images, each in a process of its own: at most 2 s and 256 MB, refused by name."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.worlds.hostile_images import PROBE, USABLE, make_all

LIMIT_S, LIMIT_BYTES = 2.0, 256_000_000


def run(arguments: Sequence[str]) -> dict[str, Any]:
    """Decode every file of the table."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for path in make_all(Path(folder)):
            rows.append(_decode(path))
    bad = [row for row in rows if row["problem"]]
    slowest = max(rows, key=lambda row: row["s"])
    largest = max(rows, key=lambda row: row["bytes"])
    refused = sum(row["reason"] is not None for row in rows)
    figure = (
        f"{len(rows)} images: {refused} refused by name, {len(rows) - refused} unusual ones decoded, {len(bad)} broken "
        f"promises; slowest {slowest['s']:.2f} s ({slowest['file']}), "
        f"largest {largest['bytes'] / 1e6:.0f} MB ({largest['file']})"
    )
    lines = ["| file | outcome | s | MB |", "|---|---|---|---|"]
    lines += [
        f"| {r['file']} | {r['problem'] or r['reason'] or 'decoded'} | {r['s']:.2f} | {r['bytes'] / 1e6:.0f} |"
        for r in rows
    ]
    return {"gate": "D5", "passed": not bad, "figure": figure, "detail": "\n".join(lines)}


def _decode(path: Path) -> dict[str, Any]:
    """One file in a fresh process."""
    try:
        child = subprocess.run(
            [sys.executable, "-c", PROBE, str(path)], capture_output=True, text=True, check=False, timeout=60
        )
    except subprocess.TimeoutExpired:
        return {"file": path.name, "reason": None, "s": 60.0, "bytes": 0, "problem": "hangs"}
    if child.returncode:
        ended = f"ends its process ({child.returncode})"
        return {"file": path.name, "reason": None, "s": 0.0, "bytes": 0, "problem": ended}
    row = json.loads(child.stdout.splitlines()[-1])
    row |= {"file": path.name, "reason": row["reason"] and row["reason"].replace(str(path), path.name), "problem": ""}
    if row["s"] > LIMIT_S or row["bytes"] > LIMIT_BYTES:
        row["problem"] = "over its limits"
    elif (row["reason"] is None) != (path.name in USABLE):
        row["problem"] = "refused, but a picture" if row["reason"] else "decoded, but no picture"
    return row
