"""Training that goes on after a cut: what is gone stays gone, and BatchNorm's scales and offsets learn as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.compression.keras_graph import WEIGHTED, Operation, operations
from edgekit.compression.passes import Step, Subject, Teacher, Value, Workshop
from edgekit.compression.teaching import Itself, Weighing, follow
from edgekit.compression.walking import as_taught, plainly, walk
from edgekit.errors import PassError
from edgekit.keras_network import KerasNetwork, last_tensors, logits_of, normalised
from edgekit.learning import Objective, Plan, cross_entropy
from edgekit_device.contract.preprocess import Preprocess

NAME = "prune"
# Of every kind of pruning: how the net is taught afterwards.
TEACHING: dict[str, Value] = {
    "epochs": 5,
    "rate": 2e-4,
    "batch": 32,
    "teacher": "self",
    "alpha": 0.5,
    "temperature": 2.0,
    "views": 2,
}


def zeros_of(model: Any) -> dict[str, npt.NDArray[np.bool_]]:
    """Layer -> where its kernel is not exactly zero, of the layers where some of it is: what pruning left.

    Training hardly ever lands on an exact zero, so they need no file of their own and survive every .keras file.
    """
    found = {}
    for layer in model.layers:
        if type(layer).__name__ in WEIGHTED:
            kept = layer.kernel.numpy() != 0
            if not kept.all():
                found[layer.name] = kept
    return found


class MendingNetwork(KerasNetwork):
    """A Keras classifier whose weights that are zero stay zero.

    Attributes:
        masks: Layer -> variable, float32, shape of its kernel: 1 where it may learn.
    """

    def __init__(
        self, model: Any, preprocess: Preprocess, masks: Mapping[str, npt.NDArray[np.bool_]] | None = None
    ) -> None:
        import keras

        super().__init__(model, preprocess)
        for layer in model.layers:
            if type(layer).__name__ == "BatchNormalization":
                # Its statistics stay as they are: `as_taught` runs it as in use.
                layer.trainable = True
        masks = zeros_of(model) if masks is None else masks
        self.masks = {
            name: keras.Variable(kept.astype(np.float32), trainable=False, name=f"{name}_mask")
            for name, kept in masks.items()
        }
        self._found = operations(model, NAME)
        last, self._probable, features = last_tensors(model)
        self._last, self._features = id(last), id(features)

    @property
    def state(self) -> Sequence[Any]:
        """Every variable of the model, and the masks."""
        return [*self.model.variables, *self.masks.values()]

    def outputs(self, images: Any, *, training: bool) -> Mapping[str, Any]:
        """As of a `KerasNetwork`, with masks over the kernels; ``sizes``, the sum of the kernels' absolute values."""
        import keras
        import tensorflow as tf

        run = as_taught if training else plainly
        sizes: list[Any] = []

        def call(op: Operation, value: Any) -> Any:
            kernel = self.kernel_of(op)
            if kernel is None:
                return run(op, value)
            sizes.append(tf.reduce_sum(tf.abs(kernel)))
            with keras.StatelessScope(state_mapping=[(op.layer.kernel, kernel)]):
                return run(op, value)

        values = walk(self._found, normalised(images, self.preprocess), call)
        logits = logits_of(values[self._last], self._probable)
        return {"logits": logits, "features": values[self._features], "sizes": tf.add_n(sizes) if sizes else 0.0}

    def kernel_of(self, op: Operation) -> Any:
        """What stands for a layer's kernel; None for the kernel itself."""
        return op.layer.kernel.value * self.masks[op.name].value if op.name in self.masks else None

    def settle_masks(self) -> None:
        """Write the zeros into the model."""
        for layer in self.model.layers:
            if layer.name in self.masks:
                layer.kernel.assign(layer.kernel.numpy() * self.masks[layer.name].numpy())


def teaching_problem(values: Mapping[str, Value]) -> str | None:
    """What is wrong with the arguments of TEACHING; None if nothing is."""
    if int(values["epochs"]) < 0:
        return "epochs must not be negative"
    for key in ("batch", "views"):
        if int(values[key]) < 1:
            return f"{key} must be at least 1"
    if not 0 < float(values["rate"]) < 1:
        return "rate must lie between 0 and 1"
    return _weighing(values).problem()


def _weighing(values: Mapping[str, Value]) -> Weighing:
    return Weighing(float(values["alpha"]), float(values["temperature"]))


def teacher_of(subject: Subject, step: Step, workshop: Workshop) -> Teacher | None:
    """Whom the net follows after the cut: itself as it was before, somebody else, or nobody.

    Raises:
        PassError: There is nothing to learn from.
    """
    name, alpha = str(step.values["teacher"]), float(step.values["alpha"])
    follows = name not in ("", "none") and alpha > 0
    lessons = workshop.lessons
    labelled = (lessons.targets[lessons.train] >= 0).any()
    if int(step.values["epochs"]) and not labelled and not (follows and alpha == 1):
        raise PassError(NAME, "no picture has a label", "follow a teacher alone: teacher=self,alpha=1")
    if not follows or not int(step.values["epochs"]):
        return None
    return Itself(subject) if name == "self" else workshop.open_teacher(name)


def mend(
    subject: Subject,
    network: Any,
    teacher: Teacher | None,
    step: Step,
    workshop: Workshop,
    *,
    epochs: int,
    stage: str,
    pull: float = 0.0,
) -> None:
    """Teach a cut network, in place.

    Args:
        subject: Whose labels count.
        network: What is taught.
        teacher: From `teacher_of`.
        step: Its arguments.
        workshop: The pictures and the loop.
        epochs: How long; 0 does nothing.
        stage: Of the checkpoint and the history.
        pull: Weight of the sum of absolute weights (L1).
    """
    if not epochs:
        return
    views = min(epochs, int(step.values["views"])) if teacher else 0
    objective, taught = Objective(cross_entropy(0.1)), network
    if teacher:
        taught, objective = follow(subject, network, teacher, _weighing(step.values), views, workshop, NAME)
    if pull:
        objective = _pulled(objective, pull)
    rate, batch = float(step.values["rate"]), int(step.values["batch"])
    plan = Plan(epochs, rate, batch, views=views, seed=workshop.seed)
    workshop.history[stage] = workshop.fit(taught, workshop.lessons, plan, objective, stage=stage)


def _pulled(objective: Objective, pull: float) -> Objective:
    def loss(outputs: Mapping[str, Any], targets: Any, weights: Any, extras: Sequence[Any]) -> Any:
        return objective.loss(outputs, targets, weights, extras) + pull * outputs["sizes"]

    return Objective(loss, objective.extras, objective.kinds)
