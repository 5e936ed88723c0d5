"""From a folder to lessons: pictures decoded, clusters found, roles drawn, augmentation tied to the seed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import DatasetError
from edgekit.learning import UNLABELLED, Lessons, Pixels, Places, balanced_weights
from edgekit.training import splitting
from edgekit.training.augmentation import augment, find_augmentation
from edgekit.training.cache import Cache
from edgekit.training.canvases import Canvases, make_canvases
from edgekit.training.folders import HELD_OUT, TRAIN, Gallery, Sample, captured_times, class_counts
from edgekit.training.grouping import clusters, name_groups, near_copies, thumbnails
from edgekit_device.contract.preprocess import Preprocess

Progress = Callable[[str, int, int], None]
_TEST = frozenset({"test", "testing"})


@dataclass(frozen=True)
class Course:
    """A data set made ready.

    Attributes:
        lessons: What the loop needs.
        samples: Every usable picture, in the order of the places.
        roles: What each is for.
        held_out: Places that are judged once, at the end.
        skipped: (name, reason) of pictures that are not used.
        canvases: Their pixels.
    """

    lessons: Lessons
    samples: tuple[Sample, ...]
    roles: tuple[str, ...]
    held_out: Places
    skipped: tuple[tuple[str, str], ...]
    canvases: Canvases

    def split_document(self, folder: Path) -> dict[str, Any]:
        """split.json: which picture is what."""
        listed = [
            {"file": sample.name, "label": sample.label, "sha256": sample.sha256, "role": role}
            for sample, role in zip(self.samples, self.roles, strict=True)
        ]
        return {"schema": 1, "data": str(folder.resolve()), "pictures": listed}


@dataclass(frozen=True)
class Wishes:
    """How a data set is to be divided and augmented.

    Attributes:
        shares: Shares of each class.
        augment: A key of AUGMENTATIONS.
        balanced: Every class counts the same.
        seed: Draws.
    """

    shares: splitting.Shares = field(default_factory=splitting.Shares)
    augment: str = "photo"
    balanced: bool = True
    seed: int = 0


def data_digest(gallery: Gallery) -> str:
    """Names the pictures, their classes and splits; not where they lie or what they are called."""
    lines = sorted(f"{s.sha256} {s.label} {s.split}" for s in gallery.samples)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def prepare(
    gallery: Gallery,
    spec: Preprocess,
    wishes: Wishes,
    cache: Cache,
    *,
    labels: tuple[str, ...] | None = None,
    earlier: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Course:
    """Make a data set ready.

    Args:
        gallery: What the folder holds.
        spec: The model's preprocessing, float input.
        wishes: How to divide and augment.
        cache: Where decoded pictures are kept.
        labels: The classes of a model that is there already; by default those of the gallery.
        earlier: SHA-256 -> role in an earlier run, which stands.
        progress: Called with (stage, done, total).

    Raises:
        DatasetError: Too little is left to learn from.
    """
    how = find_augmentation(wishes.augment)
    canvases = make_canvases(gallery.samples, spec, cache, progress=progress)
    usable = [at for at, problem in enumerate(canvases.problems) if not problem]
    broken = [(gallery.samples[at].name, why) for at, why in enumerate(canvases.problems) if why]
    samples = tuple(gallery.samples[at] for at in usable)
    _check_classes(gallery, samples, broken)
    if labels is None:
        labels = gallery.labels
    roles = _roles(gallery.folder, samples, canvases, usable, wishes, earlier)
    known = {label: index for index, label in enumerate(labels)}
    targets = np.array([known.get(s.label, UNLABELLED) if s.label else UNLABELLED for s in samples], np.int64)
    places = np.array(usable, np.int64)
    train = _having(roles, splitting.TRAIN)
    size, seed = (spec.height, spec.width), wishes.seed

    def exact(wanted: Places) -> Pixels:
        return canvases.views(places[wanted])

    def changed(wanted: Places, view: int) -> Pixels:
        if how is None:
            return exact(wanted)
        rows = [
            augment(canvases.pixels[places[at]], size, how, np.random.default_rng([seed, 3, view, int(at)]))
            for at in wanted
        ]
        return np.stack(rows)

    weights = balanced_weights(targets, train, len(labels)) if wishes.balanced else np.ones(len(samples), np.float32)
    key = f"{canvases.key}-{wishes.augment}-{seed}"
    lessons = Lessons(exact, changed, train, _having(roles, splitting.MONITOR), targets, weights, labels, spec, key)
    skipped = tuple(sorted((*gallery.skipped, *broken)))
    return Course(lessons, samples, tuple(roles), _having(roles, splitting.HELD_OUT), skipped, canvases)


def _having(roles: list[str], role: str) -> Places:
    return np.array([at for at, own in enumerate(roles) if own == role], np.int64)


def _check_classes(gallery: Gallery, samples: tuple[Sample, ...], broken: list[tuple[str, str]]) -> None:
    """A class whose every picture is broken must not vanish quietly."""
    counts = class_counts(samples)
    for label in gallery.labels:
        if not counts[label]:
            why = next((f"{name}: {why}" for name, why in broken if name.split("/")[-2:-1] == [label]), "")
            raise DatasetError(f"class '{label}'", f"has no usable picture ({why or broken[0][1]})", "copy them again")
    if not samples:
        raise DatasetError(str(gallery.folder), f"has no usable picture ({broken[0][1]})", "copy them again")


def _roles(
    folder: Path,
    samples: tuple[Sample, ...],
    canvases: Canvases,
    usable: list[int],
    wishes: Wishes,
    earlier: Mapping[str, str] | None,
) -> list[str]:
    names = [sample.name for sample in samples]
    times = {
        name: datetime.fromisoformat(canvases.times[at]).astimezone(UTC)
        for name, at in zip(names, usable, strict=True)
        if canvases.times[at]
    }
    captured = captured_times(folder)
    times |= {sample.name: captured[sample.sha256] for sample in samples if sample.sha256 in captured}
    groups = name_groups(names, times)
    groups += [list(pair) for pair in near_copies(thumbnails(canvases.view(at) for at in usable))]
    fixed: dict[int, str] | None = None
    if earlier is not None:
        fixed = {at: earlier.get(sample.sha256, splitting.TRAIN) for at, sample in enumerate(samples)}
    elif any(sample.split is not None for sample in samples):
        fixed = _split_folders(samples)
    shares = wishes.shares if earlier is None else replace(wishes.shares, held_out=0.0)
    return splitting.split(
        [sample.sha256 for sample in samples],
        [sample.label for sample in samples],
        clusters(len(samples), groups),
        shares,
        wishes.seed,
        fixed=fixed,
    )


def _split_folders(samples: tuple[Sample, ...]) -> dict[int, str] | None:
    """`test` is held out and `val` watched; with one of them alone, that one is held out."""
    found = {sample.split for sample in samples if sample.split is not None}
    watched = {name for name in found if name in HELD_OUT and name not in _TEST} if found & _TEST else set()
    held = {name for name in found if name in HELD_OUT} - watched
    if not found & TRAIN:
        raise DatasetError("data", f"is divided into {', '.join(sorted(found))}, without train", "add DATA/train/")
    if not held:
        return None
    return {
        at: splitting.HELD_OUT if s.split in held else splitting.MONITOR if s.split in watched else splitting.TRAIN
        for at, s in enumerate(samples)
    }
