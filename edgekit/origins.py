"""Where a model to convert comes from: a Keras model, and what is known about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgekit import runs
from edgekit.artefacts import run_path, sha256_of
from edgekit.errors import PreprocessUnknownError, ReplacedFileError, UsageError
from edgekit.preprocessing import choose_preprocess
from edgekit_device.contract.preprocess import Preprocess

_NAMED = ("imagenet", "random")


@dataclass(frozen=True)
class Origin:
    """A Keras model and what is known about it.

    Attributes:
        model: A ``keras.Model``.
        preprocess: How photos are prepared (float input).
        labels: One per class, where they are known.
        variant: Its name in the zoo; None for a model from elsewhere.
        weights: ``source``, ``sha256`` and ``licence``.
        parent: Digest of the file that it was made from.
        ranges: Layer -> smallest and largest value, where quantisation-aware training has found them.
        photos: Pictures that it learnt from, to calibrate on.
    """

    model: Any
    preprocess: Preprocess
    labels: tuple[str, ...] | None
    variant: str | None
    weights: Mapping[str, Any]
    parent: str | None
    ranges: Mapping[str, tuple[float, float]] | None = None
    photos: Path | None = None


def find_origin(
    source: str | Path, weights: str | Path, preprocess: str | None, labels: str | Path | None, seed: int
) -> Origin:
    """Find the model that `convert` is to convert; see there for the arguments.

    Raises:
        UsageError: Neither a variant, a run, a .keras file nor a SavedModel, or nothing states its preprocessing.
        WeightsError: The weights cannot be used.
    """
    from edgekit.bundling.labels import read_labels
    from edgekit.zoo import get_variant, variant_names

    given = read_labels(Path(labels)).names if labels else None
    if str(source) in variant_names():
        return _from_zoo(str(source), weights, preprocess, given, seed)
    path = Path(source)
    if path.suffix == ".keras" and path.is_file():
        return _from_keras(path, preprocess, given)
    if path.suffix == ".keras":
        raise UsageError(f"{path}: there is no such file")
    if (path / "saved_model.pb").is_file():
        return _from_saved_model(path, preprocess, given)
    run = run_path(str(source))
    if (run / runs.MODEL).is_file():
        return _from_run(run, preprocess, labels)
    if path.exists() or run.exists():
        raise UsageError(f"{source}: holds neither model.keras (a run) nor saved_model.pb (a SavedModel)")
    get_variant(str(source))  # Names the near miss among the variants.
    raise UsageError(f"{source}: neither a variant, a run, a .keras file nor a SavedModel")


def _from_run(run: Path, preprocess: str | None, labels: str | Path | None) -> Origin:
    """What training left: model.keras, and beside it what else is known."""
    from edgekit.bundling.labels import read_labels

    stated, named = run / runs.PREPROCESS, run / runs.LABELS
    choice = preprocess or (str(stated) if stated.is_file() else None)
    beside = labels or (named if named.is_file() else None)
    found = _from_keras(run / runs.MODEL, choice, read_labels(Path(beside)).names if beside else None)
    record = runs.read_record(run)
    if record is None:
        return found
    if record.facts.get("sha256") != found.parent:
        raise ReplacedFileError(
            str(record.model), str(run / runs.RECORD), str(record.facts.get("sha256")), str(found.parent)
        )
    photos = run / runs.PHOTOS
    facts = {"source": run.name, "sha256": found.parent, "licence": (record.facts.get("weights") or {}).get("licence")}
    return replace(
        found,
        variant=record.facts.get("variant"),
        weights=facts,
        ranges=runs.read_ranges_file(run),
        photos=photos if photos.is_dir() else None,
    )


def _from_saved_model(path: Path, preprocess: str | None, given: tuple[str, ...] | None) -> Origin:
    from edgekit.conversion.saved_model import load_saved_model, tree_digest

    if preprocess is None:
        raise PreprocessUnknownError(str(path))
    model = load_saved_model(path)
    size = (int(model.input_shape[1]), int(model.input_shape[2]))
    digest = tree_digest(path)
    spec = choose_preprocess(preprocess, size, beside=path)
    return Origin(model, spec, given, None, {"source": path.name, "sha256": digest, "licence": None}, digest)


def _from_zoo(
    name: str, weights: str | Path, preprocess: str | None, given: tuple[str, ...] | None, seed: int
) -> Origin:
    from edgekit.zoo import build, find_weights

    found = find_weights(name, weights, seed=seed)
    side = found.variant.resolution
    beside = None if found.source in _NAMED else Path(found.source)
    spec = choose_preprocess(preprocess, (side, side), beside=beside) if preprocess else found.preprocess_at(side)
    if spec is None:
        raise PreprocessUnknownError(str(weights))
    source = found.source if found.source in _NAMED else Path(found.source).name
    facts = {"source": source, "sha256": found.sha256, "licence": found.licence}
    model = build(found.variant, weights=found)
    return Origin(model, spec, given or found.labels, found.variant.name, facts, found.sha256)


def _from_keras(path: Path, preprocess: str | None, given: tuple[str, ...] | None) -> Origin:
    from edgekit.zoo import load_keras

    if preprocess is None:
        raise PreprocessUnknownError(str(path))
    model = load_keras(str(path))
    shape = tuple(model.input_shape)
    if len(shape) != 4 or not all(isinstance(n, int) for n in shape[1:]):
        raise UsageError(f"{path}: it reads {list(shape)}; a fixed (batch, height, width, channels) is needed")
    spec = choose_preprocess(preprocess, (shape[1], shape[2]), beside=path)
    digest = sha256_of(path)
    return Origin(model, spec, given, None, {"source": path.name, "sha256": digest, "licence": None}, digest)
