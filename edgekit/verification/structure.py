"""Is the file built as it was asked for: read from the flatbuffer alone, nothing is run."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgekit.verification.verdict import Finding, Verdict
from edgekit_device.contract.preprocess import Preprocess
from edgekit_device.infer.flatbuffer import ModelInfo, OperatorInfo, SubgraphInfo, TensorInfo
from edgekit_device.infer.operators import BUILTIN_OPERATORS, EDGETPU_OPERATOR, FLOAT_TYPES

INTEGER_SCHEMES = ("int8", "int16x8")
# Shapes computed at run time, or state and control flow: a batch that was not fixed leaves these behind.
DYNAMIC_OPERATORS = frozenset(
    {"SHAPE", "PACK", "RANK", "IF", "WHILE", "CALL_ONCE", "VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE"}
)
# Where the weights stand among an operator's inputs. Dense layers are left out: the Edge TPU compiler of 2021 wants
# one scale for them, at no measured cost.
PER_CHANNEL_OPERATORS = ("CONV_2D", "DEPTHWISE_CONV_2D")
_WEIGHTS = 1
# Of the whole range of pixels; a converter computes the scale in float32.
_SLACK_QUANTA = 0.01
_LEVELS = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32767, 32767)}


def check_structure(
    info: ModelInfo,
    scheme: str,
    io: str,
    preprocess: Preprocess,
    *,
    pinned: bool = True,
    per_channel: bool = True,
    mixed: bool = False,
) -> Verdict:
    """Check a parsed model against what was asked for.

    Args:
        info: The parsed file.
        scheme: ``int8``, ``int16x8``, ``dynamic``, ``float16`` or ``float32``.
        io: Type of input and output.
        preprocess: The model's preprocessing.
        pinned: Whether the input's grid must be the pixels' own; a model from elsewhere need not have it.
        per_channel: Whether convolution weights must have one scale a channel.
        mixed: Whether layers were kept in float on purpose.
    """
    findings = [_ends(info, preprocess), _types(info, io), _static(info), _known_operators(info)]
    if scheme in INTEGER_SCHEMES:
        if not mixed:
            findings.append(_no_float(info, io))
        if per_channel and not mixed:
            findings.append(_per_channel(info))
        if pinned and io != "float32":
            findings.append(_pinned(info, preprocess))
    return Verdict(tuple(findings))


def _ends(info: ModelInfo, preprocess: Preprocess) -> Finding:
    inputs, outputs = info.main.inputs, info.main.outputs
    shape = (1, preprocess.height, preprocess.width, preprocess.channels)
    if len(inputs) != 1 or len(outputs) != 1:
        return Finding("ends", False, f"{len(inputs)} inputs and {len(outputs)} outputs, one of each wanted")
    if inputs[0].shape != shape:
        return Finding(
            "ends", False, f"reads {list(inputs[0].shape)}, {list(shape)} wanted (batch, height, width, channels)"
        )
    scores = outputs[0].shape
    if not scores or int(np.prod(scores)) != max(scores) or max(scores) < 1:
        return Finding("ends", False, f"writes {list(scores)}, one score vector wanted")
    return Finding("ends", True, f"one image {list(shape)} in, {max(scores)} scores out")


def _types(info: ModelInfo, io: str) -> Finding:
    found = sorted({tensor.dtype for tensor in info.main.inputs + info.main.outputs})
    return Finding("input and output type", found == [io], f"{', '.join(found)}; {io} wanted")


def _static(info: ModelInfo) -> Finding:
    names = sorted(DYNAMIC_OPERATORS & set(info.operator_counts))
    open_ended = [t.name for graph in info.subgraphs for t in graph.tensors if -1 in t.shape_signature]
    parts = [f"operators {', '.join(names)}"] if names else []
    parts += [f"{len(open_ended)} tensors of open shape, first {open_ended[0]}"] if open_ended else []
    return Finding("fixed shapes", not parts, "; ".join(parts) or "batch 1, every shape is known beforehand")


def _known_operators(info: ModelInfo) -> Finding:
    known = {*BUILTIN_OPERATORS, EDGETPU_OPERATOR}
    foreign = sorted(set(info.operator_counts) - known)
    detail = f"{', '.join(foreign)} need more than a plain interpreter" if foreign else "all built in"
    return Finding("operators", not foreign, detail)


def _no_float(info: ModelInfo, io: str) -> Finding:
    floats = [
        tensor.name
        for index, graph in enumerate(info.subgraphs)
        for tensor in graph.tensors
        if tensor.dtype in FLOAT_TYPES and not (io == "float32" and index == 0 and _is_end(graph, tensor))
    ]
    if not floats:
        return Finding("no float tensor", True, f"{len(info.main.tensors)} tensors, all integer within")
    return Finding("no float tensor", False, f"{len(floats)} tensors are float, first {', '.join(floats[:3])}")


def _is_end(graph: SubgraphInfo, tensor: TensorInfo) -> bool:
    return tensor.index in graph.input_indices or tensor.index in graph.output_indices


def _per_channel(info: ModelInfo) -> Finding:
    weights = list(_convolution_weights(info))
    # One channel needs one scale only: nothing to tell apart.
    coarse = [t.name for kind, t in weights if len(t.scales) == 1 and t.shape[0 if kind == "CONV_2D" else -1] > 1]
    bare = [t.name for _, t in weights if not t.scales]
    if coarse or bare:
        named = ", ".join((coarse + bare)[:3])
        return Finding(
            "scale per channel", False, f"{len(coarse + bare)} of {len(weights)} weights without, first {named}"
        )
    return Finding("scale per channel", True, f"{len(weights)} convolution weights")


def _convolution_weights(info: ModelInfo) -> Iterator[tuple[str, TensorInfo]]:
    for graph in info.subgraphs:
        for operator in graph.operators:
            if operator.name in PER_CHANNEL_OPERATORS:
                index = _input(operator, _WEIGHTS)
                if index is not None:
                    yield operator.name, graph.tensors[index]


def _input(operator: OperatorInfo, place: int) -> int | None:
    index = operator.inputs[place] if place < len(operator.inputs) else -1
    return None if index < 0 else index


def _pinned(info: ModelInfo, preprocess: Preprocess) -> Finding:
    """Whether the darkest and the brightest pixel land on the two ends of the input's grid.

    This is asked of the values themselves, without the formula that conversion uses for its own check.
    """
    name = "input on the pixel grid"
    tensor = info.main.inputs[0] if info.main.inputs else None
    if tensor is None or len(tensor.scales) != 1 or tensor.dtype not in _LEVELS or not tensor.scales[0] > 0:
        return Finding(name, False, "the input carries no scale")
    scale, zero_point = tensor.scales[0], tensor.zero_points[0]
    ends = np.array([[0.0], [255.0]])
    real = (ends - np.array(preprocess.mean)) / np.array(preprocess.std)
    low, high = min(float(real.min()), 0.0), max(float(real.max()), 0.0)
    found = (round(low / scale) + zero_point, round(high / scale) + zero_point)
    detail = f"scale {scale:.9g}, zero point {zero_point}: pixels take {found[0]} to {found[1]}"
    lowest, highest = _LEVELS[tensor.dtype]
    if tensor.dtype == "int16":
        # TFLite's int16 is symmetric: the larger side fills its half of the grid.
        passed = zero_point == 0 and abs(max(-low, high) / scale - highest) < _SLACK_QUANTA
    else:
        # The ends may be off by half a quantum, because zero must lie on the grid; their distance may not.
        passed = found == (lowest, highest) and abs((high - low) / scale - (highest - lowest)) < _SLACK_QUANTA
    return Finding(name, passed, detail if passed else f"{detail}, {lowest} to {highest} wanted")
