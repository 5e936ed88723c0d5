"""One HTML file of a report: no script, no font, no request; light and dark, on a phone and on paper."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from typing import Any

from edgekit.reporting import sections
from edgekit.reporting.card import markdown_html
from edgekit.reporting.markup import absent, megabytes, number, percent, section, text, tile

# Nothing may be fetched, whatever stands in the page.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_TITLES = {
    "chain": ("What it is made of", "Each artefact with its SHA-256; each was made from the ones above it."),
    "accuracy": ("Accuracy", "On labelled images, through the preprocessing and the interpreter that boards run."),
    "agreement": ("Agreement with float", "The same crops through the float model and this one."),
    "models": ("Size and time", "Smaller and faster is down and to the left."),
    "layers": (
        "Layers",
        "What each layer's integers do to the scores, and to its own output, when all others stay in float.",
    ),
    "calibration": ("Calibration", "Photos that chose the ranges of the integers."),
    "disagreements": ("Worst disagreements", "Where the float model was surest of a class that this one dropped."),
    "card": ("Model card", ""),
}

Facts = Mapping[str, Any]


def render(document: Facts, pictures: Sequence[bytes] = ()) -> str:
    """The page of a report.

    Args:
        document: As `edgekit report --json` prints it.
        pictures: A JPEG file for each of its disagreements.

    Returns:
        HTML that is well-formed XML too.
    """
    bodies = {key: _body(document, key, pictures) for key in _TITLES}
    shown = {key: body for key, body in bodies.items() if body is not None}
    links = "".join(f'<a href="#{key}">{text(_TITLES[key][0])}</a>' for key in shown)
    leads = {key: lead for key, (_, lead) in _TITLES.items()}
    if any(link["kind"] == "run" for link in document["chain"]):
        leads["card"] = "Of the network that it was trained from, unless the run brings a card of its own."
    parts = "".join(section(key, _TITLES[key][0], text(leads[key]), body) for key, body in shown.items())
    name = text(document["name"])
    style = files("edgekit.reporting").joinpath("report.css").read_text("utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en" xmlns="http://www.w3.org/1999/xhtml"><head><meta charset="utf-8"/>'
        f'<meta http-equiv="Content-Security-Policy" content="{text(_POLICY)}"/>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
        '<meta name="color-scheme" content="light dark"/>'
        f"<title>{name} · EdgeKit report</title><style>{style}</style></head><body>"
        f"<header><p>EdgeKit report</p><h1><bdi>{name}</bdi></h1>{_subtitle(document)}</header>"
        f'{_tiles(document)}<nav aria-label="Sections">{links}</nav><main>{parts}</main>'
        f"<footer><p>Made {text(document['made_at'])} by EdgeKit {text(document['edgekit'])}. This page asks "
        "nothing of a network. The same facts for programs: <code>edgekit report --json</code></p></footer>"
        "</body></html>\n"
    )


def _body(document: Facts, key: str, pictures: Sequence[bytes]) -> str | None:
    found = document.get(key)
    if found is None:
        command = document["missing"].get(key)
        return absent(command) if command else None
    spreads = (document.get("layers") or {}).get("spreads", ())
    makers: dict[str, Callable[[], str]] = {
        "chain": lambda: sections.chain(found),
        "accuracy": lambda: sections.accuracy(found),
        "agreement": lambda: sections.agreement(found),
        "models": lambda: sections.race(found, document["machine"], document["model"]["sha256"]),
        "layers": lambda: sections.layers(found) + ("" if document.get("calibration") else sections.ranges(spreads)),
        "calibration": lambda: sections.calibration(found, spreads),
        "disagreements": lambda: sections.disagreements(found, pictures),
        "card": lambda: markdown_html(found),
    }
    return makers[key]()


def _subtitle(document: Facts) -> str:
    model = document.get("model")
    if not model:
        return "<p>A run; no model was made of it yet.</p>"
    scheme = f"{model['scheme']}, {model['io']} in and out" if model["scheme"] else f"{model['io']} in"
    shape = " × ".join(str(n) for n in model["input"]["shape"][1:])
    variant = f"{text(model['variant'])} · " if model["variant"] else ""
    classes = f"{model['output']['shape'][-1]:,} classes" if model["output"]["shape"] else "scores"
    return f"<p>{variant}{text(scheme)} · {shape} → {classes}</p>"


def _tiles(document: Facts) -> str:
    model = document.get("model")
    if not model:
        return ""
    tiles = [tile("Size", megabytes(model["bytes"]), f"{sum(model['operators'].values())} operators")]
    if found := document.get("accuracy"):
        low, high = found["top1_interval"]
        tiles.append(tile("Top-1", percent(found["top1"]), f"{percent(low)} to {percent(high)}"))
        if found.get("drop_upper_points") is not None:
            mood = {"certified": "good", "refuted": "bad", "undecided": "warn"}.get(found.get("verdict") or "", "")
            note = text(found.get("verdict") or "at 95 % confidence")
            tiles.append(tile("Drop, at most", number(found["drop_upper_points"], 2, "points"), note, mood))
    if found := document.get("agreement"):
        low, high = found["top1_interval"]
        tiles.append(tile("Agreement", percent(found["top1"]), f"{percent(low)} to {percent(high)}, with float"))
    own = next((row for row in document.get("models") or () if row["sha256"] == model["sha256"]), None)
    timed = [cell for cell in own["cells"] if cell["p50_ms"]] if own else []
    if timed:
        best = min(timed, key=lambda cell: cell["p50_ms"])
        threads = f"{best['threads']} thread{'' if best['threads'] == 1 else 's'}"
        tiles.append(tile("One inference", number(best["p50_ms"], 2, "ms"), f"p50, {text(best['rung'])}, {threads}"))
    if model["seconds"]:
        tiles.append(tile("Made in", number(model["seconds"], 0, "s"), "by edgekit convert"))
    return f'<dl class="tiles">{"".join(tiles)}</dl>'
