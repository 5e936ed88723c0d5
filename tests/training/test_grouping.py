from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgekit.training.grouping import (
    clusters,
    exif_time,
    name_groups,
    near_copies,
    source_in_name,
    thumbnails,
    time_in_name,
)

PHOTOS = sorted((Path(__file__).parents[2] / "calibration_data").glob("*.jpg"))


@pytest.mark.parametrize(
    ("stem", "source"),
    [
        ("door_frame_0012", "door"),
        ("IMG_0001_BURST003", "IMG_0001"),
        ("cat_jpg.rf.0123456789abcdef0123", "cat_jpg"),
        ("holiday (2)", "holiday"),
        ("holiday copy", "holiday"),
        ("cell0001", None),
        ("cat.17", None),
        ("frame-000012", None),
    ],
)
def test_names_that_tell_of_a_source(stem: str, source: str | None) -> None:
    assert source_in_name(stem) == source


def test_running_numbers_alone_put_nothing_together() -> None:
    assert name_groups([f"cat/{at:04}.jpg" for at in range(50)]) == []


def test_a_burst_is_kept_together_and_the_next_minute_is_another() -> None:
    names = [f"cat/IMG_20260512_1015{second:02}.jpg" for second in (1, 3, 9)]
    names += ["cat/IMG_20260512_101830.jpg", "cat/IMG_20260512_101834.jpg", "cat/IMG_20260513_101502.jpg"]
    # Twenty of another day each keep the class large enough for such groups.
    names += [f"cat/IMG_202606{day:02}_120000.jpg" for day in range(1, 21)]
    assert sorted(name_groups(names)) == [[0, 1, 2], [3, 4]]


def test_two_cameras_at_the_same_time_are_two_groups() -> None:
    names = [f"cat/{camera}_20260512_1015{second:02}.jpg" for camera in ("porch", "yard") for second in (1, 4)]
    names += [f"cat/x_202606{day:02}_120000.jpg" for day in range(1, 21)]
    assert sorted(name_groups(names)) == [[0, 1], [2, 3]]


def test_a_camera_that_never_pauses_is_cut_into_parts_of_neighbours() -> None:
    start = datetime(2026, 5, 12, 10, tzinfo=UTC)
    names = [f"cat/porch_{start + timedelta(seconds=3 * at):%Y%m%d_%H%M%S}.jpg" for at in range(100)]
    groups = name_groups(names)
    assert len(groups) >= 5
    assert all(group == list(range(group[0], group[0] + len(group))) for group in groups)
    assert max(map(len, groups)) <= 20


def test_times_of_exposure_serve_where_names_say_nothing() -> None:
    names = [f"cat/DSC{at:05}.jpg" for at in range(30)]
    times = {name: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=at) for at, name in enumerate(names)}
    times[names[7]] = times[names[6]] + timedelta(seconds=2)
    assert name_groups(names, times) == [[6, 7]]


def test_exif_states_its_time() -> None:
    data = b"\xff\xd8\xff\xe1\x00\x40Exif\0\0II*\0" + b"2026:05:12 10:15:30\0" + bytes(20)
    assert exif_time(data) == datetime(2026, 5, 12, 10, 15, 30, tzinfo=UTC)
    assert exif_time(b"\xff\xd8" + bytes(100)) is None
    assert time_in_name("IMG_20261399_991530") is None


def test_nearly_equal_pictures_are_found_and_different_ones_are_not() -> None:
    photos = [cv2.imread(str(path)) for path in PHOTOS]
    first = photos[0]
    encoded = cv2.imdecode(cv2.imencode(".jpg", first, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], cv2.IMREAD_COLOR)
    smaller = cv2.resize(first, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    brighter = np.clip(first.astype(int) + 12, 0, 255).astype(np.uint8)
    count = len(photos)
    pairs = set(near_copies(thumbnails([*photos, encoded, smaller, brighter])))
    assert pairs >= {(0, count), (0, count + 1), (0, count + 2)}
    assert all(one == 0 or one >= count for one, _ in pairs)


def test_plain_pictures_are_not_called_alike() -> None:
    plain = [np.full((20, 20, 3), level, np.uint8) for level in (0, 80, 255)]
    assert near_copies(thumbnails(plain)) == []


def test_clusters_join_what_any_group_joins() -> None:
    assert clusters(6, [[0, 1], [1, 4], [2, 5]]) == [0, 0, 2, 3, 0, 2]
