"""Run gates and merge what they found into docs/results/gates.md.

Each gate is callable alone; one that passed at this commit is not run again unless --again is said.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.results import RESULTS, commit, machine

GATES = {
    "A1": "tools.gates.a1",
    "A1-DOWNLOAD": "tools.gates.a1_download",
    "A1-RUNTIME": "tools.gates.a1_runtime",
    "A2": "tools.gates.a2",
    "A3": "tools.gates.a3",
    "A4": "tools.gates.a4",
    "A5": "tools.gates.a5",
    "A6": "tools.gates.a6",
    "A7": "tools.gates.a7",
    "A8": "tools.gates.a8",
    "A8-RUNTIME": "tools.gates.a8_runtime",
    "A9": "tools.gates.a9",
    "A10": "tools.gates.a10",
    "B1": "tools.gates.telemetry_b1",
    "B2": "tools.gates.telemetry_b2",
    "B3": "tools.gates.telemetry_b3",
    "B4": "tools.gates.telemetry_b4",
    "B5": "tools.gates.telemetry_b5",
    "B6": "tools.gates.telemetry_b6",
    "B7": "tools.gates.telemetry_b7",
    "B8": "tools.gates.telemetry_b8",
    "B10": "tools.gates.telemetry_b10",
    "B12": "tools.gates.telemetry_b12",
    "C1": "tools.gates.c1",
    "C4": "tools.gates.c4",
    "C6": "tools.gates.telemetry_c6",
    "C8": "tools.gates.c8",
    "D1": "tools.gates.d1",
    "D2-BUNDLES": "tools.gates.d2_bundles",
    "D2-PAYLOADS": "tools.gates.telemetry_d2",
    "D3": "tools.gates.d3",
    "D4": "tools.gates.d4",
    "D5": "tools.gates.d5",
    "E2": "tools.gates.e2",
    "E3": "tools.gates.e3",
    "E4": "tools.gates.e4",
    "E5": "tools.gates.e5",
    "E6": "tools.gates.e6",
    "E7": "tools.gates.e7",
    "E9": "tools.gates.e9",
    "F1": "tools.gates.f1",
    "F-BOARD": "tools.gates.flash_board",
    "F-PLUG": "tools.gates.flash_plug",
}
STORE = RESULTS / "gates.json"


def main() -> int:
    """Run what is asked for.

    Returns:
        3 if a gate said no, else 0.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help=f"comma-separated names out of {', '.join(GATES)}")
    parser.add_argument("--again", action="store_true", help="also run what passed at this commit")
    args = parser.parse_args()
    wanted = [name.strip().upper() for name in args.only.split(",") if name.strip()] or list(GATES)
    unknown = [name for name in wanted if name not in GATES]
    if unknown:
        parser.error(f"no gate is called {', '.join(unknown)}; known: {', '.join(GATES)}")
    found: dict[str, Any] = json.loads(STORE.read_text("utf-8")) if STORE.exists() else {}
    here = commit()
    for name in wanted:
        if not args.again and found.get(name, {}).get("commit") == here and found[name]["passed"]:
            print(f"{name}: passed at {here} already")
            continue
        print(f"{name}: running", flush=True)
        began = time.monotonic()
        result = import_module(GATES[name]).run([])
        result |= {
            "commit": here,
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "seconds": round(time.monotonic() - began, 1),
        }
        # Read again: a gate takes minutes, and another one may have ended beside it.
        found = json.loads(STORE.read_text("utf-8")) if STORE.exists() else {}
        found[name] = result
        STORE.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", "utf-8")
        _write_page(found)
        print(f"{name}: {'passed' if result['passed'] else 'FAILED'}: {result['figure']}")
    return 0 if all(found[name]["passed"] for name in wanted) else 3


def _write_page(found: dict[str, Any]) -> None:
    lines = ["# Gates", "", "    make gates ONLY=NAME", "", f"Machine: {machine()}.", ""]
    lines += ["| gate | passed | figure | commit | date | seconds |", "|---|---|---|---|---|---|"]
    for name, r in sorted(found.items()):
        word = "yes" if r["passed"] else "**no**"
        lines.append(f"| {name} | {word} | {r['figure']} | {r['commit']} | {r['date']} | {r['seconds']} |")
    details = [f"\n## {name}\n\n{_shown(r['detail'])}" for name, r in sorted(found.items()) if r.get("detail")]
    (RESULTS / "gates.md").write_text("\n".join(lines + details) + "\n", "utf-8")


def _shown(detail: Any) -> str:
    return detail if isinstance(detail, str) else f"```json\n{json.dumps(detail, indent=1, sort_keys=True)}\n```"


if __name__ == "__main__":
    sys.exit(main())
