"""Pictures changed a little, differently each time: one affine map and one change of light. Seeded; no framework."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgekit.errors import UsageError, near_miss

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Augmentation:
    """What may change.

    Attributes:
        zoom: Least side of the part that is shown, as a share of the canvas.
        turn_deg: Largest rotation either way.
        mirror: Left and right may change places.
        any_way_up: Quarter turns and mirrors of every kind: for pictures without an up, as from above or a microscope.
        light: Largest change of brightness and contrast, as a share.
    """

    zoom: float = 0.7
    turn_deg: float = 8.0
    mirror: bool = True
    any_way_up: bool = False
    light: float = 0.2


AUGMENTATIONS: dict[str, Augmentation | None] = {
    "none": None,
    # Letters and signs change their meaning in a mirror.
    "no-mirror": Augmentation(mirror=False),
    "photo": Augmentation(),
    "any-way-up": Augmentation(any_way_up=True),
}


def find_augmentation(name: str) -> Augmentation | None:
    """An entry of AUGMENTATIONS.

    Raises:
        UsageError: There is none; the near miss is named.
    """
    if name not in AUGMENTATIONS:
        raise UsageError(f"--augment {name}: choose one of {', '.join(AUGMENTATIONS)}{near_miss(name, AUGMENTATIONS)}")
    return AUGMENTATIONS[name]


def augment(canvas: Pixels, size: tuple[int, int], how: Augmentation, rng: np.random.Generator) -> Pixels:
    """One changed picture.

    Args:
        canvas: uint8, shape (H, W, C).
        size: Height and width that the model reads, in pixels.
        how: What may change.
        rng: Draws; the same state gives the same picture.

    Returns:
        uint8, shape (*size, C).
    """
    import cv2

    height, width = size
    zoom, stretch = rng.uniform(how.zoom, 1.0), math.exp(rng.uniform(-0.1, 0.1))
    angle = math.radians(rng.uniform(-how.turn_deg, how.turn_deg))
    if how.any_way_up:
        angle += math.pi / 2 * int(rng.integers(4))
    mirror = -1.0 if (how.mirror or how.any_way_up) and rng.random() < 0.5 else 1.0
    shown = (canvas.shape[1] * min(1.0, zoom * stretch), canvas.shape[0] * min(1.0, zoom / stretch))
    middle = [
        canvas.shape[1 - axis] / 2 + rng.uniform(-0.5, 0.5) * (canvas.shape[1 - axis] - shown[axis]) for axis in (0, 1)
    ]
    # From a place in the result to its place on the canvas.
    across, down = shown[0] / width, shown[1] / height
    cos, sin = math.cos(angle), math.sin(angle)
    turn = np.array([[cos * across * mirror, -sin * down], [sin * across * mirror, cos * down]])
    shift = np.array(middle) - 0.5 - turn @ np.array([(width - 1) / 2, (height - 1) / 2])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    out = cv2.warpAffine(
        np.ascontiguousarray(canvas),
        np.hstack([turn, shift[:, None]]),
        (width, height),
        flags=flags,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    if how.light:
        gain, bias = 1 + rng.uniform(-how.light, how.light), 128 * rng.uniform(-how.light, how.light)
        levels = np.clip((np.arange(256) - 128.0) * gain + 128.0 + bias, 0, 255).round().astype(np.uint8)
        out = cv2.LUT(out, levels)
    result: Pixels = out.reshape(height, width, canvas.shape[2])
    return result
