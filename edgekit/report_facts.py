"""The facts of a report that lie on disk: the chain of artefacts, its licences, the calibration photos, the card."""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit import runs
from edgekit.artefacts import Sidecar, run_path, sha256_of
from edgekit.data import data_path
from edgekit.errors import DataNotFoundError, EdgeKitError, UsageError
from edgekit_device.contract.errors import ContractError

if TYPE_CHECKING:
    from edgekit_device.contract.preprocess import Preprocess

LEVEL_BINS = 32
_MOST_BUNDLES = 8
_MOST_BYTES = 64 << 20


def chain(model: Path, sidecar: Sidecar | None, run: Path | None, reference: Path | None) -> list[dict[str, Any]]:
    """What the model was made of and what was made of it, the first cause first.

    Args:
        model: The .tflite file.
        sidecar: OUT.json beside it.
        run: The run it belongs to, if one was named.
        reference: Its float twin.

    Returns:
        ``{"kind", "name", "sha256", "licence", "how"}`` of each; None where that is not known.
    """
    run = run or (run_of(sidecar, model) if sidecar else None)
    links: list[dict[str, Any]] = run_links(run) if run else []
    if sidecar and not links:
        links.append(_weights(sidecar))
    # A run of quantisation-aware training brings its ranges: no photo chose them.
    if sidecar and sidecar.calibration.get("crops"):
        links.append(_photos(sidecar))
    if reference:
        links.append(
            link("float model", reference.name, sha256_of(reference), None, "the twin that it is held against")
        )
    made = _how(sidecar) if sidecar else "not made by edgekit convert, or its OUT.json is missing"
    licence = sidecar.weights.get("licence") if sidecar else None
    links.append(link("model", model.name, sha256_of(model), licence, made))
    links += _bundles(model, links[-1]["sha256"])
    return links


def link(kind: str, name: str, sha256: str | None, licence: str | None, how: str) -> dict[str, Any]:
    """One artefact of the chain."""
    return {"kind": kind, "name": name, "sha256": sha256, "licence": licence, "how": how}


def run_links(run: Path) -> list[dict[str, Any]]:
    """What training left in a run, and what it began with.

    Raises:
        DamagedRecordError: RUN.json cannot be read.
    """
    kept = run / runs.MODEL
    if not kept.is_file():
        return []
    record = runs.read_record(run)
    facts: Mapping[str, Any] = record.facts if record else {}
    began = facts.get("weights") or {}
    links = []
    if began:
        name = str(began.get("source") or "unknown")
        links.append(link("weights", name, began.get("sha256"), began.get("licence"), "where it begins"))
    return [*links, link("run", f"{run.name}/{runs.MODEL}", sha256_of(kept), began.get("licence"), _run_words(facts))]


def _run_words(facts: Mapping[str, Any]) -> str:
    """What RUN.json says of a run, in a line."""
    words = [str(facts[key]) for key in ("verb", "variant") if facts.get(key)]
    if labels := facts.get("labels"):
        words.append(f"{len(labels)} classes")
    judged = facts.get("held_out") or {}
    if judged.get("n") and judged.get("top1") is not None:
        words.append(f"top-1 {100 * judged['top1']:.1f} % on {judged['n']} pictures held out")
    return ", ".join(words) or "trained; the run does not say how"


def run_of(sidecar: Sidecar, model: Path) -> Path | None:
    """The run that a model was made from, if it lies where it lay; told by its digest."""
    source = str(sidecar.weights.get("source") or "")
    if not source or Path(source).name != source:
        return None
    for folder in (run_path(source), model.parent / source, model.parent):
        kept = folder / runs.MODEL
        if kept.is_file() and sha256_of(kept) == sidecar.parent:
            return folder
    return None


def _weights(sidecar: Sidecar) -> dict[str, Any]:
    facts = sidecar.weights
    name = str(facts.get("source") or "unknown")
    how = "where it begins"
    if sidecar.variant and name == "imagenet":
        from edgekit.zoo import get_variant

        package = get_variant(sidecar.variant).weights
        if package:
            name, how = f"{package.requirement}: {Path(package.file).name}", package.origin
    return link("weights", name, facts.get("sha256"), facts.get("licence"), how)


def _photos(sidecar: Sidecar) -> dict[str, Any]:
    used = list(sidecar.calibration["photos"])
    held = len(sidecar.calibration.get("held_out") or [])
    licences = _licences(used)
    how = f"{sidecar.calibration.get('crops', 0)} crops chose the ranges"
    how += f"; {held} other photos judged the result" if held else "; they judged the result too: too few to hold back"
    return link("photos", f"{len(used)} calibration photos", None, licences, how)


def _licences(photos: list[str]) -> str | None:
    """The licences of shipped photos, most frequent first; None for photos of the user's own."""
    try:
        tables = tomllib.loads(data_path("calibration_data", "manifest.toml").read_text("utf-8"))["photo"]
    except (DataNotFoundError, OSError, ValueError, KeyError):
        return None
    known = {table["sha256"]: table["licence"] for table in tables}
    if not set(photos) <= set(known):
        return None
    counts = Counter(known[photo] for photo in photos)
    return ", ".join(f"{name} ({count})" for name, count in counts.most_common())


def _how(sidecar: Sidecar) -> str:
    recipe = sidecar.recipe
    words = [f"{sidecar.scheme}, {sidecar.io} in and out"]
    if sidecar.scheme == "int8":
        words.append(f"one weight scale a {recipe.get('granularity', 'channel')}")
        words.append(f"ranges {recipe.get('ranges', 'min-max')}")
        passes = (recipe.get("refine") or {}).get("passes") or []
        words.append(f"passes {', '.join(passes)}" if passes else "no passes")
    if kept := recipe.get("keep_float"):
        words.append(f"in float: {', '.join(kept)}")
    if recipe.get("engine", "tflite") != "tflite":
        words.append(f"engine {recipe['engine']}")
    return "; ".join(words)


def _bundles(model: Path, sha256: str) -> list[dict[str, Any]]:
    """Bundles beside the model that hold it."""
    from edgekit.bundling.inspection import inspect

    found = []
    for path in sorted(model.parent.glob("*.edgekit"))[:_MOST_BUNDLES]:
        if not path.is_file() or path.stat().st_size > _MOST_BYTES:
            continue
        try:
            facts = inspect(path)
        except (EdgeKitError, ContractError, OSError, ValueError):
            continue
        if sha256 in {entry["sha256"] for entry in facts.get("entries", [])}:
            signed = facts.get("signature", {}).get("state", "unknown")
            found.append(link("bundle", path.name, facts["sha256"], None, f"signature: {signed}"))
    return found


def levels(sidecar: Sidecar, spec: Preprocess, folder: Path | None, progress: Any = None) -> dict[str, Any] | None:
    """How bright the calibration crops are, channel by channel.

    Args:
        sidecar: It names the photos by SHA-256 and the seed of the crops.
        spec: The model's preprocessing.
        folder: Where the photos lie; the shipped ones by default.
        progress: Called with (stage, done, total).

    Returns:
        ``{"bins", "channels": {name: counts}, "crops"}``; None if the photos are not there.
    """
    from edgekit.conversion.calibration import draw_crops, load_images

    wanted = set(sidecar.calibration.get("photos") or [])
    photos = load_images(folder or data_path("calibration_data"), progress=progress, least=1).images
    used = [photo for photo in photos if photo.sha256 in wanted]
    if not wanted or len(used) < len(wanted):
        return None
    crops = draw_crops(used, spec, seed=int(sidecar.calibration.get("seed", 0)), progress=progress)
    names = ("grey",) if spec.channels == 1 else ("red", "green", "blue") if spec.color == "RGB" else tuple("bgr")
    stack = np.stack([crop.pixels for crop in crops])
    counts = {
        name: [int(n) for n in np.histogram(stack[..., channel], LEVEL_BINS, (0, 256))[0]]
        for channel, name in enumerate(names)
    }
    return {"bins": LEVEL_BINS, "channels": counts, "crops": len(crops)}


def photos_of(run: Path | None) -> Path | None:
    """Where a run keeps the pictures to calibrate on; None where it has none."""
    return run / runs.PHOTOS if run and (run / runs.PHOTOS).is_dir() else None


def card_of(sidecar: Sidecar | None, run: Path | None) -> str | None:
    """The model card as Markdown: the run's own, else the variant's; None where there is none."""
    if run and (run / "CARD.md").is_file():
        return (run / "CARD.md").read_text("utf-8", "replace")
    if sidecar and sidecar.variant:
        try:
            return data_path("models", sidecar.variant, "CARD.md").read_text("utf-8")
        except (DataNotFoundError, OSError):
            return None
    return None


def read_bench(path: Path) -> dict[str, Any]:
    """The document of `edgekit bench --json`.

    Raises:
        UsageError: Not such a document.
    """
    try:
        document = json.loads(path.read_text("utf-8"))
        _ = [(cell["model"], cell["rung"], cell["threads"], cell["p50_ms"]) for cell in document["cells"]]
        _ = document["machine"]["cpu"]
    except (OSError, ValueError, KeyError, TypeError) as cause:
        raise UsageError(f"--bench {path}: make it with: edgekit bench MODEL... --json > bench.json") from cause
    return dict(document)
