"""Folders of small pictures to learn from: scikit-learn's digits, and crops of the photos that ship."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

PHOTOS = Path(__file__).parents[2] / "calibration_data"


def digits_folder(root: Path, per_class: int, *, side: int = 28) -> Path:
    """Grey PNG files, side x side pixels, root/<digit>/NNNN.png."""
    from sklearn.datasets import load_digits

    found = load_digits()
    for digit in range(10):
        home = root / str(digit)
        home.mkdir(parents=True, exist_ok=True)
        for at in np.flatnonzero(found.target == digit)[:per_class]:
            grey = cv2.resize((found.images[at] * 15.9).astype(np.uint8), (side, side), interpolation=cv2.INTER_LINEAR)
            cv2.imwrite(str(home / f"{at:04}.png"), grey)
    return root


def crops_folder(root: Path, classes: int, per_class: int, *, side: int = 32, seed: int = 0) -> Path:
    """Colour PNG files: crops of one photo are one class."""
    rng = np.random.default_rng(seed)
    for path in sorted(PHOTOS.glob("*.jpg"))[:classes]:
        photo = cv2.imread(str(path))
        home = root / path.stem
        home.mkdir(parents=True, exist_ok=True)
        for at in range(per_class):
            wide = int(min(photo.shape[:2]) * rng.uniform(0.4, 0.7))
            top, left = (int(rng.integers(end - wide + 1)) for end in photo.shape[:2])
            crop = cv2.resize(photo[top : top + wide, left : left + wide], (side, side), interpolation=cv2.INTER_AREA)
            cv2.imwrite(str(home / f"{at:03}.png"), crop)
    return root
