"""What a report measures: a model against its float twin, and its size and time beside others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.artefacts import Sidecar, sha256_of
from edgekit.diagnosis import blame
from edgekit.errors import CompressionError, UsageError
from edgekit.report_facts import read_bench

if TYPE_CHECKING:
    from edgekit.conversion.calibration import Crop
    from edgekit.verification.agreement import Agreement
    from edgekit_device.contract.preprocess import Preprocess
    from edgekit_device.infer.flatbuffer import ModelInfo
    from edgekit_device.infer.interpreter import Engine

Progress = Callable[[str, int, int], None]

_CROPS = 96
_PICTURES = 8
_SIDE = 168
_QUALITY = 82
_ROUNDS, _SECONDS = 3, 0.3
_INTERPRETER_THREADS = 2


@dataclass(frozen=True)
class Subject:
    """The model that is reported on.

    Attributes:
        path: The .tflite file.
        info: What it declares.
        sidecar: OUT.json beside it.
        spec: Its preprocessing.
        labels: One per class; numbers where they are not known.
        images: Photos to compare on.
        preprocess: What --preprocess said.
        progress: Called with (stage, done, total).
    """

    path: Path
    info: ModelInfo
    sidecar: Sidecar | None
    spec: Preprocess
    labels: tuple[str, ...]
    images: Path
    preprocess: str | None
    progress: Progress | None


def compared(subject: Subject, twin: Path | None) -> tuple[dict[str, Any], tuple[bytes, ...]]:
    """Agreement, layers and disagreements: measured if there is a twin, else what OUT.json says of agreement.

    Args:
        subject: The model.
        twin: The float model that it was made from.

    Returns:
        The sections of the document, and a JPEG file for each disagreement that is named.
    """
    if twin is None:
        known = dict(subject.sidecar.agreement) if subject.sidecar else {}
        told = {**known, "measured_by": "edgekit convert"} if known else None
        return {"agreement": told, "layers": None, "disagreements": None}, ()
    from edgekit.conversion.calibration import draw_crops, load_images

    photos = load_images(subject.images, progress=subject.progress, least=1).images
    # What a model was calibrated on flatters it.
    seen = set(subject.sidecar.calibration.get("photos") or []) if subject.sidecar else set()
    fresh = [photo for photo in photos if photo.sha256 not in seen] or list(photos)
    crops = draw_crops(fresh, subject.spec, limit=_CROPS, progress=subject.progress)
    agreement, engines = _agree(twin, subject, crops)
    rows, pictures = _disagreements(agreement, engines, subject, crops, {p.sha256: p.path.name for p in fresh})
    try:
        found = blame(
            subject.path,
            reference=twin,
            images=subject.images,
            preprocess=subject.preprocess,
            progress=subject.progress,
        )
        layers: dict[str, Any] | None = found.to_json() if found.layers else None
    except (CompressionError, UsageError):
        layers = None
    told = {
        **agreement.to_json(),
        "measured_by": "edgekit report",
        "reference": twin.name,
        "held_out": not seen & {photo.sha256 for photo in fresh},
    }
    return {"agreement": told, "layers": layers, "disagreements": rows}, pictures


def _agree(twin: Path, subject: Subject, crops: Sequence[Crop]) -> tuple[Agreement, tuple[Engine, Engine]]:
    """Hold the model against its twin on crops."""
    from edgekit.conversion.noise import captured
    from edgekit.verification.agreement import measure
    from edgekit_device.infer.interpreter import Engine

    with captured():
        engines = (
            Engine(twin.read_bytes(), threads=_INTERPRETER_THREADS, name=str(twin)),
            Engine(subject.path.read_bytes(), threads=_INTERPRETER_THREADS, name=str(subject.path)),
        )
    pixels, photos = [crop.pixels for crop in crops], [crop.photo for crop in crops]
    return measure(*engines, pixels, photos, subject.spec, progress=subject.progress), engines


def _disagreements(
    agreement: Agreement,
    engines: tuple[Engine, Engine],
    subject: Subject,
    crops: Sequence[Crop],
    names: Mapping[str, str],
) -> tuple[list[dict[str, Any]], tuple[bytes, ...]]:
    """The worst, one crop a photo, each with its picture."""
    from edgekit.verification.agreement import scores

    rows: list[dict[str, Any]] = []
    pictures: list[bytes] = []
    shown: set[str] = set()
    for index, wanted, said in agreement.disagreements:
        crop = crops[index]
        if crop.photo in shown or len(rows) == _PICTURES:
            continue
        shown.add(crop.photo)
        ours, theirs = (scores(engine, crop.pixels, subject.spec) for engine in engines)
        rows.append(
            {
                "photo": names[crop.photo],
                "sha256": crop.photo,
                "reference": {"label": _label(subject, wanted), "score": float(ours[wanted])},
                "model": {"label": _label(subject, said), "score": float(theirs[said])},
                "reference_score_of_other": float(ours[said]),
            }
        )
        pictures.append(_picture(crop, subject.spec))
    return rows, tuple(pictures)


def _label(subject: Subject, index: int) -> str:
    return subject.labels[index] if index < len(subject.labels) else f"class {index}"


def _picture(crop: Crop, spec: Preprocess) -> bytes:
    import cv2

    pixels = crop.pixels if spec.color != "RGB" else crop.pixels[..., ::-1]
    scale = min(1.0, _SIDE / max(pixels.shape[:2]))
    size = round(pixels.shape[1] * scale), round(pixels.shape[0] * scale)
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return bytes(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1])


def race(
    subject: Subject, others: Sequence[Path], twin: Path | None, told: str | Path | None, measure: bool
) -> dict[str, Any]:
    """Size and time of each model.

    Args:
        subject: The model.
        others: What it is to be seen beside.
        twin: Its float twin, seen beside it too.
        told: Result of `edgekit bench --json`; else they are timed now.
        measure: Whether anything may be timed now.

    Raises:
        UsageError: `told` is no such document.
    """
    from edgekit.reporting.bench import bench

    models = list(dict.fromkeys([subject.path, *others, *([twin] if twin else [])]))
    if told:
        document = read_bench(Path(told))
    elif measure:
        document = bench(models, threads=(1,), rounds=_ROUNDS, seconds=_SECONDS, progress=subject.progress).to_json()
    else:
        return {"models": None, "machine": None}
    rows = []
    for path in models:
        cells = [cell for cell in document["cells"] if Path(cell["model"]).name == path.name and cell["p50_ms"]]
        rows.append({"name": path.stem, "path": str(path), "sha256": sha256_of(path), "bytes": path.stat().st_size})
        rows[-1]["cells"] = [
            {key: cell.get(key) for key in ("rung", "threads", "p50_ms", "p95_ms", "p99_ms", "first_ms", "rss_bytes")}
            for cell in cells
        ]
    if not any(row["cells"] for row in rows):
        return {"models": None, "machine": None}
    return {"models": rows, "machine": document["machine"]}
