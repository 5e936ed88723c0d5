"""What the tensors of a variant are called and shaped, in our names and in those of the files that carry them.

Ours are Keras's: ``stem_conv/kernel``, ``block3b_depthwise_bn/gamma``, ``logits/bias``. Files come with the names
of the TF-style PyTorch port (``_blocks.4._bn1.weight``) or of timm (``blocks.2.1.bn2.weight``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.errors import TensorMismatchError, WeightsError, WeightsFormatError, WrongVariantError
from edgekit.zoo.architecture import Layer, blocks, layers
from edgekit.zoo.variants import Variant, get_variant, variant_names

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]

NORM = (("gamma", "weight"), ("beta", "bias"), ("moving_mean", "running_mean"), ("moving_variance", "running_var"))
# A tensor that only one style has, and its classifier.
STYLES = {
    "keras": ("stem_conv/kernel", "logits/kernel"),
    "tf": ("_conv_stem.weight", "_fc.weight"),
    "timm": ("conv_stem.weight", "classifier.weight"),
}


@dataclass(frozen=True)
class Slot:
    """One tensor of the model.

    Attributes:
        name: Ours, ``layer/variable``.
        shape: Ours: kernels (h, w, in, out), depthwise (h, w, channels, 1), dense (in, out), the rest (channels,).
        foreign: Its name in a file.
        foreign_shape: Its shape there: (out, in, h, w), (channels, 1, h, w), (out, in), (channels,).
    """

    name: str
    shape: tuple[int, ...]
    foreign: str
    foreign_shape: tuple[int, ...]


def slots(variant: Variant, classes: int, style: str = "keras") -> tuple[Slot, ...]:
    """Every tensor of a variant in the order of its layers, named for one style of file.

    Args:
        variant: The variant.
        classes: Outputs of the dense layer.
        style: ``keras``, ``tf`` or ``timm``.
    """
    made: list[Slot] = []
    numbers = {block.name: number for number, block in enumerate(blocks(variant.width, variant.depth))}
    for layer in layers(variant.width, variant.depth, classes):
        conv, norm = _foreign_layers(layer, numbers[layer.block.name] if layer.block else 0, style)
        made.extend(_layer_slots(layer, conv, norm, style))
    return tuple(made)


def _foreign_layers(layer: Layer, number: int, style: str) -> tuple[str, str]:
    """Names of a layer's convolution (or dense layer) and of its BatchNorm in one style."""
    if style == "keras":
        return (layer.name if layer.kind == "dense" else f"{layer.name}_conv"), f"{layer.name}_bn"
    if layer.block is None:
        table = {
            "tf": {"stem": ("_conv_stem", "_bn0"), "head": ("_conv_head", "_bn1"), "logits": ("_fc", "")},
            "timm": {"stem": ("conv_stem", "bn1"), "head": ("conv_head", "bn2"), "logits": ("classifier", "")},
        }
        return table[style][layer.name]
    step = layer.name.rpartition("_")[2]
    if style == "tf":
        prefix = f"_blocks.{number}."
        bn = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}[step]
        return f"{prefix}_{step}_conv", f"{prefix}{bn}"
    prefix = f"blocks.{layer.block.stage - 1}.{layer.block.index}."
    if layer.block.expand == 1:  # timm's DepthwiseSeparableConv counts from the depthwise convolution
        conv, bn = {"depthwise": ("conv_dw", "bn1"), "project": ("conv_pw", "bn2")}[step]
    else:
        conv, bn = {
            "expand": ("conv_pw", "bn1"),
            "depthwise": ("conv_dw", "bn2"),
            "project": ("conv_pwl", "bn3"),
        }[step]
    return prefix + conv, prefix + bn


def _layer_slots(layer: Layer, conv: str, norm: str, style: str) -> list[Slot]:
    keras = style == "keras"
    side, wide_in, wide_out = layer.kernel, layer.channels_in, layer.channels_out
    if layer.kind == "dense":
        shape: tuple[int, ...] = (wide_in, wide_out)
        kernel = Slot("logits/kernel", shape, "", (wide_out, wide_in))
        names = ("logits/kernel", "logits/bias") if keras else (f"{conv}.weight", f"{conv}.bias")
        return [
            replace(kernel, foreign=names[0], foreign_shape=shape if keras else kernel.foreign_shape),
            Slot("logits/bias", (wide_out,), names[1], (wide_out,)),
        ]
    if layer.kind == "depthwise":
        shape, torch_shape = (side, side, wide_out, 1), (wide_out, 1, side, side)
    else:
        shape, torch_shape = (side, side, wide_in, wide_out), (wide_out, wide_in, side, side)
    name = f"{layer.name}_conv/kernel"
    made = [Slot(name, shape, name if keras else f"{conv}.weight", shape if keras else torch_shape)]
    for ours, theirs in NORM:
        name = f"{layer.name}_bn/{ours}"
        made.append(Slot(name, (wide_out,), name if keras else f"{norm}.{theirs}", (wide_out,)))
    return made


def fit(path: str, raw: Mapping[str, Array], variant: Variant) -> tuple[dict[str, Floats], int, str]:
    """Match a file's tensors with a variant.

    Args:
        path: Named in errors.
        raw: The file's tensors under the file's names.
        variant: What they should be the weights of.

    Returns:
        Our names with float32 arrays in our shapes; the number of classes, which follows the file; the style.

    Raises:
        TensorMismatchError: Tensors are missing, extra, or of another shape.
        WrongVariantError: They fit another variant completely.
        WeightsFormatError: A tensor holds something else than finite numbers.
    """
    raw = {name: array for name, array in raw.items() if not name.endswith(".num_batches_tracked")}
    style = _style(path, raw)
    head = raw.get(STYLES[style][1])
    out_axis = 1 if style == "keras" else 0
    classes = int(head.shape[out_axis]) if head is not None and head.ndim == 2 else 1000
    wanted = slots(variant, classes, style)
    missing, extra, wrong = _differences(raw, wanted)
    if missing or extra or wrong:
        for name in variant_names():
            other = get_variant(name)
            same = (other.width, other.depth) == (variant.width, variant.depth)
            if not same and not any(_differences(raw, slots(other, classes, style))):
                raise WrongVariantError(path, variant.name, name, wrong or missing or extra)
        raise TensorMismatchError(path, variant.name, missing, extra, wrong)
    return {slot.name: _ours(path, raw[slot.foreign], slot, style) for slot in wanted}, classes, style


def _style(path: str, raw: Mapping[str, Array]) -> str:
    for style, (marker, head) in STYLES.items():
        if marker in raw or head in raw:
            return style
    names = ", ".join(list(raw)[:3]) or "nothing"
    raise WeightsError(
        f"{path}: holds {names} ..., which are not the tensor names of an EfficientNet-Lite from timm, from the "
        "TF-style PyTorch port or from EdgeKit; export it under one of these names"
    )


def _differences(raw: Mapping[str, Array], wanted: tuple[Slot, ...]) -> tuple[list[str], list[str], list[str]]:
    known = {slot.foreign for slot in wanted}
    missing = [slot.foreign for slot in wanted if slot.foreign not in raw]
    wrong = [
        f"{slot.foreign} {tuple(raw[slot.foreign].shape)}, needed {slot.foreign_shape}"
        for slot in wanted
        if slot.foreign in raw and tuple(raw[slot.foreign].shape) != slot.foreign_shape
    ]
    return missing, sorted(name for name in raw if name not in known), wrong


def _ours(path: str, array: Array, slot: Slot, style: str) -> Floats:
    """One tensor in our shape as float32; torch keeps (out, in, h, w), Keras (h, w, in, out)."""
    if style != "keras" and array.ndim == 4:
        depthwise = slot.shape[3] == 1 and slot.foreign_shape[1] == 1
        array = array.transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))
    elif style != "keras" and array.ndim == 2:
        array = array.T
    if array.dtype.kind != "f":
        raise WeightsFormatError(path, f"{slot.foreign} is {array.dtype} instead of floating point")
    made: Floats = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(made).all():
        raise WeightsFormatError(path, f"{slot.foreign} holds NaN or infinity")
    return made


def random_tensors(variant: Variant, classes: int, seed: int) -> dict[str, Floats]:
    """Seeded weights, for time and memory only.

    Kernels are He-normal, so that activations keep a scale that int8 ranges can be drawn from.

    Returns:
        Our names with float32 arrays in our shapes.
    """
    rng = np.random.default_rng(seed)
    made: dict[str, Floats] = {}
    for slot in slots(variant, classes):
        variable = slot.name.rpartition("/")[2]
        if variable == "kernel":
            fan_in = int(np.prod(slot.shape[:2])) if slot.shape[-1] == 1 else int(np.prod(slot.shape[:-1]))
            scale = np.sqrt(2.0 / fan_in)
            made[slot.name] = (rng.standard_normal(slot.shape) * scale).astype(np.float32)
        else:
            fill = 1.0 if variable in ("gamma", "moving_variance") else 0.0
            made[slot.name] = np.full(slot.shape, fill, np.float32)
    return made
