"""`prune=weights`: single weights become zero, by a schedule, while the net learns; they stay zero ever after.

No rung multiplies faster for it: the kernels of int8 are dense. What shrinks is the model in a zip.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from edgekit.compression.keras_graph import operations
from edgekit.compression.mending import NAME, TEACHING, MendingNetwork, mend, teacher_of, teaching_problem
from edgekit.compression.passes import Step, Subject, Value, Workshop
from edgekit.compression.sparsity import Masks, Polynomial, Schedule, Scores, Table, masks_below, masks_of, read_table
from edgekit.compression.statistics import Statistics
from edgekit.errors import PassError, near_miss
from edgekit.learning import Lessons
from edgekit_device.contract.preprocess import Preprocess

WAYS = ("magnitude", "gradient", "curvature", "random")
DEFAULTS: dict[str, Value] = {
    # One of the three is given: a share of zeros, a threshold below which weights go, or shares by epoch.
    "sparsity": 0.0,
    "threshold": 0.0,
    "table": "",
    "by": "magnitude",
    "scope": "layer",
    "initial": 0.0,
    "begin": 0,
    "end": 0,
    "frequency": 0,
    "power": 3.0,
    "l1": 0.0,
    "pictures": 128,
    **TEACHING,
}
SENTENCE = "no rung gets faster from zeros: int8 kernels multiply them too; the gain is in a zip"
# Depthwise kernels are a hundredth of the weights, and losing one of nine taps hurts.
_PRUNED = ("Conv2D", "Dense")
_BATCH = 16


def problem_with(values: Mapping[str, Value]) -> str | None:
    """What is wrong with the arguments; None if nothing is."""
    asked = [key for key in ("sparsity", "threshold", "table") if values[key]]
    if len(asked) != 1:
        given = "none is given" if not asked else f"{' and '.join(asked)} are given"
        return f"sparsity=0.75, threshold=0.5 or table=2:0.5/4:0.75 says how many: {given}"
    for key in ("sparsity", "initial"):
        if not 0 <= float(values[key]) < 1:
            return f"{key} must lie between 0 and 1"
    for key in ("threshold", "l1", "begin", "end", "frequency"):
        if float(values[key]) < 0:
            return f"{key} must not be negative"
    if int(values["begin"]) > int(values["end"]) > 0:
        return "begin must not be above end"
    if float(values["initial"]) > float(values["sparsity"]) and values["sparsity"]:
        return "initial must not be above sparsity: zeros do not come back"
    if float(values["power"]) <= 0 or int(values["pictures"]) < 1:
        return "power and pictures must be positive"
    for key, known in (("by", WAYS), ("scope", ("layer", "global"))):
        word = str(values[key])
        if word not in known:
            return f"{key} must be one of {', '.join(known)}, not '{word}'{near_miss(word, known)}"
    if values["threshold"] and values["by"] != "magnitude":
        return "threshold is a size of weights: by=magnitude"
    return _table_problem(values) or teaching_problem(values)


def _table_problem(values: Mapping[str, Value]) -> str | None:
    try:
        table = read_table(str(values["table"])) if values["table"] else {}
    except ValueError as cause:
        return str(cause)
    if table and max(table) > int(values["epochs"]):
        return f"table names epoch {max(table)} of epochs={values['epochs']}"
    return None


def schedule_of(values: Mapping[str, Value]) -> Schedule:
    """When how many weights are zero."""
    if values["table"]:
        return Table(read_table(str(values["table"])), int(values["epochs"]))
    numbers = (float(values["initial"]), float(values["sparsity"]))
    steps = (int(values["begin"]), int(values["end"]), int(values["frequency"]))
    return Polynomial(*numbers, *steps, float(values["power"]))


class SparseNetwork(MendingNetwork):
    """A classifier whose masks grow while it is taught."""

    def __init__(self, model: Any, preprocess: Preprocess, step: Step, lessons: Lessons, seed: int) -> None:
        kernels = {op.name: op.layer.kernel for op in operations(model, NAME) if op.kind in _PRUNED}
        if not kernels:
            raise PassError(NAME, "the model has no convolution and no dense layer", "there is nothing to prune")
        super().__init__(model, preprocess, {name: kernel.numpy() != 0 for name, kernel in kernels.items()})
        self._kernels, self._values, self._lessons, self._seed = kernels, step.values, lessons, seed
        self._schedule = schedule_of(step.values)
        self._slopes: Any = None
        self._statistics = Statistics(model, lessons)

    def advance(self, step: int, total: int) -> None:
        """Before each step of training: put zeros where the schedule wants more of them."""
        share = self._schedule.share(step, total)
        if share is None:
            return
        if self._values["threshold"]:
            # Time and again: what L1 pulls below the threshold later goes too.
            self.set_masks(self._below())
        else:
            self.set_masks(masks_of(self.scores(), share, everywhere=self._values["scope"] == "global"))

    def finish(self) -> None:
        """All zeros at once, for a net that is not taught."""
        everywhere = self._values["scope"] == "global"
        share = float(self._values["sparsity"])
        self.set_masks(
            self._below() if self._values["threshold"] else masks_of(self.scores(), share, everywhere=everywhere)
        )

    def set_masks(self, masks: Masks) -> None:
        """What was zero stays zero; BatchNorm's statistics follow, so that its results change as little as they can."""
        pictures = int(self._values["pictures"])
        self.settle_masks()
        self._statistics.remember(pictures=pictures, seed=self._seed)
        for name, kept in masks.items():
            self.masks[name].assign(self.masks[name].numpy() * kept)
        self.settle_masks()
        self._statistics.measure(pictures=pictures, seed=self._seed)

    def _below(self) -> Masks:
        everywhere = self._values["scope"] == "global"
        return masks_below(self._weights(), float(self._values["threshold"]), everywhere=everywhere)

    def _weights(self) -> Scores:
        return {n: (k.numpy() * self.masks[n].numpy()).astype(np.float64) for n, k in self._kernels.items()}

    def scores(self) -> Scores:
        """What each weight is worth; below nothing where it is gone already."""
        weights, by = self._weights(), str(self._values["by"])
        if by == "random":
            rng = np.random.default_rng([self._seed, 14])
            found: Scores = {name: rng.random(values.shape) for name, values in weights.items()}
        elif by == "magnitude":
            found = {name: np.abs(values) for name, values in weights.items()}
            if self._values["scope"] == "global":
                # Sizes of weights say nothing across layers that BatchNorm scales.
                found = {name: values / max(1e-12, float(values.std())) for name, values in found.items()}
        else:
            # A square of a mean would be no curvature: the diagonal of the Fisher matrix is told picture by picture.
            power, batch = (1, _BATCH) if by == "gradient" else (2, 1)
            parts = self._gradients(power, batch)
            found = {name: parts[name] * np.abs(values) ** power / power for name, values in weights.items()}
        return {name: np.where(self.masks[name].numpy() > 0, values, -1.0) for name, values in found.items()}

    def _gradients(self, power: int, batch: int) -> Scores:
        """Mean of each weight's gradient to a power, in size, over batches of labelled pictures.

        Raises:
            PassError: None of them has a label.
        """
        import tensorflow as tf

        lessons = self._lessons.labelled()
        if not len(lessons.train):
            raise PassError(NAME, f"by={self._values['by']} needs pictures with labels", "take by=magnitude")
        if self._slopes is None:
            self._slopes = self._slope_step()
        draw = np.random.default_rng([self._seed, 15]).permutation(lessons.train)[: int(self._values["pictures"])]
        sums = {name: np.zeros(kernel.shape) for name, kernel in self._kernels.items()}
        starts = range(0, len(draw), batch)
        for start in starts:
            at = draw[start : start + batch]
            found = self._slopes(tf.constant(lessons.exact(at)), tf.constant(lessons.targets[at]))
            for name, gradient in zip(self._kernels, found, strict=True):
                sums[name] += np.abs(gradient.numpy()) ** power
        return {name: values / len(starts) for name, values in sums.items()}

    def _slope_step(self) -> Any:
        import tensorflow as tf

        spec = self._lessons.preprocess
        shape = tf.TensorSpec((None, spec.height, spec.width, spec.channels), tf.uint8)

        @tf.function(input_signature=[shape, tf.TensorSpec((None,), tf.int64)])  # type: ignore[untyped-decorator]
        def slopes(pixels: Any, targets: Any) -> Any:
            with tf.GradientTape() as tape:
                logits = self.outputs(pixels, training=False)["logits"]
                loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits))
            return tape.gradient(loss, [kernel.value for kernel in self._kernels.values()])

        return slopes


def prune_weights(subject: Subject, step: Step, workshop: Workshop) -> Subject:
    """Teach the net while its weights become zero; the model is changed in place.

    Raises:
        PassError: It has no weights of the kind, or there is nothing to learn from.
    """
    teacher = teacher_of(subject, step, workshop)
    epochs = int(step.values["epochs"])
    network = SparseNetwork(subject.model, subject.preprocess, step, workshop.lessons, workshop.seed)
    if epochs:
        pull = float(step.values["l1"])
        mend(subject, network, teacher, step, workshop, epochs=epochs, stage=NAME, pull=pull)
    else:
        network.finish()
    network.settle_masks()
    gone = sum(int((mask.numpy() == 0).sum()) for mask in network.masks.values())
    whole = sum(mask.numpy().size for mask in network.masks.values())
    notes = [f"{gone:,} of {whole:,} weights are zero ({100 * gone / whole:.1f} %)", SENTENCE]
    return replace(subject, facts={**subject.facts, "notes": notes})
