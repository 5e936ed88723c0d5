"""Which channels of a Keras classifier hang together: what must go at once when one of them goes.

Every convolution and dense layer mints channels; an addition makes two of them one; a depthwise convolution,
BatchNorm, activations and pooling carry them on; flattening repeats them. The idea is that of G. Fang et al.,
"DepGraph: towards any structural pruning", 2023, found here from the Keras graph, a channel at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.compression.keras_graph import Operation, check_channels_last, operations, readers
from edgekit.errors import PassError

NAME = "prune"
Ids = npt.NDArray[np.int64]
MINTING = ("Conv2D", "Dense")
_CARRYING = (
    "BatchNormalization",
    "ReLU",
    "LeakyReLU",
    "Dropout",
    "SpatialDropout2D",
    "ZeroPadding2D",
    "Cropping2D",
    "UpSampling2D",
    "MaxPooling2D",
    "AveragePooling2D",
    "GlobalMaxPooling2D",
    "GlobalAveragePooling2D",
    "Activation",
)
_JOINING = ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum")
# They leave nothing nothing: a channel of zeros stays one, so taking it away changes nothing.
_KEEP_ZERO = ("linear", "relu", "relu6", "leaky_relu", "elu", "selu", "gelu", "silu", "swish", "tanh", "hard_silu")
_KNOWN = (*MINTING, "DepthwiseConv2D", *_CARRYING, *_JOINING, "Concatenate", "Flatten", "Reshape", "Softmax")


@dataclass(frozen=True)
class Group:
    """Channels that the same layers mint; ranked against one another.

    Attributes:
        name: Its first layer.
        makers: All of its layers, in order.
        channels: Their numbers.
    """

    name: str
    makers: tuple[str, ...]
    channels: Ids


@dataclass(frozen=True)
class Block:
    """A branch beside an identity shortcut, which can be left out as a whole.

    Attributes:
        name: The addition that ends it.
        layers: The branch, in order.
        entry: Number of the value that both it and the shortcut begin with.
        exit: Number of the value that the addition takes from it.
    """

    name: str
    layers: tuple[str, ...]
    entry: int
    exit: int


@dataclass(frozen=True)
class ChannelGraph:
    """The channels of a model.

    Attributes:
        found: Its operations in order.
        of: Value -> number of the channel at each place of its last axis, shape (C,).
        count: How many channels there are.
        fixed: Those that must stay, shape (count,): pixels and scores.
        groups: The others.
        blocks: Branches that can be left out.
    """

    found: tuple[Operation, ...]
    of: dict[int, Ids]
    count: int
    fixed: npt.NDArray[np.bool_]
    groups: tuple[Group, ...]
    blocks: tuple[Block, ...]


class _Unions:
    """Sets of channels that are one."""

    def __init__(self) -> None:
        self.parents: list[int] = []

    def mint(self, count: int) -> Ids:
        first = len(self.parents)
        self.parents += range(first, first + count)
        return np.arange(first, first + count)

    def find(self, one: int) -> int:
        while self.parents[one] != one:
            self.parents[one] = self.parents[self.parents[one]]
            one = self.parents[one]
        return one

    def join(self, ones: Ids, others: Ids) -> None:
        for one, other in zip(ones.tolist(), others.tolist(), strict=True):
            a, b = self.find(one), self.find(other)
            self.parents[max(a, b)] = min(a, b)


def find_channels(model: Any) -> ChannelGraph:
    """Follow every channel of a functional or sequential classifier.

    Raises:
        PassError: A layer cannot be followed; by its name.
    """
    found = operations(model, NAME)
    unions, of = _Unions(), dict[int, Ids]()
    minted: dict[str, Ids] = {}
    held: list[Ids] = []
    picky: list[tuple[Operation, Ids]] = []
    for op in found:
        check_channels_last(op, NAME)
        inputs = [of[value] for value in op.inputs]
        if op.kind == "InputLayer":
            out = unions.mint(int(op.layer.output.shape[-1]))
            held.append(out)
        else:
            out = _carried(op, inputs, unions)
            if op.kind in MINTING:
                minted[op.name] = out
        if not keeps_zero(op):
            picky.append((op, out))
        of[op.output] = out
    held.append(of[id(model.outputs[0])])
    roots = np.array([unions.find(one) for one in range(len(unions.parents))])
    numbers = {int(root): at for at, root in enumerate(sorted(set(roots.tolist())))}
    number = np.array([numbers[int(root)] for root in roots])
    of = {value: number[ids] for value, ids in of.items()}
    fixed = np.zeros(len(numbers), bool)
    for ids in held:
        fixed[number[ids]] = True
    for op, ids in picky:
        if not fixed[number[ids]].all():
            raise PassError(
                NAME,
                f"'{op.name}' turns zeros into something else, so no channel before it can be taken away",
                "use relu, relu6 or tanh there",
            )
    groups = _groups({name: number[ids] for name, ids in minted.items()}, len(numbers), fixed)
    return ChannelGraph(tuple(found), of, len(numbers), fixed, groups, _blocks(found))


def _carried(op: Operation, inputs: list[Ids], unions: _Unions) -> Ids:
    """Channels behind an operation."""
    layer = op.layer
    if op.kind in MINTING:
        if getattr(layer, "groups", 1) != 1:
            raise PassError(NAME, f"'{op.name}' is a convolution in groups, which it cannot follow", "use groups=1")
        return unions.mint(int(layer.output.shape[-1]))
    if op.kind == "DepthwiseConv2D":
        return np.repeat(inputs[0], layer.depth_multiplier)
    if op.kind == "BatchNormalization" and layer.axis not in (-1, len(layer.output.shape) - 1):
        raise PassError(NAME, f"BatchNormalization '{op.name}' is not over channels", "use axis=-1")
    if op.kind in _CARRYING or op.kind == "Softmax":
        return inputs[0]
    if op.kind in _JOINING:
        for other in inputs[1:]:
            if len(other) != len(inputs[0]):
                raise PassError(NAME, f"'{op.name}' spreads one input over another", "give both the same shape")
            unions.join(inputs[0], other)
        return inputs[0]
    if op.kind == "Concatenate" and layer.axis in (-1, len(layer.output.shape) - 1):
        return np.concatenate(inputs)
    before, after = _shape(layer.input) if len(op.inputs) == 1 else (), _shape(layer.output)
    if op.kind in ("Flatten", "Reshape"):
        if after[-1] == before[-1] and (op.kind == "Reshape" or len(before) == 2):
            return inputs[0]
        if len(after) == 2 and after[-1] % before[-1] == 0:
            return np.tile(inputs[0], after[-1] // before[-1])
    known = ", ".join(sorted(_KNOWN))
    raise PassError(
        NAME, f"'{op.name}' is a {op.kind}, whose channels it cannot follow (it knows {known})", "replace it"
    )


def _shape(tensor: Any) -> tuple[int, ...]:
    return tuple(tensor.shape)


def keeps_zero(op: Operation) -> bool:
    """Whether a channel of zeros stays one behind it."""
    if op.kind == "Softmax":
        return False
    if op.kind == "ReLU":
        return not op.layer.threshold or op.layer.threshold > 0
    activation = getattr(op.layer, "activation", None)
    return activation is None or getattr(activation, "__name__", "") in _KEEP_ZERO


def _groups(minted: dict[str, Ids], count: int, fixed: npt.NDArray[np.bool_]) -> tuple[Group, ...]:
    makers: list[list[str]] = [[] for _ in range(count)]
    for name, ids in minted.items():
        for one in dict.fromkeys(ids.tolist()):
            makers[one].append(name)
    sorted_in: dict[tuple[str, ...], list[int]] = {}
    for one, names in enumerate(makers):
        if names and not fixed[one]:
            sorted_in.setdefault(tuple(names), []).append(one)
    return tuple(Group(names[0], names, np.array(ones)) for names, ones in sorted_in.items())


def _blocks(found: Sequence[Operation]) -> tuple[Block, ...]:
    """Additions of a value and of a straight branch that begins with it."""
    read = readers(list(found))
    maker, maker_of = {op.output: op for op in found}, {op.name: op for op in found}
    blocks = []
    for op in found:
        if op.kind != "Add" or len(op.inputs) != 2:
            continue
        for end, start in (op.inputs, op.inputs[::-1]):
            chain, value = [], end
            while value != start and read[value] == 1 and len(maker[value].inputs) == 1:
                chain.append(maker[value].name)
                value = maker[value].inputs[0]
            # A branch without weights is no layer that could go.
            if value == start and any(maker_of[name].layer.weights for name in chain):
                blocks.append(Block(op.name, tuple(reversed(chain)), start, end))
                break
    return tuple(blocks)
