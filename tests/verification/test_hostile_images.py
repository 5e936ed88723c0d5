"""Gate D5: an image that attacks a decoder costs at most two seconds and 256 MB, and is refused by name."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import edgekit
from edgekit.conversion.calibration import load_images
from tests.conftest import require
from tests.worlds.hostile_images import HOSTILE, PROBE, USABLE, make_all
from tests.worlds.shapes import INT8, LABELS_FILE, write_preprocess, write_shapes

LIMIT_S, LIMIT_BYTES = 2.0, 256_000_000
PHOTOS = Path(__file__).parents[2] / "calibration_data"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require("PIL", "pip install pillow")
    folder = tmp_path_factory.mktemp("hostile")
    make_all(folder)
    return folder


def test_every_hostile_image_is_refused_by_name_within_its_limits(hostile: Path) -> None:
    files = sorted(str(path) for path in hostile.iterdir())
    child = subprocess.run(
        [sys.executable, "-c", PROBE, *files], capture_output=True, text=True, check=False, timeout=120
    )
    rows = [json.loads(line) for line in child.stdout.splitlines()]
    assert child.returncode == 0, f"{rows[-1]} ended the process: {child.stderr[-500:]}"
    done = {Path(row["file"]).name: row for row in rows if "file" in row}
    assert len(done) == len(HOSTILE) >= 50
    # Seconds belong into gate D5; here only what no busy machine explains is a failure.
    slow = {name: row["s"] for name, row in done.items() if row["s"] > 5 * LIMIT_S}
    large = {name: row["bytes"] for name, row in done.items() if row["bytes"] > LIMIT_BYTES}
    assert (slow, large) == ({}, {})
    assert {name for name, row in done.items() if row["reason"] is None} == USABLE
    assert all(row["reason"] for name, row in done.items() if name not in USABLE)


def test_evaluation_skips_them_by_name_and_judges_the_rest(tmp_path: Path) -> None:
    require("PIL", "pip install pillow")
    data = write_shapes(tmp_path / "data", 40)
    make_all(data / "circle")
    spec = write_preprocess(tmp_path / "preprocess.json")
    done = edgekit.evaluate(INT8, data, preprocess=str(spec), labels=LABELS_FILE)
    skipped = dict(done.skipped)
    assert {Path(name).name for name in skipped} == set(HOSTILE) - USABLE
    assert done.n == 40 + len(USABLE)
    assert all(skipped.values())


def test_calibration_skips_them_by_name_and_uses_the_rest(hostile: Path) -> None:
    for path in sorted(PHOTOS.glob("*.jpg"))[:8]:
        shutil.copy(path, hostile / f"photo-{path.name}")
    photos = load_images(hostile)
    assert {name for name, _ in photos.skipped} == set(HOSTILE) - USABLE
    assert sum(photo.path.name.startswith("photo-") for photo in photos.images) == 8
