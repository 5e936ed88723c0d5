"""`edgekit doctor calibration`: a folder of photos looked at before a model is calibrated on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from edgekit.conversion.calibration import Photos
    from edgekit.conversion.stability import Stability
    from edgekit.conversion.symptoms import Look, Symptom

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class CalibrationCheck:
    """What was found.

    Attributes:
        folder: Which was looked at.
        photos: Usable images.
        classes: Class folder -> photos; empty for photos that lie side by side.
        skipped: (path inside the folder, reason) of each image file that cannot be used.
        symptoms: What is wrong, what costs most first.
        stability: Of the ranges, where a model was given.
    """

    folder: Path
    photos: int
    classes: dict[str, int]
    skipped: tuple[tuple[str, str], ...]
    symptoms: tuple[Symptom, ...]
    stability: Stability | None

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong that spoils a model or a figure."""
        return not any(symptom.severity == "error" for symptom in self.symptoms)

    def to_json(self) -> dict[str, Any]:
        """One object."""
        return {
            "folder": str(self.folder),
            "photos": self.photos,
            "classes": self.classes,
            "skipped": [{"file": name, "reason": reason} for name, reason in self.skipped],
            "symptoms": [symptom.to_json() for symptom in self.symptoms],
            "stability": self.stability.to_json() if self.stability else None,
            "passed": self.passed,
        }


def check_calibration(
    folder: str | Path,
    *,
    against: str | Path | None = None,
    model: str | Path | None = None,
    preprocess: str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> CalibrationCheck:
    """Look at a folder of calibration photos.

    Args:
        folder: Photos, or folders of photos by class.
        against: Photos that the model will be judged on.
        model: A float .tflite, to see how many crops it takes until its ranges settle.
        preprocess: Of that model, where no OUT.json beside it says.
        seed: Draws the crops.
        progress: Called with (stage, done, total).

    Raises:
        CalibrationError: No such folder, or no image in it.
    """
    from edgekit.conversion.calibration import load_images
    from edgekit.conversion.symptoms import find_symptoms

    photos = load_images(Path(folder), progress=progress, least=1)
    looks = _looks(photos, progress)
    others = _looks(load_images(Path(against), progress=progress, least=1), progress) if against else []
    counts: dict[str, int] = {}
    for look in looks:
        if look.group:
            counts[look.group] = counts.get(look.group, 0) + 1
    stability = _stability(Path(model), photos, preprocess, seed, progress) if model else None
    return CalibrationCheck(
        Path(folder),
        len(looks),
        dict(sorted(counts.items())),
        photos.skipped,
        tuple(find_symptoms(looks, others)),
        stability,
    )


def _looks(photos: Photos, progress: Progress | None) -> list[Look]:
    from edgekit.conversion.symptoms import look_at

    found = []
    for done, photo in enumerate(photos.images, 1):
        name = str(photo.path.relative_to(photos.folder))
        found.append(look_at(photo.pixels(), name, photo.sha256, photo.group))
        if progress:
            progress("look", done, len(photos.images))
    return found


def _stability(model: Path, photos: Photos, preprocess: str | None, seed: int, progress: Progress | None) -> Stability:
    from edgekit.artefacts import read_sidecar
    from edgekit.compression.graph import FloatGraph
    from edgekit.compression.simulation import FIXED_GRID, Batch, run
    from edgekit.conversion.calibration import draw_crops
    from edgekit.conversion.noise import load_tensorflow
    from edgekit.conversion.stability import two_halves
    from edgekit.inputs import existing, preprocess_of
    from edgekit_device import vision

    load_tensorflow()
    path = existing(model)
    graph = FloatGraph(path.read_bytes(), str(path))
    spec = preprocess_of(path, read_sidecar(path), graph.info, preprocess).quantised("float32", 0.0, 0)
    crops = draw_crops(photos.images, spec, seed=seed, progress=progress)
    lows: dict[int, list[Batch]] = {}
    highs: dict[int, list[Batch]] = {}

    # Where ReLU6 clips, any crop reaches both ends, and a softmax's range is fixed: they say nothing of the photos.
    fixed = {node.output for node in graph.nodes if node.activation == "relu6" or node.kind in FIXED_GRID}

    def look(index: int, values: Batch) -> None:
        if index in fixed:
            return
        axes = tuple(range(1, values.ndim))
        lows.setdefault(index, []).append(values.min(axis=axes))
        highs.setdefault(index, []).append(values.max(axis=axes))

    for done in range(0, len(crops), 16):
        if progress:
            progress("ranges", done, len(crops))
        run(graph, np.stack([vision.quantise(crop.pixels, spec) for crop in crops[done : done + 16]]), look)
    return two_halves(
        *(np.stack([np.concatenate(side[index]) for index in sorted(side)], axis=1) for side in (lows, highs)),
        seed=seed,
    )
