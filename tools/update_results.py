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
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from edgekit_device import slots
from edgekit_device.bundle import open_bundle
from edgekit_device.contract.archive import read_archive, write_archive
from edgekit_device.contract.ids import split_bundle_id
from edgekit_device.contract.manifest import NAME, Manifest
from edgekit_device.verdicts import COMMITTED, Verdict
from tests.worlds.bundles import Signer
from tests.worlds.trial_board import Board
from tools.results import RESULTS, ROOT, heading
from tools.run_gates import STORE

PURPOSE = {
    "A1": "every mutating system call of an install and a rollback fails once, or from there on",
    "A2": "the power is cut anywhere, and what was not synced is lost, kept or torn",
    "A3": "the service is killed, stopped, and refused its journal at every edge of every state of a trial",
    "A7": "a writer swaps the file between check and use",
    "A8": "signed and bad models, entered behind the back of every check at installing",
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
        lines += ["", words, "", _moving(args.bundle)]
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


def _moving(bundle: Path) -> str:
    """What a running service goes through while it moves to another release of the same model."""
    with tempfile.TemporaryDirectory() as folder, Board(Path(folder), Signer.make(Path(folder) / "keys")) as board:
        first, second = (_versioned(board, bundle, version) for version in ("1.0.0", "1.1.0"))
        with_name = split_bundle_id(bundle.name.removesuffix(".edgekit"))[0]
        board.enter(first)
        opened, _ = open_bundle(first, [board.signer.public])
        slots.judge(board.place, f"{with_name}-1.0.0", Verdict(opened.sha256, COMMITTED))
        board.start(trial="window_s=10", source="synthetic:640x480@15")
        board.wait_reading(f"{with_name}-1.0.0")
        before = _rss(board.pid)
        board.enter(second)
        most, longest, served, moved_s = before, 0.0, board.served(), time.monotonic()
        while not any("update_committed" in line for line in board.said):
            most = max(most, _rss(board.pid))
            now_s, count = time.monotonic(), board.served()
            if count != served:
                longest, served, moved_s = max(longest, now_s - moved_s), count, now_s
            time.sleep(0.005)
            if not board.alive or any("update_rejected" in line for line in board.said):
                return f"moving to another release did not end well: {board.said[-1]}"
        board.wait_reading(f"{with_name}-1.1.0")
        time.sleep(1.0)
        after = _rss(board.pid)
    return (
        f"A running service (synthetic 640x480 at 15 frames/s, one thread, Readings every 0.25 s) that moves "
        f"to another release of {with_name}: longest time between two served frames {longest:.2f} s (limit 1 s). "
        f"Resident memory "
        f"of supervisor and worker {before / 1e6:.0f} MB before, {after / 1e6:.0f} MB after, {most / 1e6:.0f} MB "
        "at most while both models are held and self-tests run in children of their own (not counted)."
    )


def _versioned(board: Board, bundle: Path, version: str) -> Path:
    entries = {
        name: bytes(data) for name, data in read_archive(bundle.read_bytes(), bundle.name, max_entries=256).items()
    }
    manifest = replace(Manifest.from_bytes(entries[NAME]), version=version)
    path = board.folder / f"{manifest.bundle_id}.edgekit"
    path.write_bytes(write_archive({**entries, NAME: manifest.to_bytes()}))
    board.signer.sign(path)
    return path


def _rss(pid: int) -> int:
    """Resident bytes of a service: the supervisor and its worker."""
    total = 0
    for each in (pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())):
        try:
            words = Path(f"/proc/{each}/cmdline").read_bytes()
            if each == pid or b"edgekit_device.worker" in words:
                total += int(Path(f"/proc/{each}/statm").read_text().split()[1]) * 4096
        except OSError:
            continue
    return total


if __name__ == "__main__":
    sys.exit(main())
