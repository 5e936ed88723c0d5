"""The arithmetic of EfficientNet-Lite: which layers a width and a depth give. Pure; no framework is imported.

Builder, counts and tensor names all read this one description. The scaling rules are those of tensorflow/tpu
``models/official/efficientnet`` (``efficientnet_builder.py``, ``lite/efficientnet_lite_builder.py``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

STEM_FILTERS = 32
HEAD_FILTERS = 1280

# (repeats, kernel, stride, expand ratio, filters out) before scaling.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


@dataclass(frozen=True)
class Block:
    """One inverted residual block.

    Attributes:
        name: ``block3b`` is the second block of the third stage.
        stage: From 1.
        index: Place in its stage, from 0.
        kernel: Side of the depthwise kernel in pixels.
        stride: Of the depthwise convolution.
        expand: Ratio of the expansion; 1 means the block has no expanding convolution.
        filters_in: Channels in.
        filters_out: Channels out.
    """

    name: str
    stage: int
    index: int
    kernel: int
    stride: int
    expand: int
    filters_in: int
    filters_out: int

    @property
    def filters_expanded(self) -> int:
        """Channels of the depthwise convolution."""
        return self.filters_in * self.expand

    @property
    def residual(self) -> bool:
        """Whether the input is added to the output."""
        return self.stride == 1 and self.filters_in == self.filters_out


@dataclass(frozen=True)
class Layer:
    """One layer with weights: a convolution with the BatchNorm behind it, or the dense layer.

    Attributes:
        name: ``stem``, ``block3b_expand``, ``block3b_depthwise``, ``block3b_project``, ``head`` (the Keras layers
            add ``_conv`` and ``_bn``) or ``logits``.
        kind: ``conv``, ``depthwise`` or ``dense``.
        kernel: Side in pixels; 1 for dense.
        stride: In pixels.
        channels_in: Channels in.
        channels_out: Channels out; for ``depthwise`` equal to channels_in.
        block: The block it belongs to, or None for stem, head and logits.
    """

    name: str
    kind: str
    kernel: int
    stride: int
    channels_in: int
    channels_out: int
    block: Block | None = None


def round_filters(filters: int, width: float) -> int:
    """Scale a number of channels and round it to a multiple of 8, never losing more than a tenth."""
    scaled = filters * width
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * scaled else rounded


def round_repeats(repeats: int, depth: float) -> int:
    """Scale a number of blocks, rounding up."""
    return math.ceil(repeats * depth)


def blocks(width: float, depth: float) -> tuple[Block, ...]:
    """The inverted residual blocks in order.

    Stem, head and the repeats of the first and last stage stay unscaled: that is what sets Lite apart from
    EfficientNet-B in the official builder, and the published figures hold only so.
    """
    made: list[Block] = []
    filters_in = STEM_FILTERS
    for stage, (repeats, kernel, stride, expand, filters) in enumerate(STAGES, start=1):
        edge = stage in (1, len(STAGES))
        filters_out = round_filters(filters, width)
        for index in range(repeats if edge else round_repeats(repeats, depth)):
            step = stride if index == 0 else 1
            name = f"block{stage}{_letters(index)}"
            made.append(Block(name, stage, index, kernel, step, expand, filters_in, filters_out))
            filters_in = filters_out
    return tuple(made)


def layers(width: float, depth: float, classes: int) -> tuple[Layer, ...]:
    """Every layer with weights, in the order the image meets them."""
    made = [Layer("stem", "conv", 3, 2, 3, STEM_FILTERS)]
    body = blocks(width, depth)
    for block in body:
        wide = block.filters_expanded
        if block.expand != 1:
            made.append(Layer(f"{block.name}_expand", "conv", 1, 1, block.filters_in, wide, block))
        made.append(Layer(f"{block.name}_depthwise", "depthwise", block.kernel, block.stride, wide, wide, block))
        made.append(Layer(f"{block.name}_project", "conv", 1, 1, wide, block.filters_out, block))
    made.append(Layer("head", "conv", 1, 1, body[-1].filters_out, HEAD_FILTERS))
    made.append(Layer("logits", "dense", 1, 1, HEAD_FILTERS, classes))
    return tuple(made)


def _letters(index: int) -> str:
    """0 is a, 25 is z, 26 is aa: a user's own depth may pass 26 blocks in a stage."""
    letters = ""
    index += 1
    while index:
        index, place = divmod(index - 1, 26)
        letters = chr(ord("a") + place) + letters
    return letters
