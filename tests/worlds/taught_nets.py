"""A small net that has learnt its pictures, and a workshop for passes over it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgekit.compression.passes import Subject, Workshop
from edgekit.keras_network import KerasNetwork
from edgekit.learning import Lessons
from edgekit.training.loop import Loop, answers, compiled
from tests.training.test_folders import SPEC
from tests.worlds.photo_folders import crops_folder
from tests.worlds.small_nets import lessons_of, save, small_cnn, teach


class TaughtNet:
    """A trained net with its pictures."""

    def __init__(self, root: Path) -> None:
        self.root, self.data = root, crops_folder(root / "data", 4, 24)
        self.lessons = lessons_of(self.data, SPEC, root / "cache")
        self.cnn = teach(small_cnn(4, width=16), self.lessons, 12)
        self.net = save(self.cnn, root / "net", SPEC, self.lessons.labels)

    def subject(self) -> Subject:
        import keras

        copy = keras.models.clone_model(self.cnn)
        copy.set_weights(self.cnn.get_weights())
        return Subject(copy, SPEC, self.lessons.labels)

    def asked(self, *passes: str) -> dict[str, Any]:
        stated = str(self.net.with_name("preprocess.json"))
        return {"data": self.data, "passes": passes, "preprocess": stated, "augment": "none"}


def shop_of(lessons: Lessons, folder: Path, **more: Any) -> Workshop:
    folder.mkdir(parents=True, exist_ok=True)

    def cached(key: str, fill: Any) -> Path:
        place = folder / key
        if not place.is_dir():
            place.mkdir()
            fill(place)
        return place

    def nobody(name: str) -> Any:
        raise AssertionError("no teacher was asked for")

    return Workshop(lessons, Loop(), nobody, cached, **more)


def right(model: Any, lessons: Lessons) -> float:
    said = answers(compiled(KerasNetwork(model, lessons.preprocess), lessons), lessons, lessons.train)
    return float((said.argmax(1) == lessons.targets[lessons.train]).mean())
