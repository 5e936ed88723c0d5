"""What golden vectors cannot show: a model that has learnt nothing may carry golden vectors of nothing.

Run on a rung that reproduced its golden vectors, before a model serves that has not served here yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgekit_device import vision
from edgekit_device.contract.errors import NotAClassifierError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgekit_device.bundle import Bundle
    from edgekit_device.infer.rung import Rung
    from edgekit_device.vision import Pixels

_GRAIN = 8


def extremes(height: int, width: int) -> Iterator[tuple[str, Pixels]]:
    """Pictures that no model sees every day: black, white, a ramp, coarse and fine noise; RGB, uint8, (H, W, 3)."""
    draw = np.random.default_rng(0)
    yield "a black picture", np.zeros((height, width, 3), np.uint8)
    yield "a white picture", np.full((height, width, 3), 255, np.uint8)
    ramp = np.linspace(0, 255, width, dtype=np.uint8)
    yield "a ramp", np.ascontiguousarray(np.broadcast_to(ramp[None, :, None], (height, width, 3)))
    coarse = draw.integers(0, 256, (-(-height // _GRAIN), -(-width // _GRAIN), 3), np.uint8)
    yield "coarse noise", np.ascontiguousarray(coarse.repeat(_GRAIN, 0).repeat(_GRAIN, 1)[:height, :width])
    yield "noise", draw.integers(0, 256, (height, width, 3), np.uint8)


def check_classes(rung: Rung, bundle: Bundle) -> None:
    """Refuse a model that has another number of scores than labels.

    Raises:
        NotAClassifierError: It has.
    """
    count, labels = rung.engine.classes, bundle.manifest.classes
    if count != labels:
        raise NotAClassifierError(bundle.manifest.bundle_id, f"it has {count} scores for {labels} labels")


def check_sound(rung: Rung, bundle: Bundle) -> None:
    """Refuse a model whose scores do not fit its labels, are no numbers, or are the same whatever it sees.

    Args:
        rung: Open and proved.
        bundle: What it was opened from.

    Raises:
        NotAClassifierError: It is one of these.
    """
    name, engine, spec = bundle.manifest.bundle_id, rung.engine, rung.preprocess
    check_classes(rung, bundle)
    seen = [(n, vision.decode_image(bundle.files[n])) for n in bundle.manifest.golden_images[:2]]
    seen += extremes(spec.height, spec.width)
    found = [(what, engine.scores(vision.to_model_input(picture, spec))) for what, picture in seen]
    for what, scores in found:
        if not np.all(np.isfinite(scores)):
            raise NotAClassifierError(name, f"its scores for {what} are not finite")
    if len(found) > 1 and engine.classes > 1 and all(np.array_equal(found[0][1], scores) for _, scores in found[1:]):
        raise NotAClassifierError(name, "its scores are the same for every picture, black, white and noise alike")
