"""A folder of photos to learn from: DATA/<class>/*.jpg or DATA/<split>/<class>/*.jpg, each file hashed once."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from edgekit.errors import DatasetError
from edgekit_device.contract.errors import ShapeError
from edgekit_device.image_headers import SUFFIXES, read_image_file

TRAIN = frozenset({"train", "training"})
HELD_OUT = ("val", "valid", "validation", "dev", "test", "testing")
CAPTURE_MANIFEST = "manifest.jsonl"
SPLITS = TRAIN | set(HELD_OUT)

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Sample:
    """One picture file.

    Attributes:
        path: Where it lies.
        name: Its path inside the data set, with slashes.
        label: Its class; None for a picture that lies in no class folder.
        split: The split folder it lies in; None without such folders.
        sha256: Of the file's bytes, in hex.
    """

    path: Path
    name: str
    label: str | None
    split: str | None
    sha256: str


@dataclass(frozen=True)
class Gallery:
    """What a data set holds.

    Attributes:
        folder: The data set.
        samples: Pictures, by name; the same bytes come once.
        labels: Classes, by alphabet.
        skipped: (name, reason) of each picture that is not used.
    """

    folder: Path
    samples: tuple[Sample, ...]
    labels: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]


def read_gallery(folder: Path, *, labelled: bool = True, progress: Progress | None = None) -> Gallery:
    """List a data set.

    Pictures of the same bytes count once; the same bytes in two classes cannot both be right, and neither is used. The
    same bytes in two splits stay held out.

    Args:
        folder: The data set.
        labelled: Refuse pictures that lie in no class; else they are taken without a label.
        progress: Called with ("read", done, total).

    Raises:
        DatasetError: No such folder, no pictures, or fewer than two classes.
    """
    if not folder.is_dir():
        raise DatasetError(str(folder), "is not a folder", "name a folder of class folders")
    listed = sorted(_walk(folder), key=lambda entry: entry[1])
    if not listed:
        known = ", ".join(sorted(SUFFIXES))
        raise DatasetError(str(folder), "holds no pictures", f"put them in DATA/<class>/; known suffixes: {known}")
    samples, skipped = _read(listed, progress)
    if labelled:
        loose = [sample for sample in samples if sample.label is None]
        skipped += [(sample.name, "lies in no class folder") for sample in loose]
        samples = [sample for sample in samples if sample.label is not None]
    samples, copies = _once(samples)
    labels = tuple(sorted({sample.label for sample in samples if sample.label is not None}))
    if labelled and len(labels) < 2:
        raise _too_few(folder, labels, skipped)
    return Gallery(folder, tuple(samples), labels, tuple(sorted(skipped + copies)))


def _too_few(folder: Path, labels: Sequence[str], skipped: Sequence[tuple[str, str]]) -> DatasetError:
    found = f"only the class '{labels[0]}'" if labels else "no class with a usable picture"
    named = f" ({len(skipped)} skipped: {skipped[0][0]} {skipped[0][1]})" if skipped else ""
    remedy = "a classifier needs two: DATA/<class>/*.jpg, one folder a class; add one of what it is not, e.g. 'other'"
    return DatasetError(str(folder), f"holds {found}{named}", remedy)


def captured_times(folder: Path) -> dict[str, datetime]:
    """SHA-256 -> time of each picture that `edgekit-device capture` made: its manifest.jsonl says when.

    Pictures may have been sorted into other folders since; a manifest that cannot be read says nothing.
    """
    found: dict[str, datetime] = {}
    for path in sorted(folder.rglob(CAPTURE_MANIFEST)):
        with suppress(OSError, UnicodeDecodeError):
            for line in path.read_text("utf-8").splitlines():
                with suppress(ValueError, KeyError, TypeError, AttributeError):
                    entry = json.loads(line)
                    found[str(entry["sha256"])] = datetime.fromisoformat(entry["at"]).astimezone(UTC)
    return found


def _walk(folder: Path) -> Iterable[tuple[Path, str, str | None, str | None]]:
    """(path, name, label, split); a class may have folders of its own."""
    top = _folders(folder)
    divided = bool(top) and {name.lower() for name in top} <= SPLITS and any(_folders(folder / name) for name in top)
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        parts = Path(parent).relative_to(folder).parts
        split = parts[0].lower() if divided and parts else None
        inner = parts[1:] if divided else parts
        for name in files:
            if name.startswith(".") or Path(name).suffix.lower() not in SUFFIXES:
                continue
            yield Path(parent) / name, "/".join((*parts, name)), inner[0] if inner else None, split


def _folders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]


def _read(
    listed: Sequence[tuple[Path, str, str | None, str | None]], progress: Progress | None
) -> tuple[list[Sample], list[tuple[str, str]]]:
    samples, skipped = [], []
    with ThreadPoolExecutor(max_workers=4) as pool:
        for done, (entry, found) in enumerate(zip(listed, pool.map(_digest, listed), strict=True), 1):
            digest, problem = found
            if problem:
                skipped.append((entry[1], problem))
            else:
                samples.append(Sample(*entry, digest))
            if progress:
                progress("read", done, len(listed))
    return samples, skipped


def _digest(entry: tuple[Path, str, str | None, str | None]) -> tuple[str, str]:
    try:
        return hashlib.sha256(read_image_file(entry[0])).hexdigest(), ""
    except (OSError, ShapeError) as cause:
        return "", (getattr(cause, "strerror", None) or str(cause))


def _once(samples: Sequence[Sample]) -> tuple[list[Sample], list[tuple[str, str]]]:
    places: dict[str, list[Sample]] = {}
    for sample in samples:
        places.setdefault(sample.sha256, []).append(sample)
    kept, skipped = [], []
    for same in places.values():
        first, *copies = sorted(same, key=lambda s: (s.split in TRAIN, s.name))
        if len({sample.label for sample in same}) > 1:
            pairs = zip([first, *copies], [*copies, first], strict=True)
            skipped += [(one.name, f"the same bytes as {twin.name}, in another class") for one, twin in pairs]
            continue
        kept.append(first)
        skipped += [(copy.name, f"the same bytes as {first.name}") for copy in copies]
    return sorted(kept, key=lambda sample: sample.name), skipped


def class_counts(samples: Iterable[Sample]) -> Counter[str]:
    """Pictures a class; those without a label are not counted."""
    return Counter(sample.label for sample in samples if sample.label is not None)
