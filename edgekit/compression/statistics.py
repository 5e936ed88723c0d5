"""BatchNorm's mean and variance follow a change of weights: after a cut they describe a network that is gone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.compression.channels import NAME
from edgekit.compression.keras_graph import Operation, operations
from edgekit.compression.walking import plainly, walk
from edgekit.keras_network import normalised
from edgekit.learning import Lessons, Progress

_BATCH = 32
_TINY = 1e-12


# A channel that lost all it read has no spread left to scale by.
_RATIOS = 0.05, 20.0


class Statistics:
    """Mends them, in place, as often as the weights change."""

    def __init__(self, model: Any, lessons: Lessons) -> None:
        """Args: the classifier; where the pictures come from: augmented ones, as in training."""
        self._lessons, self._found = lessons, operations(model, NAME)
        self._norms = [op for op in self._found if op.kind == "BatchNormalization"]
        self._runs: dict[bool, Any] = {}
        self._before: list[tuple[Any, ...]] = []

    def remember(self, *, pictures: int, seed: int) -> None:
        """See what each BatchNorm reads now; what is measured later keeps its results as they are.

        Statistics in use need not be those of the pictures: a net that was taught with frozen ones lives with them, and
        what a change of weights did is then told from how the moments moved. Args: as of `measure`, and the same.
        """
        self._before = self._batches(None, pictures, seed)

    def follow(self, whole: Statistics, kept: Mapping[str, npt.NDArray[np.bool_]]) -> None:
        """Take what a larger model remembered: this one is what was left of it.

        Args:
            whole: Has remembered, on the same pictures.
            kept: Name of a BatchNorm -> which of its channels are left; those named alike are the same layer.
        """
        at = {op.name: number for number, op in enumerate(whole._norms)}
        self._before = [
            (count, [tuple(part[kept[op.name]] for part in found[at[op.name]]) for op in self._norms])
            for count, found in whole._before
        ]

    def measure(self, *, pictures: int, seed: int, progress: Progress | None = None) -> None:
        """Set every BatchNorm's statistics so that its results keep the moments that were remembered.

        Each batch is normalised by its own meanwhile.

        Args:
            pictures: How many at most.
            seed: Draws them.
            progress: Called with (stage, done, total).
        """
        batches = self._batches(self._before, pictures, seed, progress)
        weights = [count for count, _ in batches]
        for at, op in enumerate(self._norms if batches else []):
            mean, variance = (
                np.average([found[at][part] for _, found in batches], axis=0, weights=weights) for part in (0, 1)
            )
            op.layer.moving_mean.assign(mean)
            op.layer.moving_variance.assign(np.maximum(variance, 0))

    def _batches(
        self, kept: list[tuple[Any, ...]] | None, pictures: int, seed: int, progress: Progress | None = None
    ) -> list[Any]:
        """(pictures, (mean, variance) of every BatchNorm), batch by batch; nothing where there are none.

        What BatchNorm reads; or, where moments are to be kept, the statistics that keep them.
        """
        import tensorflow as tf

        lessons, norms = self._lessons, self._norms
        places = np.random.default_rng([seed, 13]).permutation(lessons.train)[:pictures]
        if not norms or not len(places):
            return []
        keep = kept is not None
        if keep not in self._runs:
            spec = lessons.preprocess
            shape = tf.TensorSpec((None, spec.height, spec.width, spec.channels), tf.uint8)
            kinds = [[tf.TensorSpec(op.layer.moving_mean.shape, tf.float32)] * 2 for op in norms]
            self._runs[keep] = tf.function(self._moments, input_signature=[shape, kinds if keep else []])
        done: list[Any] = []
        for start in range(0, len(places), _BATCH):
            part = places[start : start + _BATCH]
            before = [list(pair) for pair in kept[len(done)][1]] if kept is not None else []
            found = self._runs[keep](tf.constant(lessons.changed(part, 0)), before)
            done.append((len(part), [(mean.numpy(), variance.numpy()) for mean, variance in found]))
            if progress:
                progress(f"{NAME}: statistics", min(start + _BATCH, len(places)), len(places))
        return done

    def _moments(self, pixels: Any, before: Any) -> list[Any]:
        """Of one batch: moments as in use, or statistics under which the results keep those of before."""
        import tensorflow as tf

        moments: list[Any] = []

        def call(op: Operation, value: Any) -> Any:
            if op.kind != "BatchNormalization":
                return plainly(op, value)
            mean, variance = tf.nn.moments(value, axes=list(range(len(value.shape) - 1)))
            layer = op.layer
            if before:
                old_mean, old_variance = before[len(moments)]
                ratio = tf.sqrt((variance + _TINY) / (old_variance + _TINY))
                ratio = tf.clip_by_value(ratio, *_RATIOS)
                mean = mean - (old_mean - layer.moving_mean) * ratio
                variance = (layer.moving_variance + layer.epsilon) * ratio**2 - layer.epsilon
            moments.append((mean, variance))
            if not before:
                return plainly(op, value)
            offset, scale = (layer.beta if layer.center else None), (layer.gamma if layer.scale else None)
            return tf.nn.batch_normalization(value, mean, variance, offset, scale, layer.epsilon)

        walk(self._found, normalised(pixels, self._lessons.preprocess), call)
        return moments
