from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgekit.errors import DatasetError
from edgekit.learning import UNLABELLED
from edgekit.training.cache import Cache
from edgekit.training.folders import read_gallery
from edgekit.training.lessons import Wishes, prepare
from edgekit.training.splitting import Shares
from edgekit_device.contract.preprocess import efficientnet_lite
from tests.worlds.photo_folders import crops_folder, digits_folder

SPEC = replace(efficientnet_lite(32), crop_fraction=1.0)


def picture(path: Path, seed: int, *, side: int = 40) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    cv2.imwrite(str(path), pixels)
    return path.read_bytes()


def two_classes(root: Path, count: int = 6) -> Path:
    for at in range(count):
        picture(root / "cat" / f"{at}.png", at)
        picture(root / "dog" / f"{at}.png", 100 + at)
    return root


def test_a_file_that_lies_there_twice_counts_once_and_one_in_two_classes_not_at_all(tmp_path: Path) -> None:
    root = two_classes(tmp_path)
    same = (root / "cat" / "0.png").read_bytes()
    (root / "cat" / "twin.png").write_bytes(same)
    both = (root / "cat" / "1.png").read_bytes()
    (root / "dog" / "liar.png").write_bytes(both)
    found = read_gallery(root)
    assert [s.name for s in found.samples if s.label == "cat"] == [f"cat/{n}.png" for n in (0, 2, 3, 4, 5)]
    assert {name for name, _ in found.skipped} == {"cat/twin.png", "cat/1.png", "dog/liar.png"}


def test_one_class_is_refused_by_name(tmp_path: Path) -> None:
    picture(tmp_path / "cat" / "a.png", 1)
    with pytest.raises(DatasetError, match=r"only the class 'cat'.*needs two"):
        read_gallery(tmp_path)


@pytest.mark.parametrize("missing", ["nothing", "empty", "texts"])
def test_a_folder_without_pictures_is_refused(tmp_path: Path, missing: str) -> None:
    if missing == "texts":
        (tmp_path / "cat").mkdir()
        (tmp_path / "cat" / "a.txt").write_text("no picture")
    with pytest.raises(DatasetError, match=r"is not a folder|holds no pictures"):
        read_gallery(tmp_path / "nowhere" if missing == "nothing" else tmp_path)


def test_broken_pictures_are_passed_over_and_a_class_of_nothing_else_is_refused_by_name(tmp_path: Path) -> None:
    root = two_classes(tmp_path / "data")
    whole = (root / "cat" / "0.png").read_bytes()
    (root / "cat" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (root / "dog" / "text.jpg").write_bytes(b"not an image at all")
    course = prepare(read_gallery(root), SPEC, Wishes(), Cache(tmp_path / "cache"))
    assert {name for name, _ in course.skipped} >= {"dog/text.jpg"}
    assert len(course.samples) in (12, 13)  # OpenCV may still show half of a cut PNG.
    for at in range(3):
        (root / "bird").mkdir(exist_ok=True)
        (root / "bird" / f"{at}.jpg").write_bytes(bytes([255, 216, at]) * 9)
    with pytest.raises(DatasetError, match=r"class 'bird'.*no usable picture"):
        prepare(read_gallery(root), SPEC, Wishes(), Cache(tmp_path / "cache"))


def test_split_folders_are_taken_as_they_stand(tmp_path: Path) -> None:
    for split, base in (("train", 0), ("val", 50), ("test", 70)):
        for at in range(4):
            picture(tmp_path / split / "cat" / f"{at}.png", base + at)
            picture(tmp_path / split / "dog" / f"{at}.png", 200 + base + at)
    # A copy of a held-out picture must not be learnt from.
    (tmp_path / "train" / "cat" / "copy.png").write_bytes((tmp_path / "test" / "cat" / "0.png").read_bytes())
    course = prepare(read_gallery(tmp_path), SPEC, Wishes(), Cache(tmp_path.parent / "cache"))
    names = {role: {s.name.split("/")[0] for s, r in zip(course.samples, course.roles, strict=True) if r == role}
             for role in ("train", "monitor", "held_out")}  # fmt: skip
    assert names == {"train": {"train"}, "monitor": {"val"}, "held_out": {"test"}}
    assert ("train/cat/copy.png", "the same bytes as test/cat/0.png") in course.skipped


def test_a_nearly_equal_copy_of_a_held_out_picture_is_left_out(tmp_path: Path) -> None:
    crops_folder(tmp_path / "train", 2, 6, seed=1)
    crops_folder(tmp_path / "test", 2, 3, seed=2)
    held = sorted((tmp_path / "test").rglob("*.png"))[0]
    copy = tmp_path / "train" / held.parent.name / "again.jpg"
    cv2.imwrite(str(copy), cv2.imread(str(held)), [cv2.IMWRITE_JPEG_QUALITY, 85])
    course = prepare(read_gallery(tmp_path), SPEC, Wishes(), Cache(tmp_path.parent / "cache"))
    roles = {s.name: role for s, role in zip(course.samples, course.roles, strict=True)}
    assert roles[f"train/{held.parent.name}/again.jpg"] == "left_out"
    assert list(roles.values()).count("left_out") == 1


def test_pictures_in_no_class_have_no_label(tmp_path: Path) -> None:
    root = two_classes(tmp_path / "data")
    picture(root / "somewhere.png", 999)
    course = prepare(read_gallery(root, labelled=False), SPEC, Wishes(), Cache(tmp_path / "cache"))
    loose = [at for at, sample in enumerate(course.samples) if sample.label is None]
    assert [course.lessons.targets[at] for at in loose] == [UNLABELLED]
    assert loose[0] in course.lessons.train
    assert "somewhere.png" in {name for name, _ in read_gallery(root).skipped}


def test_five_pictures_a_class_are_enough_to_hold_one_out(tmp_path: Path) -> None:
    course = prepare(read_gallery(digits_folder(tmp_path, 5)), SPEC, Wishes(), Cache(tmp_path.parent / "c"))
    assert len(course.held_out) == 10
    assert len(course.lessons.train) == 40
    assert not len(course.lessons.monitor)


def test_a_rare_class_weighs_as_much_as_a_common_one(tmp_path: Path) -> None:
    root = two_classes(tmp_path / "data", 5)
    for at in range(30):
        picture(root / "cat" / f"more{at}.png", 1000 + at)
    lessons = prepare(read_gallery(root), SPEC, Wishes(Shares(0.2, 0.0)), Cache(tmp_path / "c")).lessons
    weights, targets = lessons.weights[lessons.train], lessons.targets[lessons.train]
    assert np.isclose(weights[targets == 0].sum(), weights[targets == 1].sum())
    assert np.isclose(weights.mean(), 1.0)


def test_decoded_pictures_are_kept_and_a_changed_file_makes_new_ones(tmp_path: Path) -> None:
    root, cache = two_classes(tmp_path / "data"), Cache(tmp_path / "cache")
    first = prepare(read_gallery(root), SPEC, Wishes(), cache).canvases
    entries = sorted(entry.name for entry in (tmp_path / "cache").iterdir())
    again = prepare(read_gallery(root), SPEC, Wishes(), cache).canvases
    assert again.key == first.key
    assert sorted(entry.name for entry in (tmp_path / "cache").iterdir()) == entries
    picture(root / "cat" / "0.png", 4711)
    assert prepare(read_gallery(root), SPEC, Wishes(), cache).canvases.key != first.key


def test_the_cache_forgets_what_was_unused_longest(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit_bytes=2500)

    def fill(folder: Path) -> dict[str, int]:
        (folder / "a").write_bytes(bytes(1000))
        return {}

    for key in ("one", "two", "three"):
        cache.folder(key, fill)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["three", "two"]


def test_pictures_that_a_camera_took_in_one_moment_stay_together(tmp_path: Path) -> None:
    import hashlib
    import json

    lines = []
    for at in range(40):
        data = picture(tmp_path / ("cat" if at < 20 else "dog") / f"frame-{at:06}.png", at)
        # Two at a time, a minute apart.
        when = f"2026-11-22T10:{at // 2:02}:{5 * (at % 2):02}.000Z"
        lines.append(json.dumps({"sha256": hashlib.sha256(data).hexdigest(), "at": when}))
    (tmp_path / "cat" / "manifest.jsonl").write_text("\n".join([*lines, "{cut"]))
    course = prepare(read_gallery(tmp_path), SPEC, Wishes(), Cache(tmp_path.parent / "c"))
    pairs = [{course.roles[at], course.roles[at + 1]} for at in range(0, 40, 2)]
    assert all(len(pair) == 1 for pair in pairs)
    assert {"held_out"} in pairs
