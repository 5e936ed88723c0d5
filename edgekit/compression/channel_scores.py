"""What a channel is worth: by its weights, by BatchNorm's scale, by the loss without it, by what it carries, by lot.

Sources: magnitude, H. Li et al. 2017; BatchNorm, Z. Liu et al. 2017 ("network slimming"); Taylor, P. Molchanov et al.
2019, with gates behind each channel; activations after H. Hu et al. 2016 ("network trimming").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.compression.channels import MINTING, NAME, ChannelGraph
from edgekit.compression.choosing import Scores, Worth
from edgekit.compression.keras_graph import WEIGHTED, readers
from edgekit.compression.walking import plainly, walk
from edgekit.errors import PassError
from edgekit.keras_network import last_tensors, logits_of, normalised
from edgekit.learning import Lessons, Places, Progress

WAYS = ("taylor", "magnitude", "bn", "activation", "random")
_BATCH = 16
_SILENT = 0.1


def worth_of(
    model: Any, graph: ChannelGraph, by: str, lessons: Lessons, *, pictures: int, seed: int, progress: Progress | None
) -> Worth:
    """Score every channel and block.

    Args:
        model: The classifier.
        graph: Its channels.
        by: One of WAYS.
        lessons: Pictures, for the ways that look at some.
        pictures: How many of them at most.
        seed: Draws the pictures, and the lots.
        progress: Called with (stage, done, total).

    Raises:
        PassError: The way does not suit the model.
    """
    if by == "random":
        rng = np.random.default_rng([seed, 11])
        return Worth(rng.random(graph.count), {block.name: float(rng.random()) for block in graph.blocks})
    if by in ("magnitude", "bn"):
        scores = _by_magnitude(graph) if by == "magnitude" else _by_scale(graph)
        return Worth(scores, _branch_sums(graph, scores))
    looked = lessons.labelled().train if by == "taylor" else lessons.train
    if not len(looked):
        raise PassError(NAME, f"by={by} needs pictures with labels", "take by=magnitude or by=activation")
    places = np.random.default_rng([seed, 12]).permutation(looked)[:pictures]
    return _by_pictures(model, graph, lessons, places, slopes=by == "taylor", progress=progress)


def _by_magnitude(graph: ChannelGraph) -> Scores:
    """Root of the sum of squares of every weight that a channel takes with it, each layer's mean being 1."""
    total = np.zeros(graph.count)
    for op in graph.found:
        if op.kind not in WEIGHTED:
            continue
        squares = np.square(op.layer.kernel.numpy().astype(np.float64))
        read, made = graph.of[op.inputs[0]], graph.of[op.output]
        if op.kind == "DepthwiseConv2D":
            _add(total, read, squares.sum(axis=(0, 1, 3)))
            continue
        _add(total, made, squares.sum(axis=tuple(range(squares.ndim - 1))))
        _add(total, read, squares.sum(axis=(*range(squares.ndim - 2), -1)))
    return _in_groups(graph, np.sqrt(total))


def _add(total: Scores, channels: npt.NDArray[np.int64], values: Scores) -> None:
    mean = float(values.mean())
    np.add.at(total, channels, values / mean if mean > 0 else values)


def _by_scale(graph: ChannelGraph) -> Scores:
    """Mean size of the scales of the BatchNorms that a channel passes."""
    total, seen = np.zeros(graph.count), np.zeros(graph.count)
    for op in graph.found:
        if op.kind == "BatchNormalization" and op.layer.scale:
            np.add.at(total, graph.of[op.output], np.abs(op.layer.gamma.numpy()).astype(np.float64))
            np.add.at(seen, graph.of[op.output], 1)
    for group in graph.groups:
        if not seen[group.channels].all():
            problem = f"by=bn: '{group.name}' has no BatchNormalization with a scale behind it"
            raise PassError(NAME, problem, "take by=taylor or by=magnitude")
    return _in_groups(graph, total / np.maximum(seen, 1))


def _in_groups(graph: ChannelGraph, scores: Scores) -> Scores:
    """Divided by each group's mean: sizes of weights say nothing across layers."""
    scaled = scores.copy()
    for group in graph.groups:
        mean = float(scores[group.channels].mean())
        if mean > 0:
            scaled[group.channels] = scores[group.channels] / mean
    return scaled


def _branch_sums(graph: ChannelGraph, scores: Scores) -> dict[str, float]:
    """A branch is worth what the channels are that it alone makes, or else those that it ends in."""
    made = {op.name: graph.of[op.output] for op in graph.found if op.kind in MINTING}
    worth = {}
    for block in graph.blocks:
        inside = np.concatenate([made[name] for name in block.layers if name in made] or [graph.of[block.exit]])
        worth[block.name] = float(scores[np.unique(inside)].mean())
    return worth


def _by_pictures(
    model: Any,
    graph: ChannelGraph,
    lessons: Lessons,
    places: Places,
    *,
    slopes: bool,
    progress: Progress | None,
) -> Worth:
    """Mean square of gradient times value summed over a picture, or how often a channel is active, a group's mean 1."""
    gates = _gates(graph)
    exits = {block.exit for block in graph.blocks}
    seen = np.zeros(graph.count)
    branches = {block.name: 0.0 for block in graph.blocks}
    run = _step(model, graph, lessons, sorted({*gates, *exits}), slopes=slopes)
    for start in range(0, len(places), _BATCH):
        at = places[start : start + _BATCH]
        found = run(lessons.exact(at), lessons.targets[at])
        each = np.zeros((len(at), graph.count))
        for gate in gates:
            np.add.at(each.T, graph.of[gate], found[gate].T)
        seen += (np.square(each) if slopes else each).sum(axis=0)
        for block in graph.blocks:
            whole = found[block.exit].sum(axis=1)
            branches[block.name] += float((np.square(whole) if slopes else whole).sum())
        if progress:
            progress(f"{NAME}: score", min(start + _BATCH, len(places)), len(places))
    scores = seen / len(places)
    channels = scores if slopes else _in_groups(graph, scores)
    return Worth(channels, {name: value / len(places) for name, value in branches.items()})


def _gates(graph: ChannelGraph) -> list[int]:
    """Where each maker's channels are seen last before they are mixed, added or read twice."""
    read = readers(list(graph.found))
    behind = {op.inputs[0]: op for op in graph.found if len(op.inputs) == 1}
    gates = []
    for op in graph.found:
        if op.kind not in MINTING or graph.fixed[graph.of[op.output]].all():
            continue
        value = op.output
        while read[value] == 1 and value in behind and behind[value].kind not in MINTING:
            value = behind[value].output
        gates.append(value)
    return gates


def _active(value: Any) -> Any:
    """Share of a channel's places at which it says something, for each picture, shape (n, C).

    Behind a ReLU that is where it is not zero; elsewhere, and for what is as good as zero, where it is more than a
    tenth of its layer's root mean square.
    """
    import tensorflow as tf

    floor = _SILENT * tf.sqrt(tf.reduce_mean(tf.square(value)))
    said = tf.cast(tf.abs(value) > floor, tf.float32)
    return tf.reduce_mean(said, axis=list(range(1, len(value.shape) - 1)))


def _step(
    model: Any, graph: ChannelGraph, lessons: Lessons, watched: list[int], *, slopes: bool
) -> Callable[[Any, Any], Mapping[int, npt.NDArray[np.float64]]]:
    """(pixels, classes) -> value -> for each picture and channel, shape (n, C)."""
    import tensorflow as tf

    last, probable, _ = last_tensors(model)
    output = id(last)

    def compute(pixels: Any, targets: Any) -> list[Any]:
        image = normalised(pixels, lessons.preprocess)
        with tf.GradientTape() as tape:
            kept: dict[int, Any] = {}

            def call(op: Any, value: Any) -> Any:
                made = plainly(op, value)
                if op.output in watched:
                    made = tf.identity(made)
                    tape.watch(made)
                    kept[op.output] = made
                return made

            logits = logits_of(walk(graph.found, image, call)[output], probable)
            # Scores from values alone need no class; -1 stands for none.
            known = tf.maximum(targets, 0)
            loss = tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(known, logits))
        values = [kept[value] for value in watched]
        if slopes:
            gradients = tape.gradient(loss, values)
            parts = [value * gradient for value, gradient in zip(values, gradients, strict=True)]
            return [tf.reduce_sum(part, axis=list(range(1, len(part.shape) - 1))) for part in parts]
        return [_active(value) for value in values]

    spec = lessons.preprocess
    signature = [
        tf.TensorSpec((None, spec.height, spec.width, spec.channels), tf.uint8),
        tf.TensorSpec((None,), tf.int64),
    ]
    graph_of = tf.function(compute, input_signature=signature)
    return lambda pixels, targets: {
        value: np.asarray(found, np.float64)
        for value, found in zip(watched, graph_of(tf.constant(pixels), tf.constant(targets)), strict=True)
    }
