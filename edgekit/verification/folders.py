"""A labelled image folder: DATA/<class>/*.jpg, and which class of the model each folder is. Nothing is guessed."""

from __future__ import annotations

import difflib
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.errors import DatasetError
from edgekit_device.image_headers import SUFFIXES

SPLITS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing", "dev"})
BACKGROUND = "background"
_WNID = re.compile(r"n\d{8}")
_NUMBER = re.compile(r"\d{1,6}", re.ASCII)


@dataclass(frozen=True)
class LabelledImages:
    """Every file of a data set that promises to be an image.

    Attributes:
        folder: Where the classes lie.
        files: (path, class index), sorted by path.
        named_by: ``label``, ``wnid`` or ``index``: what the folders were matched with.
        passed_over: Files without an image's suffix, and folders inside a class; hidden ones do not count.
    """

    folder: Path
    files: tuple[tuple[Path, int], ...]
    named_by: str
    passed_over: int


def find_images(data: Path, labels: Sequence[str], wnids: Sequence[str], *, split: str | None = None) -> LabelledImages:
    """List a data set.

    Args:
        data: ``DATA/<class>/``, or ``DATA/<split>/<class>/`` with `split`.
        labels: One per class of the model.
        wnids: WordNet ids of ImageNet's 1000 classes in their order.
        split: Which one, e.g. ``val``.

    Raises:
        DatasetError: No such folder, no image in it, or a folder that no class is called by.
    """
    folder = _class_root(data, split)
    names = _folders(folder)
    if not names:
        raise DatasetError(str(folder), "holds no class folders", "put images in DATA/<class>/, one folder a class")
    if split is None and {name.lower() for name in names} <= SPLITS and not set(names) & set(labels):
        raise DatasetError(str(folder), f"is divided into {', '.join(names)}", f"choose one: --split {names[-1]}")
    classes, named_by = match_classes(names, labels, wnids, str(folder))
    files: list[tuple[Path, int]] = []
    passed_over = 0
    for name in names:
        with os.scandir(folder / name) as entries:
            shown = [entry for entry in entries if not entry.name.startswith(".")]
        images = [e for e in shown if Path(e.name).suffix.lower() in SUFFIXES and not _is_folder(e)]
        files += [(Path(entry.path), classes[name]) for entry in images]
        passed_over += len(shown) - len(images)
    if not files:
        raise DatasetError(str(folder), "holds no images", f"known suffixes: {', '.join(sorted(SUFFIXES))}")
    return LabelledImages(folder, tuple(sorted(files)), named_by, passed_over)


def match_classes(
    names: Sequence[str], labels: Sequence[str], wnids: Sequence[str], where: str = "data"
) -> tuple[dict[str, int], str]:
    """Which class each folder is: by exact label, by WordNet id, or by 0-based index.

    An index counts only if every folder is an integer and no label is one. A WordNet id counts for a model of
    ImageNet's 1000 classes, or of 1001 with a background class in front.

    Returns:
        (folder -> class index, ``label`` | ``wnid`` | ``index``).

    Raises:
        DatasetError: A folder is none of these; the nearest label is named.
    """
    places = _places(labels)
    if all(name in places for name in names):
        return {name: places[name] for name in names}, "label"
    first = 1 if len(labels) == len(wnids) + 1 and labels[0].lower() == BACKGROUND else 0
    if len(labels) - first == len(wnids):
        ids = {wnid: index for index, wnid in enumerate(wnids, first)}
        if all(name in ids for name in names):
            return {name: ids[name] for name in names}, "wnid"
    if all(_NUMBER.fullmatch(name) for name in names) and not any(_NUMBER.fullmatch(label) for label in labels):
        return _by_index(names, len(labels), where), "index"
    raise _unknown(names, places, labels, wnids, where)


def _places(labels: Sequence[str]) -> dict[str, int]:
    counts = Counter(labels)
    return {label: index for index, label in enumerate(labels) if counts[label] == 1}


def _by_index(names: Sequence[str], classes: int, where: str) -> dict[str, int]:
    found = {name: int(name) for name in names}
    outside = [name for name, index in found.items() if index >= classes]
    if outside:
        raise DatasetError(
            where, f"folder '{outside[0]}' is past the model's {classes} classes", "indices count from 0"
        )
    twice = [index for index, count in Counter(found.values()).items() if count > 1]
    if twice:
        raise DatasetError(where, f"two folders are class {twice[0]}", "name each class once")
    return found


def _unknown(
    names: Sequence[str], places: Mapping[str, int], labels: Sequence[str], wnids: Sequence[str], where: str
) -> DatasetError:
    strange = [name for name in names if name not in places]
    shown = strange[0]
    more = f" (and {len(strange) - 1} more)" if len(strange) > 1 else ""
    twins = [f"{index}" for index, label in enumerate(labels) if label == shown]
    if twins:
        return DatasetError(
            where, f"folder '{shown}' is a label of classes {' and '.join(twins)}", "give every class its own label"
        )
    if _WNID.fullmatch(shown):
        why = f"is a WordNet id, and the model has {len(labels)} classes instead of ImageNet's {len(wnids)}"
        return DatasetError(where, f"folder '{shown}' {why}", "name folders by the model's labels, or pass --labels")
    # The spelling of a label is not bent quietly: tabby_cat and tabby cat may be two classes.
    plain = {_plain(label): label for label in places}
    close = [plain[_plain(shown)]] if _plain(shown) in plain else []
    close = close or difflib.get_close_matches(shown, list(places), n=1, cutoff=0.6)
    hint = f"; did you mean '{close[0]}'?" if close else f" (labels: {', '.join(list(labels)[:3])}, ...)"
    return DatasetError(
        where,
        f"no class is called '{shown}'{more}{hint}",
        "name folders by label, by WordNet id or by 0-based index, or pass the right --labels",
    )


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", " ", name).strip().casefold()


def _class_root(data: Path, split: str | None) -> Path:
    if not data.is_dir():
        raise DatasetError(str(data), "is not a folder", "name a folder of class folders")
    if split is None:
        return data
    if split not in _folders(data):
        known = ", ".join(_folders(data)[:5]) or "none"
        raise DatasetError(str(data), f"has no split '{split}' (folders: {known})", "name one of them with --split")
    return data / split


def _folders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if not entry.name.startswith(".") and _is_folder(entry))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # Links in a circle.
        return False
