"""A5, attacks: every case of the table, on real metadata behind a real web server, is refused by its name."""

from __future__ import annotations

import argparse
import collections
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.worlds.attacks import ATTACKS, FILES, cases, strike
from tools.ota_page import write_section


def run(arguments: Sequence[str]) -> dict[str, Any]:
    """Strike every case; `--only WORDS` those whose id has the words."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="")
    args = parser.parse_args(arguments)
    table = [case for case in cases() if args.only in case.id]
    cells: dict[tuple[str, str], collections.Counter[str]] = collections.defaultdict(collections.Counter)
    bad = []
    for case in table:
        with tempfile.TemporaryDirectory() as folder:
            outcome = strike(case, Path(folder))
        refused = outcome.error == case.error and outcome.serving == "toy-1.0.0"
        cells[case.attack, case.file][case.error if refused else "**let in or misnamed**"] += 1
        if not refused:
            bad.append(f"- {case.id}: {outcome.error} in the place of {case.error}; serves {outcome.serving}")
    rows = ["| attack | file | cases | refused as |", "|---|---|---|---|"]
    for attack in ATTACKS:
        for file in FILES:
            found = cells.get((attack, file))
            if found:
                words = ", ".join(f"{name} x {count}" if count > 1 else name for name, count in sorted(found.items()))
                rows.append(f"| {attack} | {file} | {found.total()} | {words} |")
    figure = (
        f"{len(table) - len(bad)} of {len(table)} attacks refused, each under its own name; the old release serves on"
    )
    write_section("Attacks (gate A5)", "\n".join([f"{figure}.", "", *rows, *bad]))
    return {"gate": "A5", "passed": not bad and len(table) >= 72, "figure": figure, "detail": "\n".join(bad)}
