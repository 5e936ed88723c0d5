"""BatchNorm's mean and variance measured anew on some pictures: after a cut they describe a network that is gone."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit.compression.channels import NAME
from edgekit.compression.keras_graph import Operation, operations
from edgekit.compression.walking import plainly, walk
from edgekit.keras_network import normalised
from edgekit.learning import Lessons, Progress

_BATCH = 32


def settle(model: Any, lessons: Lessons, *, pictures: int, seed: int, progress: Progress | None = None) -> None:
    """Measure the statistics of every BatchNorm, in place; each batch is normalised by its own meanwhile.

    Args:
        model: The classifier.
        lessons: Where the pictures come from; augmented ones, as in training.
        pictures: How many at most.
        seed: Draws them.
        progress: Called with (stage, done, total).
    """
    import tensorflow as tf

    found = operations(model, NAME)
    norms = [op for op in found if op.kind == "BatchNormalization"]
    places = np.random.default_rng([seed, 13]).permutation(lessons.train)[:pictures]
    if not norms or not len(places):
        return

    def compute(pixels: Any) -> list[Any]:
        moments: list[Any] = []

        def call(op: Operation, value: Any) -> Any:
            if op.kind != "BatchNormalization":
                return plainly(op, value)
            mean, variance = tf.nn.moments(value, axes=list(range(len(value.shape) - 1)))
            moments.append((mean, variance))
            layer = op.layer
            offset, scale = (layer.beta if layer.center else None), (layer.gamma if layer.scale else None)
            return tf.nn.batch_normalization(value, mean, variance, offset, scale, layer.epsilon)

        walk(found, normalised(pixels, lessons.preprocess), call)
        return moments

    spec = lessons.preprocess
    run = tf.function(
        compute, input_signature=[tf.TensorSpec((None, spec.height, spec.width, spec.channels), tf.uint8)]
    )
    sums = [[np.zeros(op.layer.moving_mean.shape), np.zeros(op.layer.moving_mean.shape)] for op in norms]
    for start in range(0, len(places), _BATCH):
        part = places[start : start + _BATCH]
        for total, (mean, variance) in zip(sums, run(tf.constant(lessons.changed(part, 0))), strict=True):
            total[0] += len(part) * mean.numpy()
            total[1] += len(part) * variance.numpy()
        if progress:
            progress(f"{NAME}: statistics", min(start + _BATCH, len(places)), len(places))
    for op, (mean, variance) in zip(norms, sums, strict=True):
        op.layer.moving_mean.assign(mean / len(places))
        op.layer.moving_variance.assign(variance / len(places))
