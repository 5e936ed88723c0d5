"""Labels are one plain line a class, no two alike, as many as the model scores."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.bundling.labels import Labels, check_labels, read_labels
from edgekit.data import data_path
from edgekit.errors import LabelCountError, LabelsError

WORDS = st.text(st.characters(categories=("L", "N", "P", "Zs"), include_characters="-_'"), min_size=1, max_size=12)


def labels_file(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "labels.txt"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "content",
    [
        b"cat\ndog\n",
        b"cat\r\ndog\r\n",
        b"\xef\xbb\xbfcat\ndog",
        b"cat \n dog\n\n\n",
        b"0 cat\n1 dog\n",
        b"0:cat\n1: dog\n",
    ],
)
def test_the_usual_forms_of_a_file_read_alike(tmp_path: Path, content: bytes) -> None:
    assert read_labels(labels_file(tmp_path, content), classes=2).names == ("cat", "dog")


def test_indices_that_were_taken_away_are_told(tmp_path: Path) -> None:
    assert read_labels(labels_file(tmp_path, b"0 cat\n1 dog\n")).notes == (
        "indices in front of the labels were taken away",
    )
    assert read_labels(labels_file(tmp_path, b"cat\ndog\n")).notes == ()


def test_the_labels_that_ship_are_plain() -> None:
    for path in data_path("models").glob("*/labels.txt"):
        labels = read_labels(path, classes=1000)
        assert labels.notes == () and len(set(labels.names)) == 1000


def test_a_label_that_other_tools_read_as_an_index_is_refused_by_line(tmp_path: Path) -> None:
    with pytest.raises(LabelsError, match=r"line 2 reads '2 wheeler'.*write '2-wheeler'"):
        read_labels(labels_file(tmp_path, b"car\n2 wheeler\n"))
    # Indices that are not the lines' own would move every class.
    with pytest.raises(LabelsError, match="line 1"):
        read_labels(labels_file(tmp_path, b"1 cat\n2 dog\n"))
    # One index is taken away, never two.
    with pytest.raises(LabelsError, match="line 1 reads '0 cat'"):
        read_labels(labels_file(tmp_path, b"0 0 cat\n1 1 dog\n"))


@pytest.mark.parametrize("labels", [b"3d-printer\n50%\n", b"0\n1\n2\n3\n", b"8-ball\n1st\n"])
def test_digits_that_nobody_misreads_are_fine(tmp_path: Path, labels: bytes) -> None:
    assert read_labels(labels_file(tmp_path, labels)).names == tuple(labels.decode().split())


def test_labels_that_occur_twice_are_told_apart_by_their_class() -> None:
    found = check_labels(["crane", "maillot", "crane"])
    assert found.names == ("crane#0", "maillot", "crane#2")
    assert "1 labels occur more than once" in found.notes[0]
    with pytest.raises(LabelsError, match="more than once"):
        check_labels(["a", "a", "a#0"])


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"cat\n\ndog\n", "line 2 is blank"),
        (b"cat\n\xff\xfe\n", "not UTF-8"),
        (b"cat\ta\n", "unprintable"),
        (b"cat\x00\n", "unprintable"),
        ("cat\u2028dog\n".encode(), "unprintable"),
        (b"a\x0bb\n", "unprintable"),
        (b"x" * 201, "longer than 200"),
        (b"", "0 labels"),
    ],
)
def test_a_line_that_cannot_be_a_label_is_named(tmp_path: Path, content: bytes, problem: str) -> None:
    with pytest.raises(LabelsError, match=problem):
        read_labels(labels_file(tmp_path, content))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabelsError, match=r"nothing\.txt: cannot be read"):
        read_labels(tmp_path / "nothing.txt")


def test_the_background_class_is_explained_in_both_directions() -> None:
    names = [f"class-{i}" for i in range(1000)]
    with pytest.raises(LabelCountError, match=r"1000 labels for a model of 1001 classes.*put 'background' before"):
        check_labels(names, classes=1001)
    with pytest.raises(LabelCountError, match=r"1001 labels for a model of 1000 classes.*remove the first line"):
        check_labels(["background", *names], classes=1000)
    with pytest.raises(LabelCountError, match="--labels FILE") as caught:
        check_labels(names[:7], classes=1000)
    assert (caught.value.labels, caught.value.classes) == (7, 1000)


@given(st.lists(WORDS, min_size=1, max_size=8))
def test_what_is_accepted_comes_back_through_the_boards_reader(lines: list[str]) -> None:
    try:
        labels = check_labels([line.strip() for line in lines])
    except LabelsError:
        return
    # The device splits with str.splitlines, which knows more line ends than "\n".
    assert tuple(labels.to_bytes().decode("utf-8").splitlines()) == labels.names
    assert len(set(labels.names)) == len(labels.names) == len(lines)
    assert check_labels(labels.names) == Labels(labels.names)
