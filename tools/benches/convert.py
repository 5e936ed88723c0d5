"""docs/results/convert.md: what each scheme weighs, costs and keeps; what the passes bring; other quantisers beside.

    python -m tools.run_benches --only convert --photos DIR [--thousand DIR2] [--work DIR] [--rows NAME,...]
        [--torch PYTHON] [--tfmot FOLDER]

DIR is what tools/make_agreement_photos.py collects; for DIR2 see tools/benches/thousand.py. Every model and every
table of scores is kept in --work, so a run that was cut short goes on where it stopped, and the page is written from
what is there.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from tools.benches import limits, thousand
from tools.results import RESULTS, ROOT, heading

_CROPS = 3
_ROUNDS = 15
_MARGIN = 0.1
_RUINED = "block6d_project"
PAGE = RESULTS / "convert.md"


@dataclass(frozen=True)
class Row:
    """One model: its name in the tables and the options of `convert` that make it."""

    name: str
    variant: str
    what: str
    options: dict[str, Any] = field(default_factory=dict)
    needs: str = ""


def _lite0(name: str, what: str, needs: str = "", **options: Any) -> Row:
    return Row(f"lite0-{name}", "efficientnet-lite0", what, options, needs)


ROWS = [
    _lite0("float32", "float32", scheme="float32"),
    _lite0("int8", "int8 (default)"),
    _lite0("int8-plain", "int8 without passes", refine="none"),
    _lite0("float16", "float16", scheme="float16"),
    _lite0("dynamic", "dynamic", scheme="dynamic"),
    _lite0("int16x8", "int16x8", scheme="int16x8"),
    _lite0("tensor-plain", "int8, a scale a tensor, without passes", refine="none", granularity="tensor"),
    _lite0("tensor", "int8, a scale a tensor", granularity="tensor"),
    _lite0("edgetpu", "int8 --for edgetpu", target="edgetpu"),
    _lite0("mixed", "int8, stem and block1a_depthwise in float", keep_float=["stem", "block1a_depthwise"]),
    _lite0("mixed-more", "int8, stem and blocks 1 and 2 in float", keep_float=["stem", "block1", "block2"]),
    _lite0("uint8", "int8, uint8 in and out", io="uint8"),
    _lite0("litert-plain", "litert-quantizer, min-max", needs="litert_quantizer", engine="litert", refine="none"),
    _lite0("litert", "litert-quantizer behind our passes", needs="litert_quantizer", engine="litert"),
    _lite0("bias", "passes: bias", refine="bias", ranges="min-max"),
    _lite0("round", "passes: round", refine="round", ranges="min-max"),
    _lite0("round-bias", "passes: round, bias", refine="round,bias", ranges="min-max"),
    _lite0("mse", "mse ranges alone", refine="none", ranges="mse"),
    _lite0("percentile", "percentile ranges alone", refine="none", ranges="percentile"),
    _lite0("equalise", "passes: equalise, round, bias; mse", refine="equalise,round,bias"),
    *(
        Row(f"{short}-{name}", f"efficientnet-{short}", what, options)
        for short in ("lite1", "lite2")
        for name, what, options in (
            ("float32", "float32", {"scheme": "float32"}),
            ("int8", "int8 (default)", {}),
            ("int8-plain", "int8 without passes", {"refine": "none"}),
            ("dynamic", "dynamic", {"scheme": "dynamic"}),
            ("float16", "float16", {"scheme": "float16"}),
        )
    ),
]
# Half a second an image on x86: a thousand of them say nothing that the others do not.
_TOO_SLOW = ("lite0-int16x8",)
# Made by _measure_tfmot.
TFMOT = _lite0("tfmot", "TFMOT 0.8.1's ranges, weights frozen")
COUNTS = (8, 16, 32, 64, 128)


def run(arguments: Sequence[str]) -> None:
    """Measure what is missing and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, help="from tools/make_agreement_photos.py; none: only write the page")
    parser.add_argument("--thousand", type=Path, help="a clone of EliSchwartz/imagenet-sample-images")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "bench-convert")
    parser.add_argument("--rows", default="", help="only these, with commas; 'counts' for the table of crops")
    parser.add_argument("--torch", type=Path, help="a Python with torch and efficientnet-lite-pytorch")
    parser.add_argument("--tfmot", type=Path, help="a folder with tensorflow-model-optimization, tf_keras and dm-tree")
    args = parser.parse_args(arguments)
    args.work.mkdir(parents=True, exist_ok=True)
    wanted = [name for name in args.rows.split(",") if name]
    if args.photos:
        for row in ROWS:
            if not wanted or row.name in wanted:
                _measure(row, args.work, args.photos, args.thousand)
        if not wanted or "counts" in wanted:
            for count in COUNTS:
                _measure_count(count, args.work, args.photos)
        if not wanted or "limits" in wanted:
            limits.measure_grids(
                args.work, _crops("efficientnet-lite0", args.photos), _preprocess("efficientnet-lite0")
            )
            for count in limits.LEVERS:
                _measure_lever(count, args.work, args.photos, args.thousand)
        if args.torch and (not wanted or "torch" in wanted):
            _measure_torch(args.torch, args.work, args.photos)
        if args.tfmot and (not wanted or "tfmot" in wanted):
            _measure_tfmot(args.tfmot, args.work, args.photos, args.thousand)
        if not wanted or "blame" in wanted:
            _measure_blame(args.work)
        if not wanted or "time" in wanted:
            _time_all(args.work)
    _write_page(args.work)


def _measure(row: Row, work: Path, photos: Path, more: Path | None) -> None:
    model = work / f"{row.name}.tflite"
    if row.needs and find_spec(row.needs) is None:
        print(f"{row.name}: skipped, {row.needs} is not installed", flush=True)
        return
    if not model.exists():
        from edgekit import convert

        began = time.process_time()
        done = convert(row.variant, out=model, **row.options)
        (work / f"{row.name}.cost.json").write_text(
            json.dumps({"seconds": done.sidecar.seconds, "cpu_s": time.process_time() - began})
        )
        print(f"{row.name}: made in {done.sidecar.seconds:.0f} s", flush=True)
    _score(model, row.variant, work, photos)
    if more and row.name not in _TOO_SLOW:
        thousand.score(model, row.variant, more, _preprocess(row.variant))


def _measure_count(count: int, work: Path, photos: Path) -> None:
    """The same float model, calibrated on so many crops, with passes and without."""
    from edgekit.conversion.calibration import draw_crops, load_images
    from edgekit.conversion.quantisation import Quantisation
    from edgekit.data import data_path
    from edgekit.refining import Refining, make_int8

    for words in ("none", "round,bias"):
        model = work / f"count-{count}-{words.replace(',', '-')}.tflite"
        if not model.exists():
            spec = _preprocess("efficientnet-lite0")
            images = load_images(data_path("calibration_data")).images
            crops = draw_crops(images, spec, limit=count)
            data = (work / "lite0-float32.tflite").read_bytes()
            made = make_int8(data, [c.pixels for c in crops], spec, Quantisation(), Refining.parse(words))
            model.write_bytes(made.data)
        _score(model, "efficientnet-lite0", work, photos)


def _measure_lever(count: int, work: Path, photos: Path, more: Path | None) -> None:
    """The default, but the passes see so many crops."""
    from edgekit import refining
    from edgekit.conversion.calibration import draw_crops, load_images
    from edgekit.conversion.quantisation import Quantisation
    from edgekit.data import data_path

    model, spec = work / f"lever-{count}.tflite", _preprocess("efficientnet-lite0")
    if not model.exists():
        crops = draw_crops(load_images(data_path("calibration_data")).images, spec)
        before, refining.CROPS = refining.CROPS, count
        try:
            data = (work / "lite0-float32.tflite").read_bytes()
            made = refining.make_int8(data, [c.pixels for c in crops], spec, Quantisation(), refining.Refining())
        finally:
            refining.CROPS = before
        model.write_bytes(made.data)
    _score(model, "efficientnet-lite0", work, photos)
    if more:
        thousand.score(model, "efficientnet-lite0", more, spec)


@lru_cache
def _preprocess(variant: str) -> Any:
    from edgekit.zoo import find_weights, get_variant

    return find_weights(variant, "imagenet").preprocess_at(get_variant(variant).resolution)


@lru_cache
def _crops(variant: str, photos: Path) -> Any:
    """Three crops a photo; half of the photos chose the passes and their settings, and only the rest is reported."""
    from edgekit.conversion.calibration import draw_crops, load_images

    crops = draw_crops(load_images(photos).images, _preprocess(variant), per_image=_CROPS, limit=10_000)
    return tuple(crop for crop in crops if _is_test(crop.photo))


def _is_test(photo: str) -> bool:
    return int(photo[:2], 16) % 2 == 1


def _score(model: Path, variant: str, work: Path, photos: Path) -> None:
    from edgekit.verification.agreement import scores
    from edgekit_device.infer.interpreter import Engine

    out = work / f"{model.stem}.npz"
    if out.exists():
        return
    crops = _crops(variant, photos)
    engine = Engine(model.read_bytes(), threads=2)
    table = np.array([scores(engine, crop.pixels, _preprocess(variant)) for crop in crops])
    np.savez(out, scores=table, photos=np.array([crop.photo for crop in crops]))
    print(f"{model.stem}: scored", flush=True)


def _measure_torch(python: Path, work: Path, photos: Path) -> None:
    if (work / "torch-dynamic.npz").exists():
        return
    crops = _crops("efficientnet-lite0", photos)
    np.savez(work / "torch-input.npz", pixels=np.stack([crop.pixels for crop in crops]))
    from edgekit.zoo import get_variant
    from edgekit.zoo.weights import imagenet_file

    weights = imagenet_file(get_variant("efficientnet-lite0"))
    script = ROOT / "tools" / "benches" / "torch_dynamic.py"
    subprocess.run([str(python), str(script), str(work), str(weights)], check=True)
    table = np.load(work / "torch-scores.npy")
    np.savez(work / "torch-dynamic.npz", scores=table, photos=np.array([crop.photo for crop in crops]))


def _measure_tfmot(folder: Path, work: Path, photos: Path, more: Path | None) -> None:
    """TFMOT has no calibration of its own: its quantisers see the crops as training steps, weights frozen."""
    from edgekit.conversion.calibration import draw_crops, load_images
    from edgekit.data import data_path

    model = work / "lite0-tfmot.tflite"
    if not model.exists():
        crops = draw_crops(load_images(data_path("calibration_data")).images, _preprocess("efficientnet-lite0"))
        np.savez(work / "tfmot-input.npz", pixels=np.stack([crop.pixels for crop in crops]))
        script = ROOT / "tools" / "benches" / "tfmot_ranges.py"
        paths = os.pathsep.join(str(path) for path in (folder, ROOT, ROOT / "device"))
        subprocess.run(
            [sys.executable, str(script), str(work)],
            env={**os.environ, "PYTHONPATH": paths, "TF_USE_LEGACY_KERAS": "1"},
            check=True,
        )
    _score(model, "efficientnet-lite0", work, photos)
    if more:
        thousand.score(model, "efficientnet-lite0", more, _preprocess("efficientnet-lite0"))


def _measure_blame(work: Path) -> None:
    """The default model, one with a scale a tensor, and one where a range was ruined on purpose."""
    from edgekit.conversion.calibration import draw_crops, load_images
    from edgekit.conversion.quantisation import find_layers, quantise
    from edgekit.conversion.ranges import read_ranges, write_ranges
    from edgekit.conversion.tflite import calibrate
    from edgekit.data import data_path
    from edgekit.diagnosis import blame
    from edgekit_device.infer.flatbuffer import read_model

    ruined = work / "ruined.tflite"
    if not ruined.exists():
        spec, data = _preprocess("efficientnet-lite0"), (work / "lite0-float32.tflite").read_bytes()
        crops = draw_crops(load_images(data_path("calibration_data")).images, spec, limit=32)
        calibrated = calibrate(data, [crop.pixels for crop in crops], spec)
        (name,) = find_layers(read_model(calibrated), [_RUINED])
        low, high = read_ranges(calibrated)[name]
        ruined.write_bytes(quantise(write_ranges(calibrated, {name: (low / 40, high / 40)}), spec))
    for name in ("ruined", "lite0-tensor-plain", "lite0-int8-plain"):
        out = work / f"{name}.blame.json"
        if not out.exists() and (work / f"{name}.tflite").exists():
            found = blame(work / f"{name}.tflite", reference=work / "lite0-float32.tflite", preprocess="tf-lite")
            out.write_text(json.dumps(found.to_json()))
            print(f"{name}: blamed {found.layers[0].facts.layer}", flush=True)


def _blame_tables(work: Path) -> list[str]:
    lines: list[str] = []
    for name, what in (
        ("ruined", f"`{_RUINED}` ruined on purpose: its output range divided by 40"),
        ("lite0-tensor-plain", "int8, a scale a tensor, without passes"),
        ("lite0-int8-plain", "int8 without passes"),
    ):
        file = work / f"{name}.blame.json"
        if not file.exists():
            continue
        found = json.loads(file.read_text())
        lines += [
            f"### {what}",
            "",
            "| layer | share of the noise | scores, this layer alone | its own output | outside | remedy | predicted |",
            "|---|---|---|---|---|---|---|",
        ]
        for layer in found["layers"][:4]:
            whole, own = f"{layer['sqnr_db']:.1f} dB", f"{layer['own_sqnr_db']:.1f} dB"
            lines.append(
                f"| {layer['layer']} | {layer['share']:.1%} | {whole} | {own} | {layer['saturated']:.1%} "
                f"| {layer['remedy']} | {layer['predicted_gain_db']:+.1f} dB |"
            )
        for swap in found["swapped"]:
            before, after = found["baseline"], swap["agreement"]
            lines += [
                "",
                f"`{swap['layer']}` back in float: {before['top1']:.1%} -> {after['top1']:.1%} same top-1 on",
                f"{after['n']} crops of {after['photos']} photos, scores {before['sqnr_db']:.1f} -> "
                f"{after['sqnr_db']:.1f} dB.",
            ]
        lines.append("")
    return (
        ["## Which layer", "", "`edgekit verify MODEL --reference FLOAT --blame`, lite0:", "", *lines] if lines else []
    )


def _time_all(work: Path) -> None:
    """One thread each, one inference of each model in turn: a busy machine slows all of them."""
    from edgekit_device.infer.interpreter import Engine

    engines: dict[str, Any] = {}
    for row in (*ROWS, TFMOT):
        model = work / f"{row.name}.tflite"
        if model.exists():
            for rung in ("xnnpack", "builtin"):
                engine = Engine(model.read_bytes(), delegate=rung)
                engines[f"{row.name}/{rung}"] = (engine, np.zeros(engine.input.shape, engine.input.dtype))
    taken: dict[str, list[float]] = {name: [] for name in engines}
    for turn in range(_ROUNDS + 2):
        for name, (engine, image) in engines.items():
            began = time.perf_counter()
            engine.raw(image)
            if turn > 1:
                taken[name].append(1000 * (time.perf_counter() - began))
    medians = {name: statistics.median(values) for name, values in taken.items()}
    (work / "ms.json").write_text(json.dumps(medians))


def _write_page(work: Path) -> None:
    lines = heading(
        "Conversion, measured",
        "python -m tools.run_benches --only convert --photos DIR --thousand DIR2",
        "edgekit", "tensorflow", "keras", "ai-edge-litert", "litert-quantizer", "numpy",
    )  # fmt: skip
    times = json.loads((work / "ms.json").read_text()) if (work / "ms.json").exists() else {}
    lines += _introduction(work)
    for short in ("lite0", "lite1", "lite2"):
        lines += _scheme_table(short, work, times)
    lines += thousand.table(
        work, [(row.name, f"{row.name[:5]}-float32", f"{row.name[:5]}: {row.what}") for row in (*ROWS, TFMOT)]
    )
    lines += limits.grid_lines(work)
    lines += _count_table(work)
    lines += limits.lever_lines(work, _cells)
    lines += _blame_tables(work)
    PAGE.write_text("\n".join(lines) + "\n", "utf-8")
    print(f"{PAGE} written", flush=True)


def _introduction(work: Path) -> list[str]:
    table = work / "lite0-float32.npz"
    if not table.exists():
        return []
    found = np.load(table)
    count, photos = len(found["scores"]), len(set(found["photos"].tolist()))
    top = np.sort(found["scores"], axis=1)
    sure = np.mean(top[:, -1] - top[:, -2] >= _MARGIN)
    return [
        f"Agreement: same top-1 class as the float model of the same variant, on {count} crops of {photos} photos",
        "(docs/results/agreement_photos.toml; one centre crop and two random ones of each) that nothing was calibrated",
        "on: the other half of the photos, by SHA-256, chose passes and settings. Interval: 95 %, clustered by photo.",
        f"Sure: the {sure:.0%} of crops where the float model's best score leads by {_MARGIN} or more. Centre: the one",
        "crop a photo that a board would see. SQNR: of the scores. ms: median of one inference, one thread, all",
        "models in turn. Seconds: wall clock of `edgekit convert` and, in brackets, its CPU seconds.",
        "",
    ]


def _scheme_table(short: str, work: Path, times: dict[str, float]) -> list[str]:
    rows = [row for row in (*ROWS, TFMOT) if row.name.startswith(f"{short}-") and (work / f"{row.name}.npz").exists()]
    if not rows or not (work / f"{short}-float32.npz").exists():
        return []
    lines = [
        f"## {short}",
        "",
        "| model | MB | agreement | 95 % | sure | centre | SQNR dB | ms xnnpack | ms builtin | seconds |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        size = (work / f"{row.name}.tflite").stat().st_size / 1e6
        cost_file = work / f"{row.name}.cost.json"
        cost = json.loads(cost_file.read_text()) if cost_file.exists() else None
        taken = f"{cost['seconds']:.0f} ({cost['cpu_s']:.0f})" if cost else ""
        ms = [f"{times[key]:.1f}" if (key := f"{row.name}/{rung}") in times else "" for rung in ("xnnpack", "builtin")]
        cells = _cells(work / f"{row.name}.npz", work / f"{short}-float32.npz")
        lines.append(f"| {row.what} | {size:.2f} | {' | '.join(cells)} | {' | '.join(ms)} | {taken} |")
    torch = work / "torch-dynamic.npz"
    if short == "lite0" and torch.exists():
        facts = json.loads((work / "torch-facts.json").read_text())
        cells = _cells(torch, work / "lite0-float32.npz")
        lines.append(
            f"| PyTorch {facts['torch']} quantize_dynamic | {facts['bytes'] / 1e6:.2f} | {' | '.join(cells)} "
            f"| {facts['ms']:.1f} (its own runtime) |  |  |"
        )
    return [*lines, ""]


def _cells(candidate: Path, reference: Path) -> list[str]:
    from edgekit.verification.agreement import compare

    ours, theirs = np.load(candidate), np.load(reference)
    photos, wanted, found = theirs["photos"].tolist(), theirs["scores"], ours["scores"]
    whole = compare(wanted, found, photos)
    top = np.sort(wanted, axis=1)
    sure = top[:, -1] - top[:, -2] >= _MARGIN
    same = wanted.argmax(axis=1) == found.argmax(axis=1)
    # Crops stand in the order of their photos, the centre crop first.
    first = np.array([place == 0 or photos[place] != photos[place - 1] for place in range(len(photos))])
    low, high = whole.top1_interval
    return [
        f"{100 * whole.top1:.1f} %",
        f"{100 * low:.1f} to {100 * high:.1f}",
        f"{100 * same[sure].mean():.1f} %",
        f"{100 * same[first].mean():.1f} %",
        f"{whole.sqnr_db:.1f}" if whole.sqnr_db is not None else "exact",
    ]


def _count_table(work: Path) -> list[str]:
    if not (work / "lite0-float32.npz").exists():
        return []
    lines = ["## How many crops (lite0)", "", "| crops | without passes | default |", "|---|---|---|"]
    for count in COUNTS:
        cells = []
        for words in ("none", "round-bias"):
            table = work / f"count-{count}-{words}.npz"
            if table.exists():
                share, interval, _, _, sqnr = _cells(table, work / "lite0-float32.npz")
                cells.append(f"{share} ({interval}), {sqnr} dB")
            else:
                cells.append("")
        if any(cells):
            lines.append(f"| {count} | {cells[0]} | {cells[1]} |")
    return [*lines, ""]
