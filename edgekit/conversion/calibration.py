"""Photos to calibrate on: every readable image of a folder, and crops drawn from them by seed.

The same photos and seed give the same crops, whatever the files are called and in whatever order they are listed;
only folders count: of many photos each class folder gives its share.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from edgekit.errors import CalibrationError
from edgekit_device import vision
from edgekit_device.contract.errors import ShapeError
from edgekit_device.contract.preprocess import Preprocess
from edgekit_device.image_headers import SUFFIXES, read_image_file
from edgekit_device.vision import Pixels

MIN_IMAGES = 8
# 8 to 400 photos gave the same agreement on 1,000 held-out photos (97.9 to 98.3 %): more only costs time.
MAX_IMAGES = 1000
CROPS_PER_IMAGE = 6
MAX_CROPS = 128
# What training draws (Inception's random resized crop), less the smallest areas: a board sees whole scenes.
AREA = (0.35, 1.0)
ASPECT = (3 / 4, 4 / 3)

Progress = Callable[[str, int, int], None]
_T = TypeVar("_T")


@dataclass(frozen=True)
class Photo:
    """One usable image file.

    Attributes:
        path: Where it lies.
        sha256: Of the file's bytes, in hex: its identity, and the cluster its crops belong to.
        height: In pixels, upright.
        width: In pixels, upright.
        group: The first folder of its path inside the one that was searched: its class, if folders are classes.
    """

    path: Path
    sha256: str
    height: int
    width: int
    group: str = ""

    def pixels(self) -> Pixels:
        """Decode it: RGB, uint8, shape (height, width, 3).

        Raises:
            CalibrationError: The file changed since it was found.
        """
        data = read_image_file(self.path)
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise CalibrationError(str(self.path), "changed while it was in use", "start again")
        return vision.decode_image(data)


@dataclass(frozen=True)
class Photos:
    """What a folder holds.

    Attributes:
        folder: Where it was looked for.
        images: Usable images, sorted by SHA-256.
        skipped: (path inside the folder, reason) of each image file that was left out.
        not_drawn: How many image files were not looked at because there are more than MAX_IMAGES.
    """

    folder: Path
    images: tuple[Photo, ...]
    skipped: tuple[tuple[str, str], ...]
    not_drawn: int = 0


@dataclass(frozen=True)
class Crop:
    """One crop at the model's size.

    Attributes:
        photo: SHA-256 of the photo it was cut from.
        pixels: uint8, shape (height, width, channels), in the model's colour order.
    """

    photo: str
    pixels: Pixels


def load_images(folder: Path, *, progress: Progress | None = None, least: int = MIN_IMAGES) -> Photos:
    """Find the usable images under a folder; each is decoded once, so that what is broken is known now.

    Args:
        folder: Searched with its sub-folders; hidden files and files without an image's suffix are passed over.
        progress: Called with ("read", done, total).
        least: How many usable images are enough.

    Raises:
        CalibrationError: No such folder, or fewer than `least` usable images.
    """
    if not folder.is_dir():
        raise CalibrationError(str(folder), "is not a folder", "name a folder of photos with --calibration DIR")
    names = _image_names(folder)
    chosen = _in_turn(names, _group, _digest)[:MAX_IMAGES]
    found: dict[str, Photo] = {}
    skipped: list[tuple[str, str]] = []
    for done, name in enumerate(sorted(chosen), 1):
        try:
            photo = replace(_read_photo(folder / name), group=_group(name))
        except (ShapeError, OSError) as cause:
            skipped.append((name, _reason(cause)))
        else:
            twin = found.setdefault(photo.sha256, photo)
            if twin is not photo:
                skipped.append((name, f"the same bytes as {twin.path.relative_to(folder)}"))
        if progress:
            progress("read", done, len(chosen))
    if len(found) < least:
        raise CalibrationError(
            str(folder), _shortage(len(found), least, skipped), "add photos of what the camera will see"
        )
    images = tuple(found[key] for key in sorted(found))
    return Photos(folder, images, tuple(skipped), len(names) - len(chosen))


def draw_crops(
    photos: Sequence[Photo],
    preprocess: Preprocess,
    *,
    seed: int = 0,
    per_image: int = CROPS_PER_IMAGE,
    limit: int = MAX_CROPS,
    progress: Progress | None = None,
) -> tuple[Crop, ...]:
    """Cut crops from photos: first the one that a board would see, then random ones.

    With more photos than `limit`, the seed decides which are used, class folders taking turns; every photo that is
    used gives its first crop before any gives another.

    Args:
        photos: Usable images.
        preprocess: The model's preprocessing; only geometry and colour matter here.
        seed: Draws other crops of the same photos.
        per_image: Crops of one photo, at most.
        limit: Crops in all, at most.
        progress: Called with ("crop", done, total).

    Returns:
        Sorted by photo, then in the order drawn.
    """
    order = _in_turn(photos, lambda photo: photo.group, lambda photo: _digest(f"{seed}:{photo.sha256}"))
    total = min(limit, per_image * len(order))
    counts = [total // len(order) + (rank < total % len(order)) for rank in range(len(order))] if order else []
    crops: list[Crop] = []
    for photo, count in sorted(zip(order, counts, strict=True), key=lambda pair: pair[0].sha256):
        if not count:
            continue
        pixels = photo.pixels()
        rng = np.random.default_rng(int(_digest(f"{seed}:{photo.sha256}"), 16))
        crops.append(Crop(photo.sha256, center_crop(pixels, preprocess)))
        crops += [Crop(photo.sha256, random_crop(pixels, preprocess, rng)) for _ in range(count - 1)]
        if progress:
            progress("crop", len(crops), total)
    return tuple(crops)


def center_crop(pixels: Pixels, preprocess: Preprocess) -> Pixels:
    """What a board makes of this frame, just before normalisation.

    Args:
        pixels: RGB, uint8, shape (H, W, 3).
        preprocess: The model's preprocessing.

    Returns:
        uint8, shape (preprocess.height, preprocess.width, preprocess.channels).
    """
    crop: Pixels = vision.to_model_input(pixels, _pixels_only(preprocess))[0]
    return crop


def random_crop(pixels: Pixels, preprocess: Preprocess, rng: np.random.Generator) -> Pixels:
    """A random resized crop, mirrored half of the time; arguments and result as in `center_crop`."""
    height, width = pixels.shape[:2]
    target = preprocess.width / preprocess.height
    for _ in range(10):
        area = height * width * rng.uniform(*AREA)
        aspect = target * math.exp(rng.uniform(math.log(ASPECT[0]), math.log(ASPECT[1])))
        tall, wide = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < tall <= height and 0 < wide <= width:
            break
    else:
        # A panorama: no such box fits, so the largest of the model's own shape is taken.
        tall = max(1, min(height, round(width / target)))
        wide = max(1, min(width, round(height * target)))
    top, left = int(rng.integers(height - tall + 1)), int(rng.integers(width - wide + 1))
    view = pixels[top : top + tall, left : left + wide]
    if rng.random() < 0.5:
        view = view[:, ::-1]
    whole = replace(_pixels_only(preprocess), crop="squash")
    crop: Pixels = vision.to_model_input(np.ascontiguousarray(view), whole)[0]
    return crop


def _pixels_only(preprocess: Preprocess) -> Preprocess:
    """The same geometry and colour, with the pixel itself as the value."""
    channels = preprocess.channels
    return replace(preprocess, mean=(0.0,) * channels, std=(1.0,) * channels, dtype="uint8", scale=1.0, zero_point=0)


def _in_turn(items: Iterable[_T], group: Callable[[_T], str], rank: Callable[[_T], str]) -> list[_T]:
    """By rank within each group, and then one of each group after the other."""
    seen: Counter[str] = Counter()
    placed = []
    for item in sorted(items, key=rank):
        placed.append((seen[group(item)], rank(item), item))
        seen[group(item)] += 1
    return [item for _, _, item in sorted(placed, key=lambda entry: entry[:2])]


def _group(name: str) -> str:
    parts = Path(name).parts
    return parts[0] if len(parts) > 1 else ""


def _image_names(folder: Path) -> list[str]:
    """Paths inside the folder; links to folders are not followed."""
    names = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        names += [
            str((Path(parent) / name).relative_to(folder))
            for name in files
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES
        ]
    return names


def _read_photo(path: Path) -> Photo:
    data = read_image_file(path)
    height, width, _ = vision.decode_image(data).shape
    return Photo(path, hashlib.sha256(data).hexdigest(), height, width)


def _reason(cause: Exception) -> str:
    return (cause.strerror or type(cause).__name__) if isinstance(cause, OSError) else str(cause)


def _shortage(found: int, least: int, skipped: Sequence[tuple[str, str]]) -> str:
    text = f"holds {found} usable image{'' if found == 1 else 's'}, and {least} are needed"
    if not skipped:
        return text
    named = ", ".join(f"{name} ({reason})" for name, reason in skipped[:3])
    return f"{text}; {len(skipped)} skipped: {named}{' ...' if len(skipped) > 3 else ''}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", errors="surrogateescape")).hexdigest()
