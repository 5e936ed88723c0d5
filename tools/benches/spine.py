"""docs/results/spine.md: the demo, conversion of all variants, and how well lite0 int8 agrees with float.

The agreement is measured on photos that are listed with their SHA-256 in docs/results/agreement_photos.toml and are
disjoint from the calibration photos; tools/make_agreement_photos.py collects them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tools.results import RESULTS, ROOT, heading

_CROPS_PER_PHOTO = 3
_GOAL = 0.98
_MARGINS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3)


def run(arguments: Sequence[str]) -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, default=ROOT / "build" / "agreement_photos")
    args = parser.parse_args(arguments)
    if not args.photos.is_dir():
        subprocess.run([sys.executable, "tools/make_agreement_photos.py", "-o", args.photos], cwd=ROOT, check=True)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        pages = [*_conversions(place), *_agreement(place, args.photos), *_demo(place)]
    packages = ("edgekit", "tensorflow-cpu", "tensorflow", "keras", "ai-edge-litert", "numpy", "opencv-python-headless")
    top = heading("The spine, measured", "make bench ONLY=spine", *packages)
    (RESULTS / "spine.md").write_text("\n".join(top + pages) + "\n", "utf-8")


def _measured(words: Sequence[str | Path]) -> tuple[dict[str, Any], float, float]:
    """Run `edgekit ... --json`: (its object, seconds, peak resident GB)."""
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "edgekit", *words, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    out = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        assert process.stderr is not None
        raise SystemExit(f"{words}: {process.stderr.read()}")
    return json.loads(out), time.monotonic() - began, usage.ru_maxrss * 1024 / 1e9


def _conversions(place: Path) -> list[str]:
    lines = [
        "## Conversion", "",
        "The whole command, `edgekit convert VARIANT -o OUT.tflite`, TensorFlow's import and agreement check included;",
        "lite3 and lite4 have random weights: time and memory only.", "",
        "| variant | input | weights | seconds | peak memory | int8 file | operators |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    labels = place / "labels.txt"
    labels.write_text("".join(f"class {n}\n" for n in range(1000)))
    for number in range(5):
        name = f"efficientnet-lite{number}"
        weights = "imagenet" if number < 3 else "random"
        words = ["convert", name, "--weights", weights, "-o", place / f"lite{number}.tflite"]
        card, seconds, memory = _measured(words + (["--labels", labels] if number > 2 else []))
        side = card["input"]["shape"][1]
        lines.append(
            f"| {name} | {side} px | {weights} | {seconds:.1f} | {memory:.2f} GB | {card['bytes'] / 1e6:.2f} MB "
            f"| {sum(card['operators'].values())} |"
        )
    return [*lines, ""]


def _agreement(place: Path, folder: Path) -> list[str]:
    from edgekit.conversion.calibration import draw_crops, load_images
    from edgekit.conversion.noise import captured
    from edgekit.verification.agreement import compare, scores
    from edgekit.verification.intervals import clustered
    from edgekit_device.contract.preprocess import Preprocess
    from edgekit_device.infer.interpreter import Engine

    card, _, _ = _measured(["convert", "efficientnet-lite0", "--scheme", "float32", "-o", place / "float.tflite"])
    spec = Preprocess.from_json(card["preprocess"])
    calibrated = set(json.loads((place / "lite0.json").read_text())["calibration"]["photos"])
    photos = [photo for photo in load_images(folder).images if photo.sha256 not in calibrated]
    crops = draw_crops(photos, spec, per_image=_CROPS_PER_PHOTO, limit=10_000)
    with captured():
        engines = [Engine((place / name).read_bytes(), threads=2) for name in ("float.tflite", "lite0.tflite")]
    tables = [np.array([scores(engine, crop.pixels, spec) for crop in crops]) for engine in engines]
    names = [crop.photo for crop in crops]
    found = compare(tables[0], tables[1], names)
    low, high = found.top1_interval
    ordered = np.sort(tables[0], axis=1)
    margins = ordered[:, -1] - ordered[:, -2]
    same = tables[0].argmax(axis=1) == tables[1].argmax(axis=1)
    lines = [
        "## Agreement of int8 with float, lite0 at 224 px", "",
        f"{found.n} crops ({_CROPS_PER_PHOTO} a photo: centre and random) of {found.photos} photos, none "
        "calibrated on.",
        f"**{found.top1:.1%} same top-1** (95 %: {low:.1%} to {high:.1%}, clustered by photo); top-5 overlap "
        f"{found.top5_overlap:.1%}; SQNR of the scores {found.sqnr_db:.1f} dB; largest difference "
        f"{found.max_abs_diff:.3f}.",
        f"The goal of {_GOAL:.0%} over all crops is {'met' if found.top1 >= _GOAL else 'not met'}.",
        "On 1,000 photos of ImageNet's own classes, one centre crop each, it is measured in [convert.md](convert.md).",
        "By how sure the float model is (many of these photos are scenery that belongs to no ImageNet class):", "",
        "| float top-2 margin at least | crops | same top-1 | 95 % |", "|---|---|---|---|",
    ]  # fmt: skip
    for least in _MARGINS:
        chosen = margins >= least
        part = clustered(same[chosen], [name for name, keep in zip(names, chosen, strict=True) if keep])
        lines.append(f"| {least:.2f} | {chosen.sum()} | {same[chosen].mean():.1%} | {part[0]:.1%} to {part[1]:.1%} |")
    return [*lines, ""]


def _demo(place: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", "edgekit", "demo", "--folder", place / "demo"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "80"},
    )
    text = done.stdout.replace(str(place / "demo"), "demo")
    (ROOT / "docs" / "img").mkdir(exist_ok=True)
    _picture(text, ROOT / "docs" / "img" / "demo.svg")
    return [
        "## The demo",
        "",
        "`edgekit demo`, after the installation:",
        "",
        *[f"    {line}" for line in text.splitlines()],
        "",
    ]


def _picture(text: str, path: Path) -> None:
    """The demo's own words as a terminal picture."""
    from rich.console import Console
    from rich.text import Text

    with Path(os.devnull).open("w") as nowhere:
        console = Console(record=True, width=96, file=nowhere)
        console.print(Text("$ make demo", "bold green"))
        console.print(Text(text.rstrip()))
    path.write_text(console.export_svg(title="edgekit demo"), "utf-8")
