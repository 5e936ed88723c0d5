"""Write docs/results/update.md: the gates of bundles and slots with their tables, and how long an install takes.

    python tools/update_results.py --bundle lite0-1.0.0.edgekit --pubkey edgekit.pub

Gates that passed at this commit are not run again; `--page` runs none and writes the page from what is there.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.results import RESULTS, ROOT, heading
from tools.run_gates import STORE

PURPOSE = {
    "A1": "every mutating system call of an install and a rollback fails once, or from there on",
    "A2": "the power is cut anywhere, and what was not synced is lost, kept or torn",
    "A7": "a writer swaps the file between check and use",
    "D1": "mutated models behind a valid signature",
    "D2-BUNDLES": "mutated archives, manifests, golden vectors and signature files",
    "D3": "archives built to do harm, each behind a valid signature",
}
_INSTALLS = 5
_LIMIT_S = 3.0


def main() -> int:
    """Run what has not passed yet, and write the page.

    Returns:
        3 if a gate said no or an install took too long, else 0.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, help="time installing this bundle")
    parser.add_argument("--pubkey", type=Path, help="its public key")
    parser.add_argument("--page", action="store_true", help="run no gate")
    args = parser.parse_args()
    if not args.page:
        gates = [sys.executable, "tools/run_gates.py", "--only", ",".join(PURPOSE)]
        subprocess.run(gates, cwd=ROOT, check=False)
    found: dict[str, Any] = json.loads(STORE.read_text("utf-8")) if STORE.exists() else {}
    command = "python tools/update_results.py --bundle lite0-1.0.0.edgekit --pubkey edgekit.pub"
    lines = heading("Bundles and slots", command, "ai-edge-litert", "py-minisign")
    lines += ["| gate | what happens | passed | figure | seconds |", "|---|---|---|---|---|"]
    for name, purpose in PURPOSE.items():
        r = found.get(name)
        cells = f"{_word(r['passed'])} | {r['figure']} | {r['seconds']}" if r else "not run | |"
        lines.append(f"| {name} | {purpose} | {cells} |")
    slow = False
    if args.bundle:
        words, slow = _installing(args.bundle, args.pubkey)
        lines += ["", words]
    for name in PURPOSE:
        if found.get(name, {}).get("detail"):
            lines += ["", f"## {name}", "", found[name]["detail"]]
    (RESULTS / "update.md").write_text("\n".join(lines) + "\n", "utf-8")
    return 0 if not slow and all(found.get(name, {}).get("passed") for name in PURPOSE) else 3


def _word(passed: bool | None) -> str:
    return {True: "yes", False: "**no**", None: "not run"}[passed]


def _installing(bundle: Path, key: Path) -> tuple[str, bool]:
    """How long `edgekit-device install` takes, its self-test and its start included."""
    times = []
    for _ in range(_INSTALLS):
        with tempfile.TemporaryDirectory(dir=ROOT) as folder:
            began = time.monotonic()
            words = ["install", str(bundle), "--root", folder, "--pubkey", str(key), "--json"]
            subprocess.run([sys.executable, "-m", "edgekit_device", *words], check=True, capture_output=True)
            times.append(time.monotonic() - began)
    times.sort()
    megabytes = bundle.stat().st_size / 1e6
    return (
        f"`edgekit-device install` of {bundle.name} ({megabytes:.1f} MB) with its self-test, process start included, "
        f"{_INSTALLS} times: median {times[_INSTALLS // 2]:.2f} s, slowest {times[-1]:.2f} s (limit {_LIMIT_S:.0f} s)."
    ), times[_INSTALLS // 2] > _LIMIT_S


if __name__ == "__main__":
    sys.exit(main())
