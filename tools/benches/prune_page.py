"""docs/results/prune.md from what the prune bench has measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tools.benches import prune_kernels
from tools.benches.dots import Spot, dots
from tools.results import RESULTS, heading, vector_instructions

if TYPE_CHECKING:
    from tools.benches.prune import World

IMAGES = RESULTS.parent / "img"
_TITLES = {
    "float": "float lite0, not pruned",
    "ptq": "int8, not pruned (PTQ)",
    "qat": "int8, not pruned (qat)",
    "narrow-50": "control: narrower lite, from random weights, as long",
}
_KINDS = {
    "weight": "{} % of weights zero",
    "structured": "{} % of multiply-adds left",
    "random": "control: random channels, {} %",
}
_WAYS = {
    "taylor": "Taylor score for predicted time, all layers together",
    "magnitude": "magnitude, the same share of each layer",
    "bn": "BatchNorm's scale, the same share of each layer",
    "activation": "how seldom it is active, the same share of each layer",
    "random": "at random, the same share of each layer",
}
_ENDS = {"": "", "-distilled": ", distilled", "-distilled-qat": ", distilled, qat"}
_GOAL_MS, _GOAL_POINTS = 0.6, 1.0
_PANELS = ("ms, int8, XNNPACK, one thread", "MB in a zip")
_SERIES = {
    "structured": "channels removed",
    "weight": "single weights zero",
    "random": "control: channels at random",
    "narrow": "control: narrower net",
}


def picture(rows: dict[str, Any], ms: dict[str, float | None]) -> str:
    """SVG: accuracy against milliseconds and against bytes in a zip; full dots are distilled."""
    spots = []
    for kind, series in _SERIES.items():
        for end in ([], ["distilled"]):
            own = [row for row in rows if (words := row.split("-"))[0] == kind and words[2:] == end]
            # Each series begins at the net that was not pruned, as far as it led on from there.
            whole = ["ptq"] if own and kind != "narrow" and "ptq" in rows else []
            for row in (*whole, *own):
                places = (ms.get(row), rows[row]["zip_bytes"] / 1e6)
                across = {panel: place for panel, place in zip(_PANELS, places, strict=True) if place}
                spots.append(Spot(series, bool(end), 100 * rows[row]["top1"], across))
    up = "top-1 of held-out photos, %; filled: distilled, hollow: not"
    return dots("lite0 at 224 px, pruned", up, _PANELS, spots)


def write_page(world: World, known: Sequence[str], untrained: Sequence[str], *, kept: Path) -> str:
    """The page, from the rows that are there; int8 is timed in one run.

    Args:
        world: Where rows were measured.
        known: Names of the rows that learnt, in the page's order.
        untrained: Names of those that did not.
        kept: The page's figures as JSON: read for rows that are not in `world`, and written.
    """
    found = _merged(world, kept)
    kept.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", "utf-8")
    rows = {row: found["rows"][row] for row in known if row in found["rows"]}
    ms, counted, plan = found["ms"], found["count"], world.plan
    lines = heading("Pruning, measured", "make bench ONLY=prune", "edgekit", "tensorflow", "keras", "ai-edge-litert")
    n = next((found["n"] for found in rows.values()), 0)
    lines += [
        "The net of [train.md](train.md)'s row `float`, pruned and trained on; same command, pictures, split and seed.",
        "Another number of threads sums in another order, so its accuracy here may differ from that page by chance;",
        f"every row is held against the float net of this page. Judged on the {n} held out, through the board's own",
        "preprocessing and interpreter. Distilled: following the net as it was before. ms: XNNPACK, one thread, all",
        "rows in one run. Instructions: callgrind, one inference. zip: the .tflite, deflated. zero: weights that are",
        "exactly zero.",
        "",
        f"Structured `{plan.structured}`; weights `{plan.weight}`; distil `{plan.distil}`; qat `{plan.qat}`;",
        f"epochs {', '.join(f'{row} {epochs}' for row, epochs in plan.epochs.items())}.",
        "",
        "| row | top-1 (95 %) | lost against float lite0 (95 %) | parameters | zero | M multiply-adds | bytes "
        "| zip bytes | ms | M instructions | minutes |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [_line(row, found, ms.get(row), counted.get(row)) for row, found in rows.items()]
    missing = [row for row in known if row not in rows]
    if missing:
        lines += ["", f"Not measured: {', '.join(f'`{row}`' for row in missing)}."]
    here = world.rows()
    earlier = [row for row in rows if row not in here]
    if earlier:
        lines += ["", f"Measured and timed in an earlier run: {', '.join(f'`{row}`' for row in earlier)}."]
    lines += ["", *_goals(rows, found["of_ptq"], counted)]
    lines += [
        "",
        "The command of a row: `python -m tools.run_benches --only prune --base build/bench-train --rows ROW`.",
    ]
    if world.full:
        (IMAGES / "prune.svg").write_text(picture(rows, ms), "utf-8")
        lines += ["", "![accuracy against milliseconds and bytes](../img/prune.svg)"]
    ways = {row: found["rows"][row] for row in untrained if row in found["rows"]}
    lines += _untrained(ways, counted) if ways else []
    for name, section in (("kernels", prune_kernels.tables), ("sparse", prune_kernels.sparse_table)):
        if found[name]:
            lines += ["", *section(found[name])]
    return "\n".join(lines) + "\n"


def _merged(world: World, kept: Path) -> dict[str, Any]:
    """What was measured here and, where it began with the same net, what the page had before."""
    from edgekit import bench
    from edgekit.artefacts import sha256_of

    base = world.work / "float.tflite"
    digest = sha256_of(base) if base.is_file() else None
    before = json.loads(kept.read_text("utf-8")) if kept.is_file() else {}
    same = before if before.get("base") == digest else {}
    rows = world.rows()
    models = [world.work / f"{row}.tflite" for row in rows]
    # Many short rounds, all models in each: a shared machine is slow for seconds, and both of a pair with it.
    rounds, seconds = (31, 0.15) if world.full else (1, 0.05)
    done = bench(models, rungs=("xnnpack",), threads=[1], rounds=rounds, seconds=seconds) if models else None
    cells = {Path(cell.model).stem: cell for cell in done.cells} if done else {}
    new: dict[str, Any] = {"rows": rows, "ms": {row: cell.p50_ms for row, cell in cells.items()}, "of_ptq": {}}
    if "ptq" in cells:
        whole = cells["ptq"].round_p50_ms
        for row, cell in cells.items():
            each = [one / other for one, other in zip(cell.round_p50_ms, whole, strict=True)]
            new["of_ptq"][row] = np.quantile(each, [0.25, 0.5, 0.75]).tolist()
    for name in ("count", "kernels", "sparse"):
        place = world.work / f"{name}.json"
        new[name] = json.loads(place.read_text("utf-8")) if place.is_file() else {}
    new["kernels"] = {vector_instructions(): new["kernels"]} if new["kernels"] else {}
    # Kernels do not depend on the net, but on the processor.
    old = {name: (before if name in ("kernels", "sparse") else same).get(name, {}) for name in new}
    # A row that the plan would make otherwise today is no row of this page.
    known = {row: found for row, found in old["rows"].items() if found.get("how") == world.how(row)}
    for name in ("rows", "ms", "of_ptq", "count"):
        old[name] = {row: old[name][row] for row in known if row in old[name]}
    return {"base": digest, **{name: {**old[name], **new[name]} for name in new}}


def _untrained(rows: dict[str, Any], counted: dict[str, Any]) -> list[str]:
    lines = [
        "",
        "## Chosen by",
        "",
        "Half of the multiply-adds gone, BatchNorm's statistics made to follow and nothing learnt after it; int8, the",
        "same pictures held out. What is lost here is what fine-tuning has to win back.",
        "",
        "| channels chosen by | top-1 (95 %) | M multiply-adds | bytes | M instructions |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {title(row)} | {_top1(found)} | {found['macs'] / 1e6:.1f} | {found['bytes']:,} "
        f"| {_steps(counted.get(row))} |"
        for row, found in rows.items()
    ]
    return lines


def _top1(found: dict[str, Any]) -> str:
    low, high = found["top1_interval"]
    return f"{100 * found['top1']:.2f} % ({100 * low:.1f} to {100 * high:.1f})"


def _steps(counted: dict[str, Any] | None) -> str:
    return "" if counted is None else f"{counted['instructions'] / 1e6:.1f}"


def title(row: str) -> str:
    """A row in words."""
    if row in _TITLES:
        return _TITLES[row]
    kind, share, *end = row.split("-")
    if kind == "untrained":
        return _WAYS[share]
    return "int8, " + _KINDS[kind].format(share) + _ENDS["".join(f"-{word}" for word in end)]


def _line(row: str, found: dict[str, Any], ms: float | None, counted: dict[str, Any] | None) -> str:
    drop = found["drop"]
    lost = "" if not drop else "{observed:.2f} ({lower:.2f} to {upper:.2f})".format(
        **{key: 100 * float(drop[key]) for key in ("observed", "lower", "upper")}
    )  # fmt: skip
    time = "" if ms is None else f"{ms:.2f}"
    minutes = "cut short" if found["minutes"] is None else f"{found['minutes']:.1f}"
    return (
        f"| {title(row)} | {_top1(found)} | {lost} "
        f"| {found['parameters']:,} | {found['zeros']:,} | {found['macs'] / 1e6:.1f} | {found['bytes']:,} "
        f"| {found['zip_bytes']:,} | {time} | {_steps(counted)} | {minutes} |"
    )


def _goals(rows: dict[str, Any], of_ptq: dict[str, list[float]], counted: dict[str, Any]) -> list[str]:
    """Goal: at half of the multiply-adds at most 60 % of the time and 1 point lost, and better than both controls."""
    halves = [row for row in rows if row.startswith("structured-50")]
    if not halves or "ptq" not in rows:
        return ["The goal cannot be judged yet: it needs the rows `ptq` and `structured-50`."]
    lines = [
        f"Goals at half of the multiply-adds: at most {_GOAL_POINTS:g} point lost, at most {100 * _GOAL_MS:.0f} % of",
        "the time of the int8 net that is not pruned, better than both controls. Time: the median of the ratios round",
        "by round, and between what half of them lie. Held against the control of the same ending, and against the",
        "narrower net.",
        "",
        "| row | points lost | time | instructions | against random channels | against the narrower net |",
        "|---|---|---|---|---|---|",
    ]
    for row in halves:
        cells = [title(row), f"{100 * float(rows[row]['drop']['observed']):.2f}"]
        low, middle, high = (100 * share for share in of_ptq.get(row, [0, 0, 0]))
        cells.append(f"{middle:.1f} % ({low:.1f} to {high:.1f})" if middle else "")
        both = row in counted and "ptq" in counted
        share = counted[row]["instructions"] / counted["ptq"]["instructions"] if both else 0.0
        cells.append(f"{100 * share:.1f} %" if both else "")
        for control in (row.replace("structured", "random"), "narrow-50"):
            ahead = 100 * (rows[row]["top1"] - rows[control]["top1"]) if control in rows else None
            cells.append("" if ahead is None else f"{ahead:+.2f} points")
        lines.append(f"| {' | '.join(cells)} |")
    return lines
