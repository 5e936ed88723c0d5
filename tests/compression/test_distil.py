from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.compression.passes import Subject, Workshop, parse_step, run_pass
from edgekit.errors import PassError
from edgekit.keras_network import KerasNetwork
from edgekit.learning import UNLABELLED, Lessons
from edgekit.teachers import open_teacher
from edgekit.training.cache import Cache
from edgekit.training.loop import Loop
from tests.training.test_folders import SPEC
from tests.worlds.photo_folders import crops_folder
from tests.worlds.small_nets import lessons_of, save, small_cnn, teach


class Counting:
    """A teacher that counts how many pictures it was asked about."""

    def __init__(self, teacher: Any, labels: tuple[str, ...] | None = None, order: list[int] | None = None) -> None:
        self.teacher, self.asked, self._order = teacher, 0, order
        self.name, self.digest = teacher.name, teacher.digest + str(order)
        self.labels = labels or teacher.labels

    def answers(self, pixels: Any, output: str) -> Any:
        self.asked += len(pixels)
        found = self.teacher.answers(pixels, output)
        return found[:, self._order] if self._order and output == "logits" else found


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("distil")


@pytest.fixture(scope="module")
def lessons(root: Path) -> Lessons:
    return lessons_of(crops_folder(root / "data", 4, 24), SPEC, root / "cache", augment="photo")


@pytest.fixture(scope="module")
def teacher_file(root: Path, lessons: Lessons) -> Path:
    model = teach(small_cnn(4, width=16, end="logits"), lessons, 25)
    return save(model, root / "teacher", SPEC, lessons.labels)


@pytest.fixture(scope="module")
def teacher(teacher_file: Path) -> Any:
    return open_teacher(str(teacher_file), "RGB")


def shop(lessons: Lessons, teacher: Any, cache: Path) -> Workshop:
    store = Cache(cache)
    return Workshop(lessons, Loop(), lambda name: teacher, lambda key, fill: store.folder(key, fill)[0])


def same(model: Any, teacher: Any, lessons: Lessons) -> float:
    import tensorflow as tf

    pixels = lessons.exact(lessons.train)
    own = KerasNetwork(model, SPEC).outputs(tf.constant(pixels), training=False)["logits"].numpy()
    return float((own.argmax(1) == teacher.answers(pixels, "logits").argmax(1)).mean())


def test_a_student_follows_its_teacher_without_a_single_label(lessons: Lessons, teacher: Any, tmp_path: Path) -> None:
    blind = replace(lessons, targets=np.full_like(lessons.targets, UNLABELLED))
    student = small_cnn(4, seed=3)
    before = same(student, teacher, lessons)
    step = parse_step("distil=T:alpha=1,epochs=30,batch=8,rate=0.005,temperature=2")
    run_pass(Subject(student, SPEC, lessons.labels), step, shop(blind, teacher, tmp_path))
    assert same(student, teacher, lessons) > max(0.75, before)
    with pytest.raises(PassError, match="no picture has a label"):
        run_pass(Subject(student, SPEC, lessons.labels), parse_step("distil=T"), shop(blind, teacher, tmp_path))


def test_a_teacher_is_asked_once_a_view_and_never_again(lessons: Lessons, teacher: Any, tmp_path: Path) -> None:
    counting = Counting(teacher)
    subject = Subject(small_cnn(4, seed=4), SPEC, lessons.labels)
    run_pass(subject, parse_step("distil=T:epochs=4,views=2"), shop(lessons, counting, tmp_path))
    assert counting.asked == 2 * len(lessons.train)
    run_pass(subject, parse_step("distil=T:epochs=3,views=2,alpha=0.3"), shop(lessons, counting, tmp_path))
    assert counting.asked == 2 * len(lessons.train)
    other = replace(lessons, key=lessons.key + "x")
    run_pass(subject, parse_step("distil=T:epochs=1"), shop(other, counting, tmp_path))
    assert counting.asked == 3 * len(lessons.train)


def test_classes_in_another_order_are_put_in_ours(lessons: Lessons, teacher: Any, tmp_path: Path) -> None:
    order = [2, 0, 3, 1]
    mixed = Counting(teacher, tuple(lessons.labels[at] for at in order), order)
    student = small_cnn(4, seed=5)
    step = parse_step("distil=T:alpha=1,epochs=30,batch=8,rate=0.005,temperature=2")
    run_pass(Subject(student, SPEC, lessons.labels), step, shop(lessons, mixed, tmp_path))
    assert same(student, teacher, lessons) > 0.7
    stranger = Counting(teacher, ("a", "b", "c", "d"))
    with pytest.raises(PassError, match="does not know the class"):
        run_pass(Subject(student, SPEC, lessons.labels), step, shop(lessons, stranger, tmp_path))


def test_features_are_followed_whatever_their_number_and_the_classes(
    lessons: Lessons, teacher: Any, tmp_path: Path
) -> None:
    stranger = Counting(teacher, ("a", "b", "c", "d"))
    shop_of_features = shop(lessons, stranger, tmp_path)
    step = parse_step("distil=T:alpha=0,features=1,epochs=6,rate=0.003")
    run_pass(Subject(small_cnn(4, seed=6), SPEC, lessons.labels), step, shop_of_features)
    losses = [entry["loss"] for entry in shop_of_features.history["distil"]]
    assert losses[-1] < losses[0]


def test_a_tflite_can_teach_scores_but_no_features(lessons: Lessons, teacher_file: Path, tmp_path: Path) -> None:
    from edgekit import convert

    convert(
        teacher_file,
        out=tmp_path / "t.tflite",
        preprocess=str(teacher_file.with_name("preprocess.json")),
        labels=teacher_file.with_name("labels.txt"),
        refine="none",
    )
    small = open_teacher(str(tmp_path / "t.tflite"), "RGB")
    big = open_teacher(str(teacher_file), "RGB")
    pixels = lessons.exact(lessons.train[:20])
    assert small.labels == lessons.labels
    said = small.answers(pixels, "logits").argmax(1) == big.answers(pixels, "logits").argmax(1)
    assert said.mean() >= 0.8
    with pytest.raises(PassError, match="no features"):
        small.answers(pixels, "features")


def test_any_variant_can_teach_features() -> None:
    lite = open_teacher("efficientnet-lite0", "RGB")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    assert lite.answers(pixels, "features").shape == (2, 1280)
    assert lite.labels and len(lite.labels) == 1000


def test_distilling_goes_on_while_everything_is_rounded(lessons: Lessons, teacher: Any, tmp_path: Path) -> None:
    counting = Counting(teacher)
    student = teach(small_cnn(4, seed=7), lessons, 5)
    place = shop(lessons, counting, tmp_path)
    done = run_pass(Subject(student, SPEC, lessons.labels), parse_step("qat=epochs=2,teacher=T,alpha=0.7"), place)
    assert counting.asked == 2 * len(lessons.train)
    assert done.ranges
