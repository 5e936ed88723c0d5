"""Parameters and multiply-adds, from the architecture alone or from a built model. Nothing is imported for it."""

from __future__ import annotations

import math
from typing import Any

from edgekit.zoo.architecture import layers
from edgekit.zoo.variants import Variant


def variant_parameters(variant: Variant, classes: int = 1000) -> int:
    """Trainable numbers of a variant: kernels, BatchNorm scales and offsets, the dense layer.

    The moving statistics of BatchNorm are not counted: a converter folds them away, and published counts leave
    them out.
    """
    total = 0
    for layer in layers(variant.width, variant.depth, classes):
        if layer.kind == "dense":
            total += layer.channels_in * layer.channels_out + layer.channels_out
        elif layer.kind == "depthwise":
            total += layer.kernel**2 * layer.channels_out + 2 * layer.channels_out
        else:
            total += layer.kernel**2 * layer.channels_in * layer.channels_out + 2 * layer.channels_out
    return total


def variant_macs(variant: Variant, resolution: int | None = None, classes: int = 1000) -> int:
    """Multiply-adds of the convolutions and the dense layer for one image.

    Args:
        variant: The variant.
        resolution: Side of the square input in pixels; the variant's own by default.
        classes: Outputs of the dense layer.
    """
    side = variant.resolution if resolution is None else resolution
    total = 0
    for layer in layers(variant.width, variant.depth, classes):
        if layer.kind == "dense":
            total += layer.channels_in * layer.channels_out
            continue
        # SAME and symmetric padding both give ceil(side / stride).
        side = math.ceil(side / layer.stride)
        reads = 1 if layer.kind == "depthwise" else layer.channels_in
        total += side**2 * layer.kernel**2 * reads * layer.channels_out
    return total


def parameters(model: Any) -> int:
    """Trainable numbers of a built Keras model, frozen or not; BatchNorm's moving statistics are left out."""
    moving = ("moving_mean", "moving_variance")
    return sum(
        math.prod(weight.shape) for layer in model.layers for weight in layer.weights if weight.name not in moving
    )


def macs(model: Any) -> int:
    """Multiply-adds of every Conv2D, DepthwiseConv2D and Dense layer of a built Keras model, for one image."""
    total = 0
    for layer in model.layers:
        kind = type(layer).__name__
        if kind not in ("Conv2D", "DepthwiseConv2D", "Dense"):
            continue
        # A Conv2D kernel is (h, w, in, out), a depthwise one (h, w, channels, multiplier), a dense one (in, out):
        # each number of it is used once per output position.
        positions = math.prod(layer.output.shape[1:-1]) if kind != "Dense" else 1
        total += positions * math.prod(layer.kernel.shape)
    return total
