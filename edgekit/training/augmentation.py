"""Pictures changed a little, differently each time: one affine map and one change of light. Seeded; no framework.

Each map blurs: pixels come to lie between those of the canvas. A model that is only shown such pictures learns a world
that is softer than a board's, and fine cracks are the first thing it no longer sees. So a share of the pictures keeps
its pixels, and is mirrored and turned by quarters alone.
"""

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
        stretch: Largest change of the sides' ratio, as a natural logarithm.
        sharp: Share of the pictures that keep their pixels.
    """

    zoom: float = 0.7
    turn_deg: float = 8.0
    mirror: bool = True
    any_way_up: bool = False
    light: float = 0.2
    stretch: float = 0.1
    sharp: float = 0.5


AUGMENTATIONS: dict[str, Augmentation | None] = {
    "none": None,
    # Letters and signs change their meaning in a mirror.
    "no-mirror": Augmentation(mirror=False),
    "photo": Augmentation(),
    "any-way-up": Augmentation(any_way_up=True),
    # Parts, cells, slides: seen from above and whole, and what matters may lie at the edge.
    "inspection": Augmentation(zoom=0.95, turn_deg=3.0, any_way_up=True, light=0.1, stretch=0.02, sharp=0.7),
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
    quarters = int(rng.integers(4)) if how.any_way_up else 0
    mirrored = bool((how.mirror or how.any_way_up) and rng.random() < 0.5)
    if rng.random() < how.sharp:
        found = _turned(_middle(canvas, size), quarters, mirrored)
    else:
        found = _warped(canvas, size, how, rng, quarters, mirrored)
    return _lit(found, how.light, rng)


def _middle(canvas: Pixels, size: tuple[int, int]) -> Pixels:
    top, left = (canvas.shape[0] - size[0]) // 2, (canvas.shape[1] - size[1]) // 2
    found: Pixels = canvas[top : top + size[0], left : left + size[1]]
    return found


def _turned(pixels: Pixels, quarters: int, mirrored: bool) -> Pixels:
    """Every pixel kept. A picture that is not square takes half turns only."""
    square = pixels.shape[0] == pixels.shape[1]
    turned = np.rot90(pixels, quarters if square else 2 * (quarters % 2))
    return turned[:, ::-1] if mirrored else turned


def _warped(
    canvas: Pixels, size: tuple[int, int], how: Augmentation, rng: np.random.Generator, quarters: int, mirrored: bool
) -> Pixels:
    import cv2

    height, width = size
    zoom, stretch = rng.uniform(how.zoom, 1.0), math.exp(rng.uniform(-how.stretch, how.stretch))
    angle = math.radians(rng.uniform(-how.turn_deg, how.turn_deg)) + math.pi / 2 * quarters
    mirror = -1.0 if mirrored else 1.0
    shown = (canvas.shape[1] * min(1.0, zoom * stretch), canvas.shape[0] * min(1.0, zoom / stretch))
    middle = [
        canvas.shape[1 - axis] / 2 + rng.uniform(-0.5, 0.5) * (canvas.shape[1 - axis] - shown[axis]) for axis in (0, 1)
    ]
    # From a place in the result to its place on the canvas.
    across, down = shown[0] / width, shown[1] / height
    cos, sin = math.cos(angle), math.sin(angle)
    turn = np.array([[cos * across * mirror, -sin * down], [sin * across * mirror, cos * down]])
    shift = np.array(middle) - 0.5 - turn @ np.array([(width - 1) / 2, (height - 1) / 2])
    out: Pixels = cv2.warpAffine(
        np.ascontiguousarray(canvas),
        np.hstack([turn, shift[:, None]]),
        (width, height),
        # Cubic blurs least; what is enlarged is hardly ever made smaller here, so nothing aliases.
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    return out.reshape(height, width, canvas.shape[2])


def _lit(pixels: Pixels, light: float, rng: np.random.Generator) -> Pixels:
    if not light:
        return np.ascontiguousarray(pixels)
    gain, bias = 1 + rng.uniform(-light, light), 128 * rng.uniform(-light, light)
    levels = np.clip((np.arange(256) - 128.0) * gain + 128.0 + bias, 0, 255).round().astype(np.uint8)
    found: Pixels = levels[pixels]
    return found
