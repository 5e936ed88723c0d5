"""The way to int8: ranges, the passes that make the weights fit the grid, the quantiser."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.errors import CompressionError, UsageError, near_miss

if TYPE_CHECKING:
    from edgekit.conversion.quantisation import Quantisation
    from edgekit_device.contract.preprocess import Preprocess
    from edgekit_device.vision import Pixels

Progress = Callable[[str, int, int], None]

PASSES = ("equalise", "round", "bias")
DEFAULT = "round,bias"
# More crops than these move no weight that matters, and every early activation of all of them is in memory twice.
CROPS = 32


@dataclass(frozen=True)
class Refining:
    """How a float model is made ready for integers.

    Attributes:
        passes: Of PASSES, in the order they run; empty for none.
        ranges: ``min-max``, ``percentile`` or ``mse``.
        strict: Whether a model that the passes do not know is an error; else it is quantised without them.
    """

    passes: tuple[str, ...] = ("round", "bias")
    ranges: str = "mse"
    strict: bool = False

    @classmethod
    def parse(cls, words: str | None, ranges: str | None = None) -> Refining:
        """Read --refine: pass names with commas, or ``none``.

        Raises:
            UsageError: No such pass, or no such way to choose ranges.
        """
        from edgekit.compression.clipping import METHODS

        if ranges not in (None, *METHODS):
            raise UsageError(f"--ranges {ranges}: choose one of {', '.join(METHODS)}")
        if words is None:
            return cls(ranges=ranges or "mse")
        names = [name.strip() for name in words.split(",") if name.strip() and name.strip() != "none"]
        for name in names:
            if name not in PASSES:
                raise UsageError(f"--refine: no pass is called '{name}'{near_miss(name, PASSES)}")
        # Without passes nothing is touched, unless it is asked for: what TFLite makes by itself.
        return cls(tuple(n for n in PASSES if n in names), ranges or ("mse" if names else "min-max"), strict=True)


@dataclass(frozen=True)
class Refined:
    """What came of it.

    Attributes:
        data: The int8 .tflite.
        passes: What was done.
        reason: Why nothing was done, where passes were wanted.
        recipe: For OUT.json: what was asked for and what was done.
        whole: Where layers stay in float: the same model with all of them as integers, to hold its time against.
    """

    data: bytes = field(repr=False)
    passes: tuple[str, ...]
    reason: str | None
    recipe: dict[str, Any]
    whole: bytes | None = field(default=None, repr=False)


def read_choices(
    scheme: str,
    io: str,
    granularity: str = "channel",
    keep_float: tuple[str, ...] = (),
    target: str | None = None,
    engine: str = "tflite",
    refine: str | None = None,
    ranges: str | None = None,
) -> tuple[Quantisation, Refining] | None:
    """What the options of `convert` ask for; see there.

    Returns:
        None for a scheme other than int8, which has no such choices.

    Raises:
        UsageError: Choices that do not exist, or do not go together.
    """
    from edgekit.conversion.quantisation import Quantisation

    if target not in (None, "edgetpu"):
        raise UsageError(f"--for {target}: edgetpu is the one target that needs another file")
    if target and scheme != "int8":
        raise UsageError(f"--for edgetpu: an Edge TPU runs int8 only, not {scheme}")
    how = Quantisation(io, granularity, keep_float, target == "edgetpu", engine)
    refining = Refining.parse(refine, ranges)
    if scheme == "int8":
        how.check()
        return how, refining
    if how != Quantisation(io) or refining != Refining():
        raise UsageError(f"scheme {scheme} has no choice of granularity, layers, engine, passes or ranges; int8 has")
    return None


def make_int8(
    float_model: bytes,
    samples: Sequence[Pixels],
    preprocess: Preprocess,
    how: Quantisation,
    refining: Refining,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> Refined:
    """Calibrate, refine, quantise.

    Args:
        float_model: What `lower` made.
        samples: Crops, uint8, shape (preprocess.height, preprocess.width, preprocess.channels).
        preprocess: The model's preprocessing.
        how: The integers that are wanted.
        refining: The passes.
        seed: Draws the places that the passes look at.
        progress: Called with (stage, done, total).

    Raises:
        EdgeKitError: Named by its class.
    """
    from edgekit.conversion.quantisation import quantise
    from edgekit.conversion.tflite import calibrate, check_samples

    how.check()
    check_samples(samples, preprocess)
    reason, report = None, {}
    done = refining.passes
    batch = _batch(samples, preprocess) if done or refining.ranges != "min-max" else None
    try:
        if batch is not None and "equalise" in done:
            float_model, report["equalise"] = _equalised(float_model, batch)
        calibrated = calibrate(float_model, samples, preprocess, progress=progress)
        if batch is not None:
            calibrated = _clipped(calibrated, batch, refining.ranges)
            calibrated, found = _improved(calibrated, batch, how, done, seed, progress)
            report |= found
    except CompressionError as cause:
        if refining.strict:
            raise
        reason, done, report = cause.problem, (), {}
        calibrated = calibrate(float_model, samples, preprocess, progress=progress)
    data = quantise(calibrated, preprocess, how, progress=progress)
    whole = quantise(calibrated, preprocess, replace(how, keep_float=())) if how.keep_float else None
    recipe = {
        "granularity": how.granularity,
        "keep_float": list(how.keep_float),
        "edgetpu": how.edgetpu,
        "engine": how.engine,
        "ranges": refining.ranges if batch is not None and reason is None else "min-max",
        "refine": {"passes": list(done), "reason": reason, **report},
    }
    return Refined(data, done, reason, recipe, whole)


def make_int8_as_trained(
    float_model: bytes,
    ranges: Mapping[str, tuple[float, float]],
    preprocess: Preprocess,
    how: Quantisation,
    refining: Refining,
    *,
    progress: Progress | None = None,
) -> Refined:
    """Quantise with the ranges that training has found: it has already fitted the weights to the grid.

    Args:
        float_model: What `lower` made.
        ranges: Layer -> smallest and largest value.
        preprocess: The model's preprocessing.
        how: The integers that are wanted.
        refining: Must be its default: there is nothing left to choose.
        progress: Called with (stage, done, total).

    Raises:
        UsageError: Passes or ranges are asked for.
        ConversionError: The ranges are not this model's.
    """
    from edgekit.conversion.known_ranges import with_known_ranges
    from edgekit.conversion.quantisation import quantise

    if refining != Refining():
        raise UsageError("--refine, --ranges: this run was trained on its ranges (pass qat); leave both out")
    data = quantise(with_known_ranges(float_model, ranges, preprocess), preprocess, how, progress=progress)
    recipe = {
        "granularity": how.granularity,
        "keep_float": list(how.keep_float),
        "edgetpu": how.edgetpu,
        "engine": how.engine,
        "ranges": "trained",
        "refine": {"passes": [], "reason": None},
    }
    return Refined(data, (), None, recipe)


def _batch(samples: Sequence[Pixels], preprocess: Preprocess) -> Any:
    """Crops spread over all photos: samples stand in the order of their photos."""
    from edgekit_device import vision

    real = preprocess.quantised("float32", 0.0, 0)
    places = np.unique(np.linspace(0, len(samples) - 1, CROPS).round().astype(int))
    return np.stack([vision.quantise(samples[place], real) for place in places])


def _equalised(float_model: bytes, batch: Any) -> tuple[bytes, dict[str, Any]]:
    from edgekit.compression.equalise import equalise
    from edgekit.compression.graph import FloatGraph

    return equalise(FloatGraph(float_model), batch)


def _clipped(calibrated: bytes, batch: Any, method: str) -> bytes:
    if method == "min-max":
        return calibrated
    from edgekit.compression.clipping import clip_ranges
    from edgekit.compression.graph import FloatGraph
    from edgekit.conversion.ranges import write_ranges

    return write_ranges(calibrated, clip_ranges(FloatGraph(calibrated), batch, method=method))


def _improved(
    calibrated: bytes, batch: Any, how: Quantisation, passes: tuple[str, ...], seed: int, progress: Progress | None
) -> tuple[bytes, dict[str, Any]]:
    if not {"round", "bias"} & set(passes):
        return calibrated, {}
    from edgekit.compression.graph import FloatGraph
    from edgekit.compression.refinement import refine
    from edgekit.conversion.quantisation import find_layers

    graph = FloatGraph(calibrated)
    data, reports = refine(
        graph,
        batch,
        rounding="round" in passes,
        bias="bias" in passes,
        per_tensor=how.per_tensor,
        kept=find_layers(graph.info, how.keep_float),
        seed=seed,
        progress=progress,
    )
    last = reports[-1] if reports else None
    moved = float(np.mean([report.moved for report in reports])) if reports else 0.0
    return data, {"crops": len(batch), "moved": moved, "sqnr_db": last.sqnr_db if last else None}
