"""docs/results/runtime.md: what a board's two processes cost, and how soon they serve, beside a bare loop."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tools.results import RESULTS, ROOT, heading

_ROUNDS = 5
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
# What anybody would write first: one interpreter, one generated picture, resize, invoke.
_BARE = """
import sys, time, zipfile
began = float(sys.argv[2])
import cv2, numpy as np
from ai_edge_litert.interpreter import Interpreter
model = zipfile.ZipFile(sys.argv[1]).read("model.tflite")
run = Interpreter(model_content=model, num_threads=2)
run.allocate_tensors()
image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
into, out = run.get_input_details()[0]["index"], run.get_output_details()[0]["index"]
for number in range(60):
    small = cv2.resize(image[30:450, 110:530], (224, 224), interpolation=cv2.INTER_AREA)
    run.set_tensor(into, (small ^ 0x80).view(np.int8)[None])
    run.invoke()
    if number == 0:
        first = time.monotonic() - began
pages = int(open("/proc/self/statm").read().split()[1])
print(first, pages)
"""


def lite0_bundle(folder: Path) -> tuple[Path, Path]:
    """The lite0 bundle, made once for all benches.

    Returns:
        (bundle, public key).
    """
    import edgekit
    from edgekit.trust.keys import new_keys

    bundle = folder / "lite0-1.0.0.edgekit"
    if not bundle.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        key = new_keys(folder / f"keys-{os.getpid()}")
        (folder / "pub").write_bytes(key.public_bytes)
        model = edgekit.convert("efficientnet-lite0", out=folder / "lite0.tflite").path
        edgekit.bundle(model, out=bundle, sign=key.path)
    return bundle, folder / "pub"


def run(arguments: Sequence[str]) -> None:
    """Measure and write the page."""
    bundle, public = lite0_bundle(ROOT / "build" / "bench")
    rows = [_one_round(bundle, public, cached=number > 0) for number in range(_ROUNDS + 1)]
    fresh, rows = rows[0], rows[1:]

    def median(key: str) -> float:
        return statistics.median(row[key] for row in rows)

    lines = [
        *heading("The runtime, measured", "make bench ONLY=runtime", "edgekit-device", "ai-edge-litert", "numpy"),
        "lite0 int8 at 224 px, `--source synthetic` (640 x 480, 30 frames/s), Readings each second; medians of "
        f"{_ROUNDS} runs of 15 s.",
        "",
        "| what | figure | goal |",
        "|---|---|---|",
        f"| both processes, resident | {median('both_mb'):.0f} MB | 140 MB |",
        f"| of these the supervisor | {median('supervisor_mb'):.0f} MB | |",
        f"| a bare loop, resident | {median('bare_mb'):.0f} MB | |",
        f"| supervisor, share of a core | {median('supervisor_cpu'):.1%} | 2 % |",
        f"| start to first result, choice cached | {median('first_s'):.2f} s | 1.5 s |",
        f"| start to first result, nothing cached | {fresh['first_s']:.2f} s | |",
        f"| start to first result, a bare loop | {median('bare_s'):.2f} s | |",
        f"| new frames a second | {median('fps'):.1f} | 30 |",
        f"| interpreter threads chosen | {rows[-1]['threads']:.0f} | |",
        "",
        "Faults: gates C1, C4 and C8 stand in [gates.md](gates.md), the ten camera faults (C2) in",
        "[camera_faults.md](camera_faults.md).",
    ]
    (RESULTS / "runtime.md").write_text("\n".join(lines) + "\n", "utf-8")


def _cpu_s(pid: int) -> float:
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(ticks[11]) + int(ticks[12])) / _TICKS


def _one_round(bundle: Path, public: Path, *, cached: bool) -> dict[str, float]:
    state = ROOT / "build" / "bench" / "state"
    if not cached:
        (state / "edgekit" / "choice.json").unlink(missing_ok=True)
    began = time.monotonic()
    words = [sys.executable, "-m", "edgekit_device", "run", "--bundle", bundle, "--pubkey", public, "--source"]
    process = subprocess.Popen(
        [*words, "synthetic", "--json", "--interval", "1", "--results", "stdout"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "XDG_STATE_HOME": str(state)},
    )
    assert process.stdout is not None
    first_s, readings, marks = 0.0, [], []
    for line in process.stdout:
        document: dict[str, Any] = json.loads(line)
        if "decision" in document:
            first_s = first_s or time.monotonic() - began
        else:
            readings.append(document)
            marks.append((time.monotonic(), _cpu_s(process.pid)))
        if time.monotonic() - began > 15:
            break
    # From the third Reading on: starting up is not what a board does all day.
    cpu = (marks[-1][1] - marks[2][1]) / (marks[-1][0] - marks[2][0])
    resident = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * _PAGE
    process.terminate()
    process.stdout.read()
    process.wait()
    bare = subprocess.run(
        [sys.executable, "-c", _BARE, bundle, str(time.monotonic())], capture_output=True, text=True, check=True
    ).stdout.split()
    steady = readings[3:]
    return {
        "both_mb": max(r["rss_bytes"] for r in steady) / 1e6,
        "supervisor_mb": resident / 1e6,
        "supervisor_cpu": cpu,
        "first_s": first_s,
        "fps": statistics.median(r["fps"] for r in steady),
        "threads": float(steady[-1]["threads"]),
        "bare_s": float(bare[0]),
        "bare_mb": int(bare[1]) * _PAGE / 1e6,
    }
