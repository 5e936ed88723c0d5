"""`edgekit report`: what is known of a model is gathered, what is not is named with its command, all in one page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgekit import runs
from edgekit.artefacts import read_sidecar, run_path, sha256_of, write_atomically
from edgekit.data import data_path
from edgekit.errors import DatasetError, UsageError
from edgekit.evaluation_run import evaluate, labels_for
from edgekit.gating import read_evaluation
from edgekit.inputs import existing, preprocess_of
from edgekit.report_comparison import Subject, compared, race
from edgekit.report_facts import card_of, chain, levels, photos_of, run_links

Progress = Callable[[str, int, int], None]

SCHEMA = 1


@dataclass(frozen=True)
class Report:
    """What was written.

    Attributes:
        path: The HTML file.
        document: Its facts; `edgekit report --json` prints them.
        pictures: JPEG files of the worst disagreements, in their order.
    """

    path: Path
    document: Mapping[str, Any]
    pictures: tuple[bytes, ...] = field(repr=False, default=())


def report(
    source: str | Path,
    *,
    out: str | Path | None = None,
    reference: str | Path | None = None,
    beside: Sequence[str | Path] = (),
    evaluation: str | Path | None = None,
    data: str | Path | None = None,
    epsilon: float | None = None,
    images: str | Path | None = None,
    calibration: str | Path | None = None,
    bench: str | Path | None = None,
    preprocess: str | None = None,
    measure: bool = True,
    progress: Progress | None = None,
) -> Report:
    """Put everything that is known of a model into one HTML file that asks nothing of a network.

    Args:
        source: A .tflite file, or a run.
        out: The HTML file; SOURCE.html by default.
        reference: The float twin: agreement, layers and disagreements are measured against it.
        beside: Other .tflite files, for the picture of size and latency.
        evaluation: Result of `edgekit evaluate --json`.
        data: Labelled images to evaluate on now, where no result is given; for a run what it held out.
        epsilon: Largest acceptable drop in points, with `data` and `reference`.
        images: Photos to compare on; the shipped ones by default.
        calibration: Photos that the model was calibrated on; the shipped ones by default.
        bench: Result of `edgekit bench --json`; else it is timed now.
        preprocess: Where no OUT.json beside the model states it.
        measure: False leaves out what would have to be measured now.
        progress: Called with (stage, done, total).

    Raises:
        EdgeKitError: Named by its class; nothing is left half-written.
    """
    from edgekit.reporting.page import render

    run, model = _resolve(source)
    target = Path(out) if out else (model or run or Path(source)).with_suffix(".html")
    if target.suffix != ".html":
        raise UsageError(f"-o {target}: a report's name ends in .html")
    document: dict[str, Any] = {
        "schema": SCHEMA,
        **_origin(),
        "name": run.name if run else (model or Path(source)).stem,
    }
    pictures: tuple[bytes, ...] = ()
    if model is None:
        assert run is not None
        document |= {"model": None, "chain": run_links(run), "card": card_of(None, run)}
    else:
        subject = _subject(model, preprocess, images, progress)
        twin = existing(reference) if reference else None
        document |= {
            "model": _facts(subject),
            "chain": chain(model, subject.sidecar, run, twin),
            "card": card_of(subject.sidecar, run),
            "accuracy": _accuracy(subject, evaluation, data, twin, epsilon, preprocess)
            or (_held_out(subject, run, twin, preprocess) if run and measure else None),
            "calibration": _calibration(subject, Path(calibration) if calibration else photos_of(run)),
        }
        judged, pictures = compared(subject, twin if measure else None)
        document |= judged
        document |= race(subject, [existing(path) for path in beside], twin, bench, measure)
    document["missing"] = missing(document, run, model, _source_of(document, run))
    write_atomically(target, render(document, pictures).encode("utf-8"))
    return Report(target, document, pictures)


def missing(document: Mapping[str, Any], run: Path | None, model: Path | None, source: str) -> dict[str, str]:
    """Section -> the command that provides its facts, for those that have none."""
    name = str(model) if model else "MODEL.tflite"
    again = f"edgekit report {name}"
    if model is None:
        made = f"edgekit convert {run} -o {run and run.name}.tflite; edgekit report {run and run.name}.tflite"
        return dict.fromkeys(("accuracy", "agreement", "models", "layers", "calibration", "disagreements"), made)
    twin = f"edgekit convert {source} --scheme float32 -o float.tflite; {again} --reference float.tflite"
    commands = {
        "accuracy": f"edgekit evaluate {name} DATA --json > eval.json; {again} --evaluation eval.json",
        "agreement": twin,
        "models": f"edgekit bench {name} OTHER.tflite --json > bench.json; {again} --bench bench.json",
        "layers": twin,
        "calibration": f"{again} --calibration DIR",
        "disagreements": twin,
    }
    return {section: words for section, words in commands.items() if document.get(section) is None}


def _source_of(document: Mapping[str, Any], run: Path | None) -> str:
    """What `convert` made the model from, as far as that can be typed."""
    if run:
        return str(run)
    made = document.get("model") or {}
    begins = document["chain"][0] if document["chain"] else {}
    return str(made["variant"]) if made.get("variant") and begins.get("kind") == "weights" else "SOURCE"


def _resolve(source: str | Path) -> tuple[Path | None, Path | None]:
    """The run and the model that are meant; of several models in a run, the smallest."""
    path = Path(source)
    if path.is_file():
        return None, path
    run = path if path.is_dir() else run_path(str(source))
    if not run.is_dir():
        raise UsageError(f"{source}: neither a .tflite file nor a run")
    models = sorted(run.glob("*.tflite"), key=lambda file: (file.stat().st_size, file.name))
    if not models and not (run / "model.keras").is_file():
        raise UsageError(f"{run}: holds neither model.keras nor a .tflite file")
    return run, models[0] if models else None


def _origin() -> dict[str, Any]:
    from edgekit import __version__

    return {"made_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), "edgekit": __version__}


def _subject(model: Path, preprocess: str | None, images: str | Path | None, progress: Progress | None) -> Subject:
    from edgekit_device.infer.flatbuffer import read_model

    info = read_model(model.read_bytes(), str(model))
    sidecar = read_sidecar(model)
    try:
        labels = labels_for(model, None)
    except UsageError:
        labels = ()
    spec = preprocess_of(model, sidecar, info, preprocess)
    folder = Path(images) if images else data_path("calibration_data")
    return Subject(model, info, sidecar, spec, labels, folder, preprocess, progress)


def _facts(subject: Subject) -> dict[str, Any]:
    from edgekit.records import tensor_facts

    info, card = subject.info, subject.sidecar
    return {
        "path": str(subject.path),
        "sha256": sha256_of(subject.path),
        "bytes": subject.path.stat().st_size,
        "variant": card.variant if card else None,
        "scheme": card.scheme if card else None,
        "io": card.io if card else info.main.inputs[0].dtype,
        "operators": dict(info.operator_counts),
        "input": tensor_facts(info.main.inputs[0]),
        "output": tensor_facts(info.main.outputs[0]),
        "preprocess": subject.spec.to_json(),
        "labels": len(subject.labels),
        "seconds": card.seconds if card else None,
        "recipe": dict(card.recipe) if card else {},
    }


def _accuracy(
    subject: Subject,
    evaluation: str | Path | None,
    data: str | Path | None,
    twin: Path | None,
    epsilon: float | None,
    preprocess: str | None,
) -> dict[str, Any] | None:
    if evaluation:
        return read_evaluation(Path(evaluation), subject.path)
    if data is None:
        return None
    done = evaluate(subject.path, data, against=twin, epsilon=epsilon, preprocess=preprocess, progress=subject.progress)
    return done.to_json()


def _held_out(subject: Subject, run: Path, twin: Path | None, preprocess: str | None) -> dict[str, Any] | None:
    """On what training held out, where the run says what that was and the pictures are still there."""
    if not (run / runs.SPLIT).is_file():
        return None
    try:
        return evaluate(subject.path, run, against=twin, preprocess=preprocess, progress=subject.progress).to_json()
    except DatasetError:
        return None


def _calibration(subject: Subject, folder: Path | None) -> dict[str, Any] | None:
    card = subject.sidecar
    if card is None or not card.calibration.get("crops") or card.scheme not in ("int8", "int16x8"):
        return None
    found = levels(card, subject.spec, folder, subject.progress)
    if found is None:
        return None
    held = card.calibration.get("held_out") or []
    return {"photos": len(card.calibration["photos"]), "held_out": len(held), **found}
