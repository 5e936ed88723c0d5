"""Layer blame: which layer of a quantised model costs what, what one swapped back to float brings, what to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.artefacts import read_sidecar
from edgekit.data import data_path
from edgekit.errors import UsageError
from edgekit.inputs import existing, preprocess_of

if TYPE_CHECKING:
    from edgekit.compression.graph import FloatGraph
    from edgekit.compression.sensitivity import Swap
    from edgekit.conversion.calibration import Crop
    from edgekit.verification.agreement import Agreement
    from edgekit.verification.blame import Blamed
    from edgekit_device.contract.preprocess import Preprocess
    from edgekit_device.infer.flatbuffer import ModelInfo

Progress = Callable[[str, int, int], None]

# Every activation of every crop is kept in memory: 30 MB a crop for lite0, 90 for lite4.
_CROPS = 12
_REMEDIES = 6
_BINS = 48
_CHUNK = 16
_JUDGES = 96
_OPERATORS = ("convolution", "depthwise", "MatMul", "Conv2D", "DepthwiseConv2d")


@dataclass(frozen=True)
class Spread:
    """What values a layer puts out in float, and the grid that its integers have for them.

    Attributes:
        layer: Its name.
        low: Left edge of the first bin.
        high: Right edge of the last.
        counts: Values in each bin of equal width.
        grid_low: Least value of the grid; what lies below is cut off.
        grid_high: Greatest value of it.
    """

    layer: str
    low: float
    high: float
    counts: tuple[int, ...]
    grid_low: float
    grid_high: float

    def to_json(self) -> dict[str, Any]:
        """As it stands in a report."""
        return {**vars(self), "counts": list(self.counts)}


@dataclass(frozen=True)
class Blame:
    """What was found.

    Attributes:
        crops: Crops that the layers were measured on.
        layers: The worst first.
        spreads: Values of the worst layers, in the same order.
        baseline: Agreement with float of the model as it is; None if nothing was swapped.
        swapped: (layer, agreement) with that layer alone back in float.
        unmatched: Layers of the float model that the quantised one does not have, or has in float.
    """

    crops: int
    layers: tuple[Blamed, ...]
    spreads: tuple[Spread, ...]
    baseline: Agreement | None
    swapped: tuple[tuple[str, Agreement], ...]
    unmatched: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """One object."""
        return {
            "crops": self.crops,
            "layers": [layer.to_json() for layer in self.layers],
            "spreads": [spread.to_json() for spread in self.spreads],
            "baseline": self.baseline.to_json() if self.baseline else None,
            "swapped": [{"layer": name, "agreement": found.to_json()} for name, found in self.swapped],
            "unmatched": list(self.unmatched),
        }


def blame(
    model: str | Path,
    *,
    reference: str | Path,
    images: str | Path | None = None,
    preprocess: str | None = None,
    swaps: int = 1,
    seed: int = 0,
    progress: Progress | None = None,
) -> Blame:
    """Find the layers that cost a quantised model its agreement.

    Args:
        model: The int8 .tflite.
        reference: The float .tflite that it was made from.
        images: Photos to measure on; the shipped ones by default.
        preprocess: Where no OUT.json beside the model states it.
        swaps: How many of the worst layers are put back to float, one at a time, and measured.
        seed: Draws the crops.
        progress: Called with (stage, done, total).

    Raises:
        UsageError: The two files are not the same network.
        CompressionError: An operator that is not known here.
    """
    from edgekit.compression.graph import FloatGraph
    from edgekit.compression.sensitivity import match
    from edgekit.conversion.calibration import draw_crops, load_images
    from edgekit.conversion.noise import load_tensorflow
    from edgekit_device.infer.flatbuffer import read_model

    load_tensorflow()
    path, other = existing(model), existing(reference)
    data = path.read_bytes()
    info = read_model(data, str(path))
    spec = preprocess_of(path, read_sidecar(path), info, preprocess)
    graph = FloatGraph(other.read_bytes(), str(other))
    pairs = match(graph, data, info)
    if len(pairs) * 2 < len(graph.nodes):
        raise UsageError(
            f"{other}: {len(pairs)} of its {len(graph.nodes)} operators are in {path}; name its float twin"
        )
    photos = load_images(Path(images) if images else data_path("calibration_data"), progress=progress, least=1)
    crops = draw_crops(photos.images, spec, seed=seed, limit=_JUDGES, progress=progress)
    layers, spreads = _ranked(graph, pairs, crops[:: max(1, len(crops) // _CROPS)][:_CROPS], spec, progress)
    baseline: Agreement | None = None
    swapped: tuple[tuple[str, Agreement], ...] = ()
    if swaps:
        baseline, swapped = _swap_back(graph, pairs, data, info, layers[:swaps], crops, spec, progress)
    missing = tuple(_name(graph, node.index) for node in graph.nodes if node.index not in pairs)
    return Blame(min(len(crops), _CROPS), tuple(layers), spreads, baseline, swapped, missing)


def _ranked(
    graph: FloatGraph,
    pairs: dict[int, Swap],
    crops: Sequence[Crop],
    spec: Preprocess,
    progress: Progress | None,
) -> tuple[list[Blamed], tuple[Spread, ...]]:
    from edgekit.compression.sensitivity import Sensitivity
    from edgekit.verification.blame import LayerFacts, rank
    from edgekit_device import vision

    real = spec.quantised("float32", 0.0, 0)
    world = Sensitivity(graph, np.stack([vision.quantise(crop.pixels, real) for crop in crops]))
    facts = {}
    for effect in world.effects(pairs, progress=progress):
        peaks = world.peaks(effect.index)
        facts[effect.index] = LayerFacts(
            layer=_name(graph, effect.index),
            kind=graph.nodes[effect.index].kind,
            noise=effect.noise,
            own_sqnr_db=effect.own_sqnr_db,
            own_mse=effect.own_mse,
            saturated=effect.saturated,
            used=effect.used,
            unevenness=float(peaks.max() / max(float(np.median(peaks)), 1e-12)),
        )
    worst = sorted(facts, key=lambda index: -facts[index].noise)[:_REMEDIES]
    for index in worst:
        facts[index] = replace(facts[index], mended=world.remedies(index, pairs[index]))
    spreads = tuple(
        _spread(facts[index].layer, world.values[graph.nodes[index].output], pairs[index]) for index in worst
    )
    return rank(world.signal, list(facts.values())), spreads


def _spread(layer: str, values: Any, swap: Swap) -> Spread:
    low, high = min(float(values.min()), swap.low), max(float(values.max()), swap.high)
    counts, _ = np.histogram(values, _BINS, (low, high))
    return Spread(layer, low, high, tuple(int(count) for count in counts), swap.low, swap.high)


def _swap_back(
    graph: FloatGraph,
    pairs: dict[int, Swap],
    data: bytes,
    info: ModelInfo,
    worst: Sequence[Blamed],
    crops: Sequence[Crop],
    spec: Preprocess,
    progress: Progress | None,
) -> tuple[Agreement, tuple[tuple[str, Agreement], ...]]:
    """The model as it is, and with one layer in float: all other integers and ranges stay what they are.

    The grid of a layer's output is its own fault or merit too: in float it gets the range that its values have.
    """
    from edgekit.compression.sensitivity import rebuilt
    from edgekit.conversion.noise import captured
    from edgekit.conversion.quantisation import Quantisation, quantise
    from edgekit.conversion.ranges import annotate
    from edgekit.verification.agreement import measure
    from edgekit_device.infer.interpreter import Engine

    pixels, photos = [crop.pixels for crop in crops], [crop.photo for crop in crops]

    def judged(candidate: bytes, name: str) -> Agreement:
        with captured():
            engines = Engine(graph.data, threads=2, name="float"), Engine(candidate, threads=2, name=name)
        return measure(*engines, pixels, photos, spec, progress=progress)

    found = []
    for layer in worst:
        index = next(i for i in pairs if _name(graph, i) == layer.facts.layer)
        weights, ranges = rebuilt(graph, pairs, info, without=index)
        if graph.nodes[index].output != graph.info.main.output_indices[0]:
            ranges[graph.tensors[graph.nodes[index].output].name] = _range(graph, index, pixels, spec)
        per_channel = all(swap.per_channel for swap in pairs.values() if swap.weights is not None)
        how = Quantisation(granularity="channel" if per_channel else "tensor", keep_float=(layer.facts.layer,))
        hybrid = quantise(annotate(graph.patched(weights), ranges), spec, how)
        found.append((layer.facts.layer, judged(hybrid, layer.facts.layer)))
    return judged(data, "the quantised model"), tuple(found)


def _range(graph: FloatGraph, index: int, pixels: Sequence[Any], spec: Preprocess) -> tuple[float, float]:
    """The smallest and the largest value that a layer puts out in float."""
    from edgekit.compression.simulation import run
    from edgekit_device import vision

    real, ends = spec.quantised("float32", 0.0, 0), [np.inf, -np.inf]

    def look(tensor: int, values: Any) -> None:
        if tensor == graph.nodes[index].output:
            ends[:] = [min(ends[0], float(values.min())), max(ends[1], float(values.max()))]

    for start in range(0, len(pixels), _CHUNK):
        run(graph, np.stack([vision.quantise(crop, real) for crop in pixels[start : start + _CHUNK]]), look)
    return ends[0], ends[1]


def _name(graph: FloatGraph, index: int) -> str:
    """The layer that a person knows: the convolution rather than the activation that was fused into it."""
    from edgekit.conversion.quantisation import layer_names

    node = graph.nodes[index]
    named = graph.tensors[node.output].name
    if node.has_weights:
        parts = f"{graph.tensors[node.weights].name};{named}".split(";")
        # The converter keeps the operator that a layer became behind the layer's name.
        named = next((p for p in parts if p.rpartition("/")[2].startswith(_OPERATORS)), named)
    return (layer_names(named) or (f"operator {index}",))[0]
