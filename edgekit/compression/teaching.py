"""Learning from a teacher: its answers, asked once and kept, and the loss that follows them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.compression.passes import Subject, Teacher, Workshop
from edgekit.errors import PassError
from edgekit.keras_network import KerasNetwork
from edgekit.learning import Network, Objective, Places, cross_entropy

_BATCH = 32


@dataclass(frozen=True)
class Weighing:
    """How much what counts.

    Attributes:
        alpha: Share of the teacher's scores; the rest is the labels'.
        temperature: Softens both sides' scores.
        features: How much the teacher's features count, besides.
        smoothing: Of the labels.
    """

    alpha: float = 0.5
    temperature: float = 4.0
    features: float = 0.0
    smoothing: float = 0.1

    def problem(self) -> str | None:
        """What is wrong with the values; None if nothing is."""
        if not 0 <= self.alpha <= 1:
            return f"alpha must lie between 0 and 1, not {self.alpha:g}"
        if not 0 < self.temperature <= 100:
            return f"temperature must lie between 0 and 100, not {self.temperature:g}"
        if self.features < 0:
            return f"features must not be negative, not {self.features:g}"
        return None


class Projected:
    """A network whose features are led into a teacher's space by one dense layer, learnt beside it."""

    def __init__(self, network: Network, own: int, wanted: int, seed: int) -> None:
        import keras

        draw = np.random.default_rng([seed, 7]).normal(0, own**-0.5, (own, wanted)).astype(np.float32)
        self.network, self._bridge = network, keras.Variable(draw, name="bridge")

    @property
    def trained(self) -> Sequence[Any]:
        """The network's and the bridge."""
        return [*self.network.trained, self._bridge]

    @property
    def state(self) -> Sequence[Any]:
        """The network's and the bridge."""
        return [*self.network.state, self._bridge]

    def outputs(self, images: Any, *, training: bool) -> Mapping[str, Any]:
        """The network's, and ``bridged``."""
        import tensorflow as tf

        found = self.network.outputs(images, training=training)
        return {**found, "bridged": tf.matmul(found["features"], self._bridge.value)}


class Itself:
    """A model as it is now, as the teacher of what becomes of it."""

    name = "self"

    def __init__(self, subject: Subject) -> None:
        import keras

        self.labels = subject.labels
        # A copy: the model itself may be changed in place.
        self._network = KerasNetwork(keras.models.clone_model(subject.model), subject.preprocess)
        self._network.model.set_weights(subject.model.get_weights())
        parts = [np.ascontiguousarray(value).tobytes() for value in subject.model.get_weights()]
        self.digest = hashlib.sha256(b"".join(parts)).hexdigest()

    def answers(self, pixels: Any, output: str) -> Any:
        """``logits`` or ``features`` of pictures."""
        import tensorflow as tf

        return self._network.outputs(tf.constant(pixels), training=False)[output].numpy()


def follow(
    subject: Subject, network: Network, teacher: Teacher, weighing: Weighing, views: int, workshop: Workshop, name: str
) -> tuple[Network, Objective]:
    """What to teach, and what to make small, so that a network becomes like its teacher.

    Args:
        subject: Whose labels count.
        network: The student.
        teacher: Whom to follow.
        weighing: How much.
        views: Augmented views, in each of which the teacher is asked once.
        workshop: The pictures and the cache.
        name: Of the pass, for errors.

    Raises:
        PassError: The teacher does not know these classes, or one of them has no features.
    """
    wanted = [kind for kind, on in (("logits", weighing.alpha > 0), ("features", weighing.features > 0)) if on]
    order = _columns(subject, teacher, name) if "logits" in wanted else None
    tables = {}
    for kind in wanted:
        tables[kind] = [_ask(teacher, kind, view, workshop, name) for view in range(views)]
    if order is not None:
        tables["logits"] = [table[:, order] for table in tables["logits"]]
    if "features" in wanted:
        own = _feature_width(network, workshop, name)
        network = Projected(network, own, tables["features"][0].shape[1], workshop.seed)
    rows = np.full(int(max(workshop.lessons.train, default=0)) + 1, -1)
    rows[workshop.lessons.train] = np.arange(len(workshop.lessons.train))

    def extras(places: Places, view: int) -> Sequence[npt.NDArray[Any]]:
        return [tables[kind][view][rows[places]] for kind in wanted]

    kinds = tuple(("float32", (tables[kind][0].shape[1],)) for kind in wanted)
    return network, Objective(_loss(weighing, wanted), extras, kinds)


def _columns(subject: Subject, teacher: Teacher, name: str) -> list[int] | None:
    """Where the student's classes stand in the teacher's scores; None where they stand alike."""
    if teacher.labels is None or teacher.labels == subject.labels:
        return None
    missing = [label for label in subject.labels if label not in teacher.labels]
    if missing:
        raise PassError(
            name,
            f"teacher {teacher.name} does not know the class '{missing[0]}' (it has {len(teacher.labels)} others)",
            "train one on the same folder, or follow its features only: alpha=0,features=1",
        )
    return [teacher.labels.index(label) for label in subject.labels]


def _ask(teacher: Teacher, kind: str, view: int, workshop: Workshop, name: str) -> npt.NDArray[np.float32]:
    lessons = workshop.lessons
    places = lessons.train
    text = f"2;{teacher.digest};{lessons.key};{kind};{view};{hashlib.sha256(places.tobytes()).hexdigest()}"

    def fill(folder: Path) -> dict[str, Any]:
        found = []
        for start in range(0, len(places), _BATCH):
            pixels = lessons.changed(places[start : start + _BATCH], view)
            found.append(np.asarray(teacher.answers(pixels, kind), np.float32))
            if workshop.progress:
                workshop.progress(f"{name}: ask", min(start + _BATCH, len(places)), len(places))
        np.save(folder / "answers.npy", np.concatenate(found))
        return {"pictures": len(places)}

    folder = workshop.cached(f"answers-{hashlib.sha256(text.encode()).hexdigest()[:24]}", fill)
    table: npt.NDArray[np.float32] = np.load(folder / "answers.npy")
    classes = len(lessons.labels)
    if kind == "logits" and teacher.labels is None and table.shape[1] != classes:
        raise PassError(name, f"teacher {teacher.name} gives {table.shape[1]} scores, not {classes}", "take another")
    return table


def _feature_width(network: Network, workshop: Workshop, name: str) -> int:
    import tensorflow as tf

    one = workshop.lessons.exact(workshop.lessons.train[:1])
    shape = network.outputs(tf.constant(one), training=False)["features"].shape
    if len(shape) != 2:
        raise PassError(name, f"the last layer reads {shape.as_list()}, no vector of features", "leave features out")
    return int(shape[1])


def _loss(weighing: Weighing, wanted: Sequence[str]) -> Any:
    labels = cross_entropy(weighing.smoothing)

    def loss(outputs: Mapping[str, Any], targets: Any, weights: Any, extras: Sequence[Any]) -> Any:
        import tensorflow as tf

        given = dict(zip(wanted, extras, strict=True))
        total = (1 - weighing.alpha) * labels(outputs, targets, weights, ()) if weighing.alpha < 1 else 0.0
        if "logits" in given:
            soft = tf.nn.softmax(given["logits"] / weighing.temperature)
            own = tf.nn.log_softmax(outputs["logits"] / weighing.temperature)
            # Kullback and Leibler's distance; the square of the temperature keeps the size of its gradient.
            apart = tf.reduce_sum(soft * (tf.math.log(tf.maximum(soft, 1e-9)) - own), axis=-1)
            total += weighing.alpha * weighing.temperature**2 * tf.reduce_mean(apart)
        if "features" in given:
            one, two = (tf.nn.l2_normalize(value, axis=-1) for value in (outputs["bridged"], given["features"]))
            total += weighing.features * tf.reduce_mean(1 - tf.reduce_sum(one * two, axis=-1))
        return total

    return loss
