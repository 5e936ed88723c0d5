"""A model with channels and blocks taken away: an ordinary smaller Keras model, with the weights of what stays."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.compression.channels import ChannelGraph
from edgekit.compression.keras_graph import Operation

Kept = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Cut:
    """What stays.

    Attributes:
        kept: For each channel whether it stays, shape (count,).
        dropped: Names of the blocks that go.
    """

    kept: Kept
    dropped: tuple[str, ...] = ()


def rebuild(model: Any, graph: ChannelGraph, cut: Cut) -> Any:
    """Build the smaller model.

    Args:
        model: The model that `graph` was found from; it is left as it is.
        graph: Its channels.
        cut: What stays.

    Returns:
        A functional ``keras.Model`` with the same layer names.
    """
    import keras

    gone, instead = _left_out(graph, cut.dropped)
    values: dict[int, Any] = {}
    weights: list[tuple[Any, list[Any]]] = []
    image = None
    for op in graph.found:
        if op.name in gone:
            continue
        if op.output in instead:
            values[op.output] = values[instead[op.output]]
            continue
        if op.kind == "InputLayer":
            image = keras.Input(batch_shape=op.layer.batch_shape, name=op.name, dtype=op.layer.dtype)
            values[op.output] = image
            continue
        layer = type(op.layer).from_config(_config(op, graph, cut.kept))
        read = [values[value] for value in op.inputs]
        values[op.output] = layer(read[0] if len(read) == 1 else read)
        if op.layer.weights:
            weights.append((layer, [tensor[place] for tensor, place in _kept_parts(op, graph, cut.kept)]))
    smaller = keras.Model(image, values[id(model.outputs[0])], name=model.name)
    for layer, tensors in weights:
        layer.set_weights(tensors)
    return smaller


def zero(model: Any, graph: ChannelGraph, cut: Cut) -> None:
    """Put zeros where `rebuild` takes away, in place: the model that the smaller one must equal."""
    last: dict[str, Operation] = {}
    named = {op.name: op for op in graph.found}
    for block in graph.blocks:
        if block.name in cut.dropped:
            last[block.name] = next(named[name] for name in reversed(block.layers) if named[name].layer.weights)
    for op in graph.found:
        if not op.layer.weights:
            continue
        whole = op in last.values()
        tensors = []
        for at, (tensor, place) in enumerate(_kept_parts(op, graph, cut.kept)):
            # The variance stays: it is divided by. The mean does not: without a scale it would be left over.
            if op.kind == "BatchNormalization" and at == len(op.layer.get_weights()) - 1:
                tensors.append(tensor)
                continue
            emptied = np.zeros_like(tensor)
            if not whole:
                emptied[place] = tensor[place]
            tensors.append(emptied)
        op.layer.set_weights(tensors)


def _left_out(graph: ChannelGraph, dropped: Collection[str]) -> tuple[set[str], dict[int, int]]:
    """(names of layers that are not built, value -> the one that stands for it)."""
    gone: set[str] = set()
    instead: dict[int, int] = {}
    output = {op.name: op.output for op in graph.found}
    for block in graph.blocks:
        if block.name in dropped:
            gone |= set(block.layers)
            instead[output[block.name]] = block.entry
    return gone, instead


def _config(op: Operation, graph: ChannelGraph, kept: Kept) -> dict[str, Any]:
    config = dict(op.layer.get_config())
    left = int(kept[graph.of[op.output]].sum())
    if op.kind == "Conv2D":
        config["filters"] = left
    elif op.kind == "Dense":
        config["units"] = left
    elif op.kind == "Reshape":
        config["target_shape"] = (*op.layer.target_shape[:-1], left)
    return config


def _kept_parts(op: Operation, graph: ChannelGraph, kept: Kept) -> list[tuple[npt.NDArray[np.float32], Any]]:
    """Each weight of a layer with the index of what stays of it."""
    tensors = op.layer.get_weights()
    out = np.flatnonzero(kept[graph.of[op.output]])
    if op.kind == "BatchNormalization":
        return [(tensor, np.ix_(out)) for tensor in tensors]
    read = np.flatnonzero(kept[graph.of[op.inputs[0]]])
    kernel, *bias = tensors
    if op.kind == "DepthwiseConv2D":
        place: Any = (slice(None), slice(None), read)
    elif op.kind == "Dense":
        place = np.ix_(read, out)
    else:
        place = (slice(None), slice(None), read[:, None], out[None, :])
    return [(kernel, place), *((tensor, np.ix_(out)) for tensor in bias)]
