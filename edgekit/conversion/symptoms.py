"""What is wrong with a folder of calibration photos: measured from the pixels, judged by what it costs.

On EfficientNet-Lite0 noise cost 15 points of top-1 and black images 82, while 8 or 400 photos made no difference:
so the first two are errors, and few photos are a note.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit_device import vision
from edgekit_device.vision import Pixels

ERROR, WARNING, NOTE = "error", "warning", "note"

# Standard deviation in levels under which an image shows nothing.
BLANK_LEVELS = 3.0
# Neighbouring pixels of photos correlate at 0.8 to 1.0, those of noise at 0; measured on calibration_data/.
LEAST_CORRELATION = 0.4
# Of 64 signs of a difference hash: copies and crops by 2 % differ in at most 9, different photos in 12 or more.
NEAR_BITS = 10
FEW = 16
ONE_CLASS = 0.9
# Levels that the darkest and the brightest hundredth of all pixels should reach.
DARK, BRIGHT = 25.0, 230.0

_COST = {
    "blank images": (ERROR, "black images cost 82 points of top-1 in our measurements"),
    "noise": (ERROR, "noise in place of photos cost 15 points of top-1"),
    "leakage": (ERROR, "a model must not be judged on the photos that chose its ranges"),
    "poor coverage": (WARNING, "ranges come out too narrow, and brighter or darker frames saturate"),
    "one class": (WARNING, "features that this class does not use get no range"),
    "near duplicates": (NOTE, "a copy adds time and no range"),
    "few photos": (NOTE, "8 or 400 photos made no difference of a point, but one odd photo weighs more among few"),
}
ORDER = tuple(_COST)


@dataclass(frozen=True)
class Look:
    """What was measured of one photo.

    Attributes:
        name: Path inside its folder.
        sha256: Of the file.
        group: Class folder; empty for a file at the top.
        deviation: Standard deviation of its pixels, in levels.
        correlation: Of horizontally neighbouring pixels.
        levels: Histogram of all channels, 256 counts as shares.
        signs: Difference hash, 64 bits.
    """

    name: str
    sha256: str
    group: str
    deviation: float
    correlation: float
    levels: npt.NDArray[np.float64]
    signs: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Symptom:
    """One thing that is wrong.

    Attributes:
        what: A key of the table above.
        severity: ``error``, ``warning`` or ``note``.
        detail: What was found, why it matters.
        remedy: What to do.
        photos: Which photos show it.
    """

    what: str
    severity: str
    detail: str
    remedy: str
    photos: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """One object of the report."""
        return {
            "what": self.what,
            "severity": self.severity,
            "detail": self.detail,
            "remedy": self.remedy,
            "photos": list(self.photos),
        }


def look_at(pixels: Pixels, name: str, sha256: str, group: str) -> Look:
    """Measure one photo.

    Args:
        pixels: RGB, uint8, shape (H, W, 3).
        name: Path inside its folder.
        sha256: Of the file.
        group: Class folder.
    """
    levels = np.bincount(pixels.ravel(), minlength=256) / pixels.size
    grey = pixels.mean(axis=2, dtype=np.float32)
    small = vision.resize(pixels, 8, 9, "area", antialias=True).mean(axis=2)
    return Look(
        name, sha256, group, float(grey.std()), _correlation(grey), levels, (small[:, 1:] > small[:, :-1]).ravel()
    )


def find_symptoms(looks: Sequence[Look], against: Sequence[Look] = ()) -> list[Symptom]:
    """Everything that is wrong, what costs most first.

    Args:
        looks: The calibration photos.
        against: The photos that the model will be judged on.
    """
    found = [
        _blank(looks),
        _noise(looks),
        _leakage(looks, against),
        _coverage(looks),
        _one_class(looks),
        _copies(looks),
        _few(looks),
    ]
    return [symptom for symptom in found if symptom]


def _symptom(what: str, detail: str, remedy: str, photos: Iterable[str] = ()) -> Symptom:
    severity, why = _COST[what]
    return Symptom(what, severity, f"{detail}; {why}", remedy, tuple(photos))


def _blank(looks: Sequence[Look]) -> Symptom | None:
    names = [look.name for look in looks if look.deviation < BLANK_LEVELS]
    if not names:
        return None
    return _symptom("blank images", f"{len(names)} of {len(looks)} show one colour", "take them out", names)


def _noise(looks: Sequence[Look]) -> Symptom | None:
    noisy = [look for look in looks if look.deviation >= BLANK_LEVELS and look.correlation < LEAST_CORRELATION]
    if not noisy:
        return None
    detail = f"{len(noisy)} of {len(looks)} have neighbours that do not resemble each other"
    return _symptom("noise", detail, "use photos of what the camera will see", [look.name for look in noisy])


def _leakage(looks: Sequence[Look], against: Sequence[Look]) -> Symptom | None:
    if not against:
        return None
    table = np.stack([look.signs for look in against])
    known = {look.sha256 for look in against}
    # A blank photo has no features to recognise: the hash of any two is equal.
    names = [
        look.name
        for look in looks
        if look.sha256 in known
        or (look.deviation >= BLANK_LEVELS and int((table != look.signs).sum(axis=1).min()) <= NEAR_BITS)
    ]
    if not names:
        return None
    detail = f"{len(names)} of {len(looks)} are among the photos to judge by, or look like one of them"
    return _symptom("leakage", detail, "take them out of one of the two folders", names)


def _coverage(looks: Sequence[Look]) -> Symptom | None:
    seen = [look for look in looks if look.deviation >= BLANK_LEVELS]
    if not seen:
        return None
    share = np.cumsum(np.mean([look.levels for look in seen], axis=0))
    low, high = int(np.searchsorted(share, 0.01)), int(np.searchsorted(share, 0.99))
    if low <= DARK and high >= BRIGHT:
        return None
    detail = f"98 % of all pixels lie between {low} and {high} of 255"
    return _symptom("poor coverage", detail, "add photos of a bright day, of shade and of night")


def _one_class(looks: Sequence[Look]) -> Symptom | None:
    counts = Counter(look.group for look in looks)
    name, most = counts.most_common(1)[0] if counts else ("", 0)
    # Photos that lie side by side say nothing about classes.
    if not name or most < ONE_CLASS * len(looks) or len(looks) < 2:
        return None
    return _symptom("one class", f"{most} of {len(looks)} are of '{name}'", "add photos of the other classes")


def _copies(looks: Sequence[Look]) -> Symptom | None:
    shown = [look for look in looks if look.deviation >= BLANK_LEVELS]
    names = []
    for place, look in enumerate(shown[1:], 1):
        table = np.stack([other.signs for other in shown[:place]])
        if int((table != look.signs).sum(axis=1).min()) <= NEAR_BITS:
            names.append(look.name)
    if not names:
        return None
    detail = f"{len(names)} of {len(looks)} look like another one"
    return _symptom("near duplicates", detail, "take one photo of each scene", names)


def _few(looks: Sequence[Look]) -> Symptom | None:
    if len(looks) >= FEW:
        return None
    return _symptom("few photos", f"{len(looks)} photos", f"{FEW} or more of different scenes are better")


def _correlation(grey: npt.NDArray[np.float32]) -> float:
    """Of neighbours in a row; 1 for an image too narrow or too plain to tell."""
    first, second = grey[:, :-1].ravel(), grey[:, 1:].ravel()
    if first.size < 2 or first.std() == 0 or second.std() == 0:
        return 1.0
    return float(np.corrcoef(first, second)[0, 1])
