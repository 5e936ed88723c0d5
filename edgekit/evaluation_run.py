"""`edgekit evaluate`: labels, preprocessing and a folder of images put together, then judged on all cores."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit import runs
from edgekit.artefacts import read_sidecar, run_path, sha256_of
from edgekit.data import data_path
from edgekit.errors import DatasetError, UsageError
from edgekit.inputs import existing, labels_of, labels_path, preprocess_of

if TYPE_CHECKING:
    from edgekit.verification.evaluation import Evaluation
    from edgekit.verification.folders import LabelledImages
    from edgekit_device.contract.preprocess import Preprocess

Progress = Callable[[str, int, int], None]


def evaluate(
    model: str | Path,
    data: str | Path,
    *,
    against: str | Path | None = None,
    epsilon: float | None = None,
    split: str | None = None,
    preprocess: str | None = None,
    labels: str | Path | None = None,
    processes: int | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure a model on labelled images, through the preprocessing and the interpreter that boards run.

    Args:
        model: A .tflite classifier.
        data: Image folder: ``DATA/<class>/*.jpg``, classes by label, WordNet id or 0-based index; or a run of
            `train`: what it held out.
        against: The model it was made from, or any other of the same classes, judged on the same images.
        epsilon: Largest acceptable drop against the other model, in points of top-1 (1.0 is one point).
        split: For ``DATA/<split>/<class>/``.
        preprocess: ``tf-lite``, ``timm`` or a file, for models without OUT.json.
        labels: One per class; by default what `convert` left beside the model or packed into it.
        processes: How many; one a core by default.
        progress: Called with ("evaluate", done, total).

    Raises:
        EdgeKitError: Named by its class; a verdict of no is returned, not raised.
    """
    from edgekit.verification.crew import judge_images
    from edgekit.verification.evaluation import evaluate_answers
    from edgekit.verification.folders import find_images

    if epsilon is not None and against is None:
        raise UsageError("--epsilon limits a drop: name the other model with --against MODEL")
    if epsilon is not None and not 0 < epsilon < 100:
        raise UsageError(f"--epsilon {epsilon}: give points of accuracy between 0 and 100, e.g. 1.0")
    path = existing(model)
    names = labels_for(path, labels)
    wnids = data_path("models", "imagenet_wnids.txt").read_text("utf-8").split()
    held_out = held_out_of(data, names) if split is None else None
    found = held_out or find_images(Path(data), names, wnids, split=split)
    models = [_loaded(path, preprocess)]
    if against is not None:
        models.append(_loaded(existing(against), preprocess))
    began = time.monotonic()
    count = processes or len(os.sched_getaffinity(0))
    judged = judge_images([file for file, _ in found.files], models, processes=count, progress=progress)
    seconds = time.monotonic() - began
    extra: dict[str, Any] = {
        "model": str(path),
        "model_sha256": hashlib.sha256(models[0][0]).hexdigest(),
        "against": str(against) if against else None,
        "against_sha256": hashlib.sha256(models[1][0]).hexdigest() if against else None,
        "data": str(found.folder),
        "named_by": found.named_by,
        "seconds": round(seconds, 3),
        "images_per_s": round(len(judged) / max(seconds, 1e-9), 2),
        "processes": min(count, len(judged)),
    }
    files = [(str(file.relative_to(found.folder)), index) for file, index in found.files]
    share = None if epsilon is None else epsilon / 100
    return evaluate_answers(files, judged, names, epsilon=share, passed_over=found.passed_over, extra=extra)


def held_out_of(run: str | Path, labels: Sequence[str]) -> LabelledImages | None:
    """The pictures that a run held out; None if `run` is no run.

    Raises:
        DatasetError: It held none out, they were moved or changed, or the model has other classes.
    """
    from edgekit.verification.folders import LabelledImages

    folder = run_path(str(run))
    if not (folder / runs.RECORD).is_file():
        return None
    split = runs.read_split(folder) or {"data": "", "pictures": []}
    home = Path(split["data"])
    listed = [entry for entry in split["pictures"] if entry["role"] == "held_out" and entry["label"] is not None]
    if not listed:
        raise DatasetError(str(folder), "held nothing out", "name a folder of pictures that it did not learn from")
    for entry in listed:
        if entry["label"] not in labels:
            raise DatasetError(
                str(folder), f"has the class '{entry['label']}', and the model does not", "pass --labels"
            )
        file = home / entry["file"]
        if not file.is_file() or sha256_of(file) != entry["sha256"]:
            raise DatasetError(str(file), "was held out, and is gone or changed", "bring it back, or name a folder")
    files = tuple(sorted((home / entry["file"], labels.index(entry["label"])) for entry in listed))
    return LabelledImages(home, files, "run", 0)


def _loaded(path: Path, preprocess: str | None) -> tuple[bytes, Preprocess]:
    from edgekit_device.infer.flatbuffer import read_model

    data = path.read_bytes()
    return data, preprocess_of(path, read_sidecar(path), read_model(data, str(path)), preprocess)


def labels_for(model: Path, given: str | Path | None) -> tuple[str, ...]:
    """Labels of as many classes as the model has: named, beside it, or packed into it.

    Raises:
        UsageError: None of these, or another number of them.
    """
    from edgekit.bundling.labels import check_labels, read_labels
    from edgekit.conversion.metadata import read_packed_labels
    from edgekit_device.infer.flatbuffer import read_model

    data = model.read_bytes()
    outputs = read_model(data, str(model)).main.outputs
    classes = max(outputs[0].shape, default=0) if len(outputs) == 1 else None
    packed = () if given or labels_path(model).is_file() else read_packed_labels(data)
    if packed:
        return check_labels(packed, path=f"{model}:labels.txt", classes=classes).names
    return read_labels(labels_of(model, given), classes=classes).names
