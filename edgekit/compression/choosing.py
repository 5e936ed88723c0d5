"""Which channels and blocks go: a decision from scores and costs alone.

The cheapest loss first: of all groups the one whose next channels are worth least for what they cost goes on losing
them, until the budget is met. Counts stay multiples of what kernels like, and no group loses more than its share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from edgekit.compression.channels import NAME, ChannelGraph, Ids
from edgekit.compression.keras_graph import WEIGHTED
from edgekit.compression.rebuilding import Cut
from edgekit.errors import PassError

Scores = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Shape:
    """One layer with weights, as far as its cost goes.

    Attributes:
        kind: ``Conv2D``, ``DepthwiseConv2D`` or ``Dense``.
        kernel: Side of the kernel in pixels.
        stride: In pixels.
        positions: Places at which the kernel is applied.
        channels_in: Channels read; for a depthwise layer those of its output.
        channels_out: Channels made.
    """

    kind: str
    kernel: int
    stride: int
    positions: int
    channels_in: int
    channels_out: int


Cost = Callable[[Shape], float]


def multiply_adds(shape: Shape) -> float:
    """Multiply-adds of one layer for one image."""
    reads = 1 if shape.kind == "DepthwiseConv2D" else shape.channels_in
    return float(shape.positions * shape.kernel**2 * reads * shape.channels_out)


def int8_bytes(shape: Shape) -> float:
    """Bytes of one layer in an int8 .tflite: weights, a bias of four bytes and a scale of four for each channel."""
    reads = 1 if shape.kind == "DepthwiseConv2D" else shape.channels_in
    return float(shape.kernel**2 * reads * shape.channels_out + 8 * shape.channels_out)


@dataclass(frozen=True)
class Site:
    """A layer with weights at its place in the graph."""

    name: str
    shape: Shape
    read: Ids
    made: Ids

    def at(self, kept: npt.NDArray[np.bool_]) -> Shape:
        """Its shape when only these channels are left."""
        return replace(self.shape, channels_in=int(kept[self.read].sum()), channels_out=int(kept[self.made].sum()))


def sites(graph: ChannelGraph) -> list[Site]:
    """Every layer with a kernel."""
    found = []
    for op in graph.found:
        if op.kind not in WEIGHTED:
            continue
        kernel = op.layer.kernel.shape
        # A kernel that is not square counts as the square of the same area.
        side = 1 if op.kind == "Dense" else round((kernel[0] * kernel[1]) ** 0.5)
        stride = 1 if op.kind == "Dense" else int(op.layer.strides[0])
        positions = int(np.prod(op.layer.output.shape[1:-1], dtype=np.int64))
        read, made = graph.of[op.inputs[0]], graph.of[op.output]
        shape = Shape(op.kind, side, stride, positions, len(read), len(made))
        found.append(Site(op.name, shape, read, made))
    return found


def total_cost(graph: ChannelGraph, cost: Cost, cut: Cut | None = None) -> float:
    """What a model costs with only these channels and blocks."""
    kept = np.ones(graph.count, bool) if cut is None else cut.kept
    gone = _layers_of(graph, cut.dropped if cut else ())
    return sum(cost(site.at(kept)) for site in sites(graph) if site.name not in gone)


def _layers_of(graph: ChannelGraph, dropped: Sequence[str]) -> set[str]:
    return {name for block in graph.blocks if block.name in dropped for name in block.layers}


@dataclass(frozen=True)
class Rule:
    """How to choose.

    Attributes:
        round: Counts are kept at multiples of this.
        floor: Share of each group that stays at least.
        spread: ``global`` ranks all groups together by score for cost; ``even`` takes the same share of each.
        what: ``channels``, ``blocks`` or ``both``.
        least: Makers of a group -> channels that stay at least, where the model was cut before: a share of what it had
            then.
    """

    round: int = 8
    floor: float = 0.2
    spread: str = "global"
    what: str = "channels"
    least: Mapping[tuple[str, ...], float] = field(default_factory=dict)


@dataclass(frozen=True)
class Worth:
    """What is lost with a channel or a block.

    Attributes:
        channels: Shape (count,); of the fixed ones it means nothing.
        blocks: Name of a block -> what the whole branch is worth.
    """

    channels: Scores
    blocks: Mapping[str, float]


def choose(
    graph: ChannelGraph,
    worth: Worth,
    budget: float,
    cost: Cost,
    rule: Rule,
    unit: str = "",
    per: Cost | None = None,
) -> Cut:
    """Choose what stays within a budget.

    Args:
        graph: The channels.
        worth: Their scores.
        budget: The cost at most.
        cost: Of one layer.
        rule: How.
        unit: What the budget is called, for errors.
        per: What a score is divided by when groups are ranked together; by default the budget's own cost.

    Raises:
        PassError: The budget cannot be met.
    """
    state = _State(graph, worth, cost, per or cost, rule)
    while state.total > budget:
        offers = state.offers()
        if not offers:
            share = f"{100 * state.total / state.whole:.0f} %"
            left, remedy = "with the least of every group left", f"lower floor={rule.floor:g} or round={rule.round}"
            if rule.what == "blocks":
                left, remedy = "without any of the blocks", "take what=both, which takes channels too"
            problem = f"{unit or 'the budget'} cannot be met: {left} it still takes {share}"
            raise PassError(NAME, problem, f"ask for more, or {remedy}")
        state.take(min(offers, key=lambda offer: offer.price))
    return Cut(state.kept, tuple(state.dropped))


@dataclass(frozen=True)
class _Offer:
    """What could go next.

    Attributes:
        price: Worth lost for cost saved, or the share lost so far.
        move: Number of a group or name of a block.
        going: The channels, of a group.
    """

    price: float
    move: int | str
    going: Ids = field(default_factory=lambda: np.zeros(0, np.int64))


class _State:
    """What is left while choosing."""

    def __init__(self, graph: ChannelGraph, worth: Worth, cost: Cost, per: Cost, rule: Rule) -> None:
        self.worth, self.cost, self.per, self.rule, self.graph = worth, cost, per, rule, graph
        self.kept = np.ones(graph.count, bool)
        self.dropped: list[str] = []
        self._sites = {site.name: site for site in sites(graph)}
        self._costs = {name: cost(site.at(self.kept)) for name, site in self._sites.items()}
        self.total = self.whole = sum(self._costs.values())
        # The worst first; equal ones by number.
        self._queues = [
            group.channels[np.argsort(worth.channels[group.channels], kind="stable")] for group in graph.groups
        ]
        self._left = [len(queue) for queue in self._queues]
        self._touched = [
            [n for n, s in self._sites.items() if np.isin(queue, s.read).any() or np.isin(queue, s.made).any()]
            for queue in self._queues
        ]
        self._least = [rule.least.get(group.makers, rule.floor * len(group.channels)) for group in graph.groups]

    def offers(self) -> list[_Offer]:
        """One of each group and block that could lose something."""
        channels = self._of_groups() if self.rule.what in ("channels", "both") else ()
        blocks = self._of_blocks() if self.rule.what in ("blocks", "both") else ()
        return [*channels, *blocks]

    def _of_groups(self) -> Iterator[_Offer]:
        for group, queue in enumerate(self._queues):
            # A kernel that works on tiles costs the same until a whole one is empty.
            for going in self._steps(group):
                if self.rule.spread == "even":
                    yield _Offer(1 - (self._left[group] - len(going)) / len(queue), group, going)
                    break
                saved = self._saved(group, going)
                if saved > 0:
                    yield _Offer(float(self.worth.channels[going].sum()) / saved, group, going)
                    break

    def _of_blocks(self) -> Iterator[_Offer]:
        for block in self.graph.blocks:
            saved = sum(self.per(self._sites[name].at(self.kept)) for name in self._branch(block.name))
            if saved > 0:
                yield _Offer(float(self.worth.blocks[block.name]) / saved, block.name)

    def take(self, offer: _Offer) -> None:
        """Let it go."""
        if isinstance(offer.move, str):
            for name in self._branch(offer.move):
                self.total -= self._costs.pop(name)
                del self._sites[name]
            self.dropped.append(offer.move)
            return
        self.kept[offer.going] = False
        self._left[offer.move] -= len(offer.going)
        for name in self._touched[offer.move]:
            if name in self._sites:
                now = self.cost(self._sites[name].at(self.kept))
                self.total += now - self._costs[name]
                self._costs[name] = now

    def _branch(self, name: str) -> list[str]:
        block = next(block for block in self.graph.blocks if block.name == name)
        return [layer for layer in block.layers if layer in self._costs]

    def _steps(self, group: int) -> Iterator[Ids]:
        """The channels that would go next: down to each round count that is still allowed."""
        queue, step = self._queues[group], self.rule.round
        gone, after = len(queue) - self._left[group], self._left[group]
        while (after := (after - 1) // step * step) >= max(1, step, self._least[group]):
            yield queue[gone : len(queue) - after]

    def _saved(self, group: int, going: Ids) -> float:
        touched = [self._sites[name] for name in self._touched[group] if name in self._sites]
        before = [site.at(self.kept) for site in touched]
        self.kept[going] = False
        after = [site.at(self.kept) for site in touched]
        self.kept[going] = True
        return sum(self.per(was) - self.per(now) for was, now in zip(before, after, strict=True))
