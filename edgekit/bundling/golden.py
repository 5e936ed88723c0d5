"""Choose the golden images of a bundle and measure how far the rungs may differ.

Expected scores come from XNNPACK on this machine. Tolerances are measured on every photo at hand and crops of it,
not only on the few that travel: two images say little about the largest difference between two sets of kernels.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgekit.bundling.rungs import Scores, Tensors, run_rung
from edgekit.errors import BundleTooLargeError, GoldenImagesError, RungError
from edgekit_device import vision
from edgekit_device.contract.documents import MAX_DOCUMENT_BYTES
from edgekit_device.contract.errors import ShapeError
from edgekit_device.image_headers import read_image_file
from edgekit_device.infer.golden import MIN_MARGIN, Golden, margin

if TYPE_CHECKING:
    from edgekit_device.contract.preprocess import Preprocess
    from edgekit_device.infer.interpreter import TensorSpec

WANTED_IMAGES = 4
LEAST_IMAGES = 2
MAX_VIEWS = 96
"""Photos and crops that are measured: some 7 s for lite0 on two cores."""
SPARE_QUANTA = 2
"""On top of the largest difference seen; XNNPACK on Arm was seen 1 quantum from x86."""
UNMEASURED_EDGETPU_QUANTA = 64
"""Until a Coral has run it: twice what a golden image's margin is worth."""
LEAST_QUANTA = 32
"""Top-2 margin of a golden image where scores are not probabilities; MIN_MARGIN says the same for those."""
SIDE_RATIO = 1.25
"""Golden images keep this much more than the model reads, so that crop and resize are proved too."""
MAX_ASPECT = 2.0
_CROP_SHARE = 0.75
_CORNERS = ((0, 0), (1, 1), (0, 1), (1, 0))

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class RungFigures:
    """What was measured on one rung.

    Attributes:
        largest_difference: Of any score of any view from the expected one; None if the rung failed.
        tolerance: What a board may differ by on this rung; None if the rung failed.
        reason: Why the rung failed; None if it works.
    """

    largest_difference: float | None
    tolerance: float | None
    reason: str | None = None


@dataclass(frozen=True)
class GoldenSet:
    """The golden part of a bundle, and how it was found.

    Attributes:
        golden: Expected scores and tolerances.
        images: PNG files by name below ``golden/``.
        output: The model's score tensor.
        rungs: What was measured, by rung.
        photos: Readable photos.
        skipped: Files that could not be read as images.
        views: Photos and crops measured.
    """

    golden: Golden
    images: Mapping[str, bytes]
    output: TensorSpec
    rungs: Mapping[str, RungFigures]
    photos: int
    skipped: tuple[str, ...]
    views: int


def choose_golden(model: bytes, preprocess: Preprocess, photos: Sequence[Path], *, edgetpu: bool = False) -> GoldenSet:
    """Measure a model on photos and pick those that prove it.

    Args:
        model: The CPU model.
        preprocess: With the type and grid of the model's input tensor.
        photos: Image files; those that cannot be read are skipped and named.
        edgetpu: Whether the bundle carries a twin for the Edge TPU.

    Raises:
        GoldenImagesError: Fewer than two photos are fit.
        RungError: XNNPACK cannot run the model.
    """
    images, skipped = _read(photos)
    views = [(at, view) for at, image in enumerate(images) for view in _views(image, preprocess, len(images))]
    if not views:
        raise GoldenImagesError(0, 0, LEAST_IMAGES, f"{len(skipped)} files are not readable images" if skipped else "")
    inputs = np.concatenate([vision.to_model_input(pixels, preprocess) for _, pixels in views])
    expected, output, figures = measure_rungs(model, inputs)
    tolerances = {rung: f.tolerance for rung, f in figures.items() if f.tolerance is not None}
    extra: dict[str, Any] = {}
    step = quantum(output, expected)
    if edgetpu:
        tolerances["edgetpu"] = _rounded(max(UNMEASURED_EDGETPU_QUANTA * step, 2 * max(tolerances.values())))
        extra["unmeasured"] = ["edgetpu"]
    # Twice what is asked of them: a kernel that nobody measured here should not turn a top-1.
    clear = max(2 * max(f.tolerance or 0.0 for f in figures.values()), 2 * LEAST_QUANTA * step)
    chosen = select(expected, [at for at, _ in views], clear, step)
    if len(chosen) < LEAST_IMAGES:
        raise GoldenImagesError(len(chosen), len(images), LEAST_IMAGES)
    pictures = {f"{number:02d}.png": _png(views[at][1]) for number, at in enumerate(chosen)}
    scores = dict(zip(pictures, (expected[at] for at in chosen), strict=True))
    golden = _fitting(Golden(scores, tolerances, extra))
    return GoldenSet(
        golden=golden,
        images={name: pictures[name] for name in golden.scores},
        output=output,
        rungs=figures,
        photos=len(images),
        skipped=skipped,
        views=len(views),
    )


def measure_rungs(model: bytes, inputs: Tensors) -> tuple[Scores, TensorSpec, dict[str, RungFigures]]:
    """Expected scores on XNNPACK, and how far each rung strays from them.

    Args:
        model: The .tflite file.
        inputs: Shape (n, height, width, channels), dtype of the model's input.

    Returns:
        (scores, shape (n, classes); the output tensor; figures by rung). A builtin rung that fails carries the
        reason; boards then have no fallback behind XNNPACK.
    """
    threads = max(2, min(4, os.cpu_count() or 2))
    expected, output = run_rung(model, inputs, "xnnpack")
    few = inputs[: min(16, len(inputs))]
    threaded, _ = run_rung(model, few, "xnnpack", threads=threads)
    step = quantum(output, expected)
    figures = {"xnnpack": _figures(threaded, expected[: len(few)], step)}
    try:
        builtin, _ = run_rung(model, inputs, "builtin", threads=threads)
        figures["builtin"] = _figures(builtin, expected, step)
    except RungError as cause:
        figures["builtin"] = RungFigures(None, None, cause.reason)
    return expected, output, figures


def quantum(output: TensorSpec, scores: Scores) -> float:
    """One step of the score tensor; for float scores 1/255 of their range, which is [0, 1] for probabilities."""
    if output.scale > 0:
        return output.scale
    low, high = float(scores.min(initial=0.0)), float(scores.max(initial=1.0))
    return (high - low) / 255


def select(scores: Scores, photos: Sequence[int], preferred_margin: float, step: float) -> list[int]:
    """Which views become golden images; pure.

    A view is fit if its top-2 margin is at least 32 quanta (32/255 for probabilities); those that lead by more than
    `preferred_margin` go first, one view a photo, each with a top-1 of its own as far as that goes. Very sure and
    barely sure views alternate: a saturated score vector would hide small faults.

    Args:
        scores: Shape (views, classes).
        photos: Which photo each view shows.
        preferred_margin: Views above it go first.
        step: One quantum of the scores.

    Returns:
        Indices of views, at most WANTED_IMAGES.
    """
    margins = [margin(vector) for vector in scores]
    # A margin of MIN_MARGIN speaks of probabilities; other score ranges are measured in quanta. The tiny share
    # taken off keeps 32 quanta of 1/255 fit in float32.
    least = max(MIN_MARGIN, LEAST_QUANTA * step) * (1 - 1e-6)
    fit = [int(at) for at in np.argsort(-np.array(margins), kind="stable") if margins[at] >= least]
    clear = [at for at in fit if margins[at] > preferred_margin]
    order = _alternating(clear) + [at for at in fit if at not in set(clear)]
    chosen: list[int] = []
    for distinct in (True, False):
        for at in order:
            known = {photos[other] for other in chosen}
            seen = {int(scores[other].argmax()) for other in chosen}
            new = not distinct or int(scores[at].argmax()) not in seen
            if new and len(chosen) < WANTED_IMAGES and photos[at] not in known:
                chosen.append(at)
    return chosen


def _alternating(ordered: Sequence[int]) -> list[int]:
    """First, last, second, last but one, ..."""
    return [ordered[i // 2] if i % 2 == 0 else ordered[-1 - i // 2] for i in range(len(ordered))]


def _figures(found: Scores, expected: Scores, step: float) -> RungFigures:
    if found.shape != expected.shape:
        return RungFigures(None, None, f"it computes {found.shape[1]} scores instead of {expected.shape[1]}")
    largest = float(np.abs(found - expected).max(initial=0.0))
    return RungFigures(largest, _rounded(largest + SPARE_QUANTA * step))


def _rounded(tolerance: float) -> float:
    # Upwards: a difference of exactly so many quanta is still the same model.
    return math.ceil(tolerance * 1e6) / 1e6


def _read(photos: Sequence[Path]) -> tuple[list[Pixels], tuple[str, ...]]:
    images, skipped = [], []
    # More photos than views: spread over the whole list.
    step = max(1, -(-len(photos) // MAX_VIEWS))
    for path in photos[::step]:
        try:
            images.append(vision.decode_image(read_image_file(path)))
        except (OSError, ShapeError):
            skipped.append(path.name)
    return images, tuple(skipped)


def _views(image: Pixels, preprocess: Preprocess, photos: int) -> list[Pixels]:
    """The photo and crops of it, each as small as a golden image is."""
    crops = max(0, min(len(_CORNERS), MAX_VIEWS // photos - 1))
    height, width = (round(side * _CROP_SHARE) for side in image.shape[:2])
    found = [_shrunk(image, preprocess)]
    for down, right in _CORNERS[:crops]:
        top, left = down * (image.shape[0] - height), right * (image.shape[1] - width)
        found.append(_shrunk(image[top : top + height, left : left + width], preprocess))
    return found


def _shrunk(image: Pixels, preprocess: Preprocess) -> Pixels:
    """Shrink so that the shorter side is SIDE_RATIO times what the model reads; never enlarge."""
    height, width = image.shape[:2]
    shorter = min(height, width)
    longest = round(shorter * MAX_ASPECT)
    top, left = max(0, height - longest) // 2, max(0, width - longest) // 2
    image = image[top : top + min(height, longest), left : left + min(width, longest)]
    ratio = SIDE_RATIO * max(preprocess.height, preprocess.width) / shorter
    if ratio >= 1:
        return np.ascontiguousarray(image)
    size = (max(1, round(image.shape[0] * ratio)), max(1, round(image.shape[1] * ratio)))
    return vision.resize(image, *size, "area", antialias=True)


def _png(pixels: Pixels) -> bytes:
    import cv2

    fine, data = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 9])
    if not fine:
        raise ShapeError("a golden image cannot be written as PNG")
    return bytes(data.tobytes())


def _fitting(golden: Golden) -> Golden:
    """With many thousand classes, fewer images: the document has a limit on every board."""
    while len(data := golden.to_bytes()) > MAX_DOCUMENT_BYTES:
        if len(golden.scores) <= LEAST_IMAGES:
            raise BundleTooLargeError("golden/expected.json", len(data), MAX_DOCUMENT_BYTES)
        golden = Golden(dict(list(golden.scores.items())[:-1]), golden.tolerances, golden.extra)
    return golden
