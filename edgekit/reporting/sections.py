"""The parts of a report's page, each from its facts in the document; nothing is computed here but shares and words."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from edgekit.reporting.figures import Dot, channels, frontier, histogram, interval, plain, scatter
from edgekit.reporting.markup import megabytes, number, percent, table, text

_CLASSES = 8
_LEAST_IMAGES = 5
_FEW_PHOTOS = 30
_LAYERS = 10
_KINDS = {
    "weights": "Weights",
    "run": "Training run",
    "photos": "Calibration",
    "float model": "Float model",
    "model": "Model",
    "bundle": "Bundle",
}

Facts = Mapping[str, Any]


def chain(links: Sequence[Facts]) -> str:
    """From the weights to the bundle."""
    items = []
    for link in links:
        digest = link["sha256"]
        hashed = f'<code class="hash" title="SHA-256">{text(digest)}</code>' if digest else ""
        licence = f'<span class="licence">{text(link["licence"])}</span>' if link["licence"] else ""
        if not licence and link["kind"] in ("weights", "photos"):
            licence = '<span class="licence none">licence not stated</span>'
        items.append(
            f'<li class="{"own" if link["kind"] == "model" else "step"}">'
            f"<h3><small>{text(_KINDS.get(link['kind'], link['kind']))}</small> "
            f"<bdi>{text(link['name'])}</bdi>{licence}</h3><p>{text(link['how'])}</p>{hashed}</li>"
        )
    return f'<ol class="chain">{"".join(items)}</ol>'


def accuracy(found: Facts) -> str:
    """Top-1 with its interval, the drop with its bounds, the weakest classes and the commonest mistakes."""
    low, high = (100 * end for end in found["top1_interval"])
    value = 100 * found["top1"]
    left = 10.0 * int(max(0.0, low - 5) // 10)
    parts = [
        f"<h3>Top-1 {percent(found['top1'])} on {found['n']:,} images</h3>",
        interval(round(value, 2), round(low, 2), round(high, 2), (left, 100.0), " %", None),
        _words(found),
    ]
    if found.get("drop_points") is not None:
        parts.append(_drop(found))
    names = {row["class"]: row["label"] for row in found.get("per_class", [])}
    # One image of a class, or one mistake, says nothing of either.
    known = [row for row in found.get("per_class", []) if row["n"] >= _LEAST_IMAGES]
    weakest = sorted(known, key=lambda row: (row["top1"], -row["n"]))[:_CLASSES]
    repeated = [row for row in found.get("confusion", []) if row[0] != row[1] and row[2] > 1]
    wrong = sorted(repeated, key=lambda row: -row[2])[:_CLASSES]
    columns = []
    if weakest:
        rows = [
            (f"<bdi>{text(row['label'])}</bdi>", percent(row["top1"]), f"{row['right']:,} of {row['n']:,}")
            for row in weakest
        ]
        columns.append(
            "<div><h3>Weakest classes</h3>" + table(("class", "top-1", "right"), rows, right=(1, 2)) + "</div>"
        )
    if wrong:
        rows = [
            (
                f"<bdi>{text(names.get(true, f'class {true}'))}</bdi>",
                f"<bdi>{text(names.get(said, f'class {said}'))}</bdi>",
                f"{count:,}",
            )
            for true, said, count in wrong
        ]
        columns.append(
            "<div><h3>Commonest mistakes</h3>" + table(("is", "was taken for", "images"), rows, right=(2,)) + "</div>"
        )
    if found.get("margin_hist"):
        columns.append(
            "<div><h3>How sure it is</h3><p>Images by the lead of the best score over the second.</p>"
            + histogram(found["margin_hist"], 0.0, 1.0)
            + "</div>"
        )
    return "".join(parts) + f'<div class="columns">{"".join(columns)}</div>'


def _words(found: Facts) -> str:
    top5 = f"Top-5 {percent(found['top5'])}. " if found.get("top5") is not None else ""
    skipped = len(found.get("skipped") or [])
    left = f" {skipped:,} images were skipped." if skipped else ""
    return f"<p>{top5}95 % interval after Wilson, {len(found.get('per_class', [])):,} classes.{left}</p>"


def _drop(found: Facts) -> str:
    lower, upper, observed = found["drop_lower_points"], found["drop_upper_points"], found["drop_points"]
    epsilon, verdict = found.get("epsilon_points"), found.get("verdict")
    reach = max(abs(lower), abs(upper), abs(epsilon or 0.0), 0.1) * 1.15
    said = f' <span class="verdict {text(verdict)}">{text(verdict)}</span>' if verdict else ""
    more = ""
    if verdict == "undecided" and found.get("images_missing"):
        more = f" About {found['images_missing']:,} more images would probably decide it."
    return (
        f"<h3>Drop against float: {number(observed, 2, 'points')}{said}</h3>"
        + interval(round(observed, 3), round(lower, 3), round(upper, 3), (-reach, reach), "", epsilon)
        + f"<p>{found['lost']:,} images lost, {found['gained']:,} gained. At 95 % confidence the drop is at most "
        f"{number(upper, 2, 'points')}, and at least {number(lower, 2)} (each end one-sided, exact).{more}</p>"
    )


def agreement(found: Facts) -> str:
    """How often the model names the class that its float twin names."""
    low, high = (100 * end for end in found["top1_interval"])
    left = 10.0 * int(max(0.0, low - 5) // 10)
    facts = [
        ("Crops", f"{found['n']:,} of {found['photos']:,} photos"),
        ("Top-5 overlap", percent(found["top5_overlap"])),
        ("Scores, SQNR", "exact" if found["sqnr_db"] is None else number(found["sqnr_db"], 1, "dB")),
        ("Mean difference of a score", number(found["mean_abs_diff"], 5)),
        ("Largest difference", number(found["max_abs_diff"], 3)),
        ("Measured by", text(found.get("measured_by", "edgekit convert"))),
    ]
    few = ""
    if found["photos"] < _FEW_PHOTOS:
        few = f"<p>{found['photos']:,} photos say little: name a folder of more with <code>--images DIR</code>.</p>"
    listed = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)
    return (
        f"<h3>Same top class on {percent(found['top1'])} of crops</h3>"
        + interval(round(100 * found["top1"], 2), round(low, 2), round(high, 2), (left, 100.0), " %", None)
        + few
        + f'<dl class="facts">{listed}</dl>'
    )


def race(models: Sequence[Facts], machine: Facts, own: str) -> str:
    """Size and time: the picture, and the figures beneath."""
    dots, rows = [], []
    for model in models:
        timed = [cell for cell in model["cells"] if cell["p50_ms"]]
        fastest = min(timed, key=lambda cell: cell["p50_ms"], default=None)
        if fastest:
            dots.append(
                Dot(model["name"], model["bytes"] / 1e6, fastest["p50_ms"], "own" if model["sha256"] == own else "")
            )
        for cell in timed or [{}]:
            rows.append(
                (
                    f"<bdi>{text(model['name'])}</bdi>",
                    megabytes(model["bytes"]),
                    text(cell.get("rung", "–")),
                    text(cell.get("threads", "–")),
                    *(number(cell.get(key), 2, "ms") for key in ("p50_ms", "p95_ms", "p99_ms", "first_ms")),
                )
            )
    best = {dot.name for dot in frontier(dots)}
    picture = ""
    if len(dots) > 1:
        picture = scatter(dots, "size, MB", "one inference, ms (p50 of the fastest rung)")
        unbeaten = ", ".join(f"<bdi>{text(name)}</bdi>" for name in sorted(best))
        picture += f"<p>Not beaten in both size and time: {unbeaten}.</p>"
    head = ("model", "size", "rung", "threads", "p50", "p95", "p99", "first")
    place = ", ".join(text(machine[key]) for key in ("cpu", "interpreter") if machine.get(key))
    cores = f", {machine['cores']} cores" if machine.get("cores") else ""
    return picture + table(head, rows, right=(1, 3, 4, 5, 6, 7)) + f'<p class="soft">Measured on {place}{cores}.</p>'


def layers(found: Facts) -> str:
    """Which layer costs what, and what to do about it."""
    rows = []
    most = max((layer["share"] for layer in found["layers"]), default=0.0) or 1.0
    for layer in found["layers"][:_LAYERS]:
        wide = 100 * layer["share"] / most
        gain = f" (+{number(layer['predicted_gain_db'], 1, 'dB')})" if layer["predicted_gain_db"] >= 0.05 else ""
        rows.append(
            (
                f"<code>{text(layer['layer'])}</code>",
                f'<span class="meter"><i style="width:{wide:.1f}%"></i></span>{percent(layer["share"])}',
                number(layer["sqnr_db"], 1, "dB"),
                number(layer["own_sqnr_db"], 1, "dB"),
                percent(layer["saturated"]),
                percent(layer["used"]),
                f"{text(layer['remedy'])}{gain}" if layer["remedy"] else "–",
            )
        )
    head = ("layer", "share of noise", "scores", "own output", "cut off", "range used", "remedy")
    swaps = []
    for swap in found["swapped"]:
        before, after = found["baseline"], swap["agreement"]
        swaps.append(
            f"<p><code>{text(swap['layer'])}</code> back in float, measured: {percent(before['top1'])} → "
            f"{percent(after['top1'])} same top class, scores {number(before['sqnr_db'], 1)} → "
            f"{number(after['sqnr_db'], 1, 'dB')}, on {after['n']:,} crops.</p>"
        )
    return table(head, rows, right=(2, 3, 4, 5), long=6) + "".join(swaps)


def calibration(found: Facts, spreads: Sequence[Facts]) -> str:
    """The photos that chose the ranges, and what the ranges hold."""
    held = f", {found['held_out']:,} held back" if found["held_out"] else ""
    counts: Mapping[str, Sequence[int]] = found["channels"]
    keys = " ".join(f'<span class="key {text(name)}">{text(name)}</span>' for name in counts)
    first = (
        f"<div><h3>Brightness of {found['crops']:,} crops</h3><p>{found['photos']:,} photos{held} {keys}</p>"
        + channels(counts, ("0, black", "255, white"))
        + "</div>"
    )
    return f'<div class="columns">{first}</div>' + ranges(spreads)


def ranges(spreads: Sequence[Facts]) -> str:
    """What the worst layers put out, against the grid of their integers."""
    if not spreads:
        return ""
    items = "".join(
        f"<div><h3><code>{text(spread['layer'])}</code></h3>"
        + histogram(
            spread["counts"],
            spread["low"],
            spread["high"],
            marks=(spread["grid_low"], spread["grid_high"]),
            logarithmic=True,
        )
        + f"<p>grid {plain(spread['grid_low'])} to {plain(spread['grid_high'])}</p></div>"
        for spread in spreads
    )
    lead = "<p>Values in float, on a logarithmic scale; the lines are the ends of the grid: beyond them is cut off.</p>"
    return f'<h3 class="apart">What the costliest layers put out</h3>{lead}<div class="columns three">{items}</div>'


def disagreements(rows: Sequence[Facts], pictures: Sequence[bytes]) -> str:
    """The crops on which the surest answer of the float model was lost."""
    if not rows:
        return "<p>None: both models named the same class on every crop.</p>"
    items = []
    for row, picture in zip(rows, pictures, strict=True):
        source = f"data:image/jpeg;base64,{base64.b64encode(picture).decode('ascii')}"
        ours, theirs = row["reference"], row["model"]
        items.append(
            f'<figure><img src="{source}" alt="{text(row["photo"])}"/><figcaption>'
            f"<p><small>float</small><bdi>{text(ours['label'])}</bdi> <b>{percent(ours['score'])}</b></p>"
            f"<p><small>model</small><bdi>{text(theirs['label'])}</bdi> <b>{percent(theirs['score'])}</b></p>"
            f'<p class="soft">float gave the other {percent(row["reference_score_of_other"])}</p>'
            f"</figcaption></figure>"
        )
    return f'<div class="photos">{"".join(items)}</div>'
