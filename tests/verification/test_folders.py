"""Which class a folder is: by label, WordNet id or index, and never by a guess."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.data import data_path
from edgekit.errors import DatasetError
from edgekit.verification.folders import find_images, match_classes

WNIDS = data_path("models", "imagenet_wnids.txt").read_text("utf-8").split()
IMAGENET = data_path("models", "efficientnet-lite0", "labels.txt").read_text("utf-8").splitlines()


def test_folders_are_matched_with_labels_first() -> None:
    assert match_classes(["dog", "cat"], ["cat", "dog", "7"], WNIDS) == ({"dog": 1, "cat": 0}, "label")


def test_wordnet_ids_are_imagenets_thousand_classes_in_order() -> None:
    found, how = match_classes(["n02123045", "n01440764"], IMAGENET, WNIDS)
    assert (how, found["n01440764"]) == ("wnid", 0)
    assert IMAGENET[found["n02123045"]].startswith("tabby")


def test_a_background_class_moves_every_wordnet_id_by_one() -> None:
    assert match_classes(["n01440764"], ["background", *IMAGENET], WNIDS)[0] == {"n01440764": 1}


def test_wordnet_ids_are_refused_for_a_model_of_other_classes() -> None:
    with pytest.raises(DatasetError, match="is a WordNet id, and the model has 2 classes"):
        match_classes(["n01440764"], ["cat", "dog"], WNIDS)


def test_integers_are_indices_only_if_no_label_is_an_integer() -> None:
    assert match_classes(["1", "0"], ["cat", "dog"], WNIDS) == ({"1": 1, "0": 0}, "index")
    assert match_classes(["5", "3"], ["3", "5", "9"], WNIDS) == ({"3": 0, "5": 1}, "label")
    with pytest.raises(DatasetError, match="no class is called '0'"):
        match_classes(["0", "1"], ["3", "5"], WNIDS)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["tabby_cat", "dog"], "no class is called 'tabby_cat'; did you mean 'tabby cat'"),
        (["Dog"], "did you mean 'dog'"),
        (["zebra", "xylophone"], r"no class is called 'zebra' \(and 1 more\) \(labels: tabby cat, dog, ...\)"),
        (["2"], "folder '2' is past the model's 2 classes"),
        (["1", "01"], "two folders are class 1"),
    ],
)
def test_a_folder_that_no_class_is_called_by_is_an_error_with_the_near_miss(names: list[str], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        match_classes(names, ["tabby cat", "dog"], WNIDS)


def test_a_label_of_two_classes_does_not_name_one() -> None:
    with pytest.raises(DatasetError, match="'crane' is a label of classes 0 and 2"):
        match_classes(["crane"], ["crane", "dog", "crane"], WNIDS)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.JPG").write_bytes(b"not looked at here")
    return tmp_path


def test_images_are_listed_in_order_and_what_is_none_is_counted(data: Path) -> None:
    (data / "cat" / "notes.txt").write_text("no image")
    (data / "cat" / ".hidden.jpg").touch()
    (data / "cat" / "deeper.jpg").mkdir()
    (data / ".cache").mkdir()
    (data / "loose.jpg").touch()
    found = find_images(data, ["dog", "cat"], WNIDS)
    assert [(path.relative_to(data).as_posix(), index) for path, index in found.files] == [
        ("cat/1.JPG", 1),
        ("dog/1.JPG", 0),
    ]
    assert found.passed_over == 2


def test_a_split_is_chosen_by_name_and_never_by_guess(data: Path, tmp_path: Path) -> None:
    home = tmp_path / "set"
    for split in ("train", "val"):
        (home / split).mkdir(parents=True)
    (data / "cat").rename(home / "val" / "cat")
    assert find_images(home, ["cat"], WNIDS, split="val").folder == home / "val"
    with pytest.raises(DatasetError, match="is divided into train, val; choose one: --split val"):
        find_images(home, ["cat"], WNIDS)
    with pytest.raises(DatasetError, match=r"has no split 'test' \(folders: train, val\)"):
        find_images(home, ["cat"], WNIDS, split="test")


@pytest.mark.parametrize("what", ["missing", "empty", "imageless"])
def test_a_folder_without_images_is_an_error(tmp_path: Path, what: str) -> None:
    folder = tmp_path / "data"
    if what != "missing":
        folder.mkdir()
    if what == "imageless":
        (folder / "cat").mkdir()
    with pytest.raises(DatasetError):
        find_images(folder, ["cat"], WNIDS)
