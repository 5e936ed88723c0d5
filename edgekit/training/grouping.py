"""Pictures that belong together: bursts, frames of one video, copies, and pictures that are nearly the same.

One of a burst in training and another held out would make the held-out score a lie. What is told apart is told by
names, by the times in them or in EXIF, and by the pictures themselves. Times of files say nothing: copying
changes them.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

BURST_GAP_S = 10.0
# A camera that pictures one thing all day makes one long chain: it is cut at its widest gaps into this many.
LEAST_PARTS = 5
# Of standardised 16 x 16 grey thumbnails. Re-encoded and slightly cropped copies stay above, other photos below.
SAME = 0.995
THUMB = 16
_FLAT_LEVELS = 2.0  # A picture with less contrast than this says nothing about likeness.

_TIME = re.compile(r"(20\d\d)-?([01]\d)-?([0-3]\d)[T_\- ]?([0-2]\d)[-:h]?([0-5]\d)[-:m]?([0-5]\d)", re.ASCII)
# What is told by a name to be a part of something: a frame, a burst, an augmented export, a copy.
_PARTS = (
    re.compile(r"(.+?)\.rf\.[0-9a-f]{16,}$", re.IGNORECASE),
    re.compile(r"(.+?)[ _-]*(?:frame|burst|clip|scene)[ _-]*\d+(?:_cover)?$", re.IGNORECASE),
    re.compile(r"(.+?)(?: \(\d+\)| ?[-_]? ?copy(?: ?\d+)?)$", re.IGNORECASE),
)

Thumbs = npt.NDArray[np.float32]


def time_in_name(stem: str) -> tuple[str, datetime] | None:
    """(the camera: what the name says besides; the time) of ``IMG_20240512_101530`` and the like."""
    found = _TIME.search(stem)
    if not found:
        return None
    try:
        at = datetime(*(int(part) for part in found.groups()), tzinfo=UTC)  # type: ignore[misc,arg-type]
    except ValueError:
        return None
    rest = re.sub(r"\d+", "#", stem[found.end() :])
    return f"{stem[: found.start()]}*{rest}", at


def source_in_name(stem: str) -> str | None:
    """The video, burst or original that a name says it is a part of."""
    for pattern in _PARTS:
        found = pattern.match(stem)
        if found and found[1].strip(" _-"):
            return found[1]
    return None


def name_groups(names: Sequence[str], exif_times: Mapping[str, datetime] | None = None) -> list[list[int]]:
    """Places of pictures that names or times put together.

    Args:
        names: Paths inside the data set; only pictures of one folder are put together.
        exif_times: name -> time of exposure, where the file states one.
    """
    by_source: dict[tuple[str, str], list[int]] = defaultdict(list)
    by_camera: dict[tuple[str, str], list[tuple[datetime, int]]] = defaultdict(list)
    sizes: dict[str, int] = defaultdict(int)
    for at, name in enumerate(names):
        folder, stem = str(Path(name).parent), Path(name).stem
        sizes[folder] += 1
        source = source_in_name(stem)
        if source is not None:
            by_source[folder, source].append(at)
        timed = time_in_name(stem)
        if timed is None and exif_times and name in exif_times:
            timed = re.sub(r"\d+", "#", stem), exif_times[name]
        if timed:
            by_camera[folder, timed[0]].append((timed[1], at))
    groups = list(by_source.values())
    for (folder, _), shots in by_camera.items():
        groups += _bursts(sorted(shots), max(1, sizes[folder] // LEAST_PARTS))
    return [group for group in groups if len(group) > 1]


def _bursts(shots: Sequence[tuple[datetime, int]], longest: int) -> list[list[int]]:
    chains: list[list[tuple[datetime, int]]] = []
    for shot in shots:
        if chains and shot[0] - chains[-1][-1][0] <= timedelta(seconds=BURST_GAP_S):
            chains[-1].append(shot)
        else:
            chains.append([shot])
    parts: list[list[tuple[datetime, int]]] = []
    while chains:
        chain = chains.pop()
        if len(chain) <= max(2, longest):
            parts.append(chain)
            continue
        # The widest gap nearest to the middle: neighbours in time stay together.
        middle = len(chain) / 2
        gaps = [((chain[i][0] - chain[i - 1][0]), -abs(i - middle), i) for i in range(1, len(chain))]
        cut = max(gaps)[2]
        chains += [chain[:cut], chain[cut:]]
    return [[at for _, at in part] for part in parts]


def thumbnails(pixels: Iterable[npt.NDArray[np.uint8]]) -> Thumbs:
    """Standardised grey thumbnails, shape (n, THUMB * THUMB); all zero for a picture without contrast."""
    import cv2

    rows = []
    for image in pixels:
        grey = image if image.ndim == 2 else image.mean(axis=2)
        small = cv2.resize(grey.astype(np.float32), (THUMB, THUMB), interpolation=cv2.INTER_AREA).ravel()
        small -= small.mean()
        spread = float(small.std())
        rows.append(small / (spread * np.sqrt(small.size)) if spread > _FLAT_LEVELS else np.zeros_like(small))
    return np.array(rows, np.float32).reshape(len(rows), THUMB * THUMB)


def near_copies(thumbs: Thumbs, *, same: float = SAME) -> list[tuple[int, int]]:
    """Pairs of pictures that are nearly the same; work grows with the square of their number."""
    pairs: list[tuple[int, int]] = []
    block = 1024
    for start in range(0, len(thumbs), block):
        likeness = thumbs[start : start + block] @ thumbs[start:].T
        rows, columns = np.nonzero(likeness > same)
        pairs += [(start + int(r), start + int(c)) for r, c in zip(rows, columns, strict=True) if c > r]
    return pairs


def clusters(count: int, groups: Iterable[Sequence[int]]) -> list[int]:
    """For each of `count` pictures the smallest place of the pictures that it belongs together with."""
    parent = list(range(count))

    def root(at: int) -> int:
        while parent[at] != at:
            parent[at] = parent[parent[at]]
            at = parent[at]
        return at

    for group in groups:
        for other in group[1:]:
            one, two = root(group[0]), root(other)
            parent[max(one, two)] = min(one, two)
    return [root(at) for at in range(count)]


def exif_time(data: bytes) -> datetime | None:
    """When the shutter opened, as a JPEG's EXIF states it; no library needed for one field.

    Cameras write ``2024:05:12 10:15:30`` as plain text in the first segment; the first such text is DateTime or
    DateTimeOriginal, and both serve.
    """
    head: Any = data[:65536]
    if b"Exif\0\0" not in head:
        return None
    found = re.search(rb"(20\d\d):([01]\d):([0-3]\d) ([0-2]\d):([0-5]\d):([0-5]\d)\0", head)
    if not found:
        return None
    try:
        return datetime(*(int(part) for part in found.groups()), tzinfo=UTC)  # type: ignore[misc,arg-type]
    except ValueError:
        return None
