"""The one builder of EfficientNet-Lite as a Keras model.

No squeeze-and-excitation, ReLU6, BatchNorm momentum 0.99. Layer names are a promise: ``stem_conv``, ``stem_bn``,
``stem_relu6``, ``block3b_expand_conv`` ... ``block3b_project_bn``, ``block3b_add``, ``head_conv``, ``pool``,
``dropout``, ``logits``, ``probabilities``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgekit.errors import UsageError
from edgekit.zoo.architecture import HEAD_FILTERS, STEM_FILTERS, blocks
from edgekit.zoo.variants import LEAST_RESOLUTION, Variant, get_variant
from edgekit.zoo.weights import Weights, find_weights, load_weights

BN_MOMENTUM = 0.99


def build(
    variant: Variant | str,
    *,
    classes: int | None = None,
    weights: Weights | str | Path | None = None,
    resolution: int | None = None,
    batch: int | None = 1,
    softmax: bool = True,
) -> Any:
    """Build a variant.

    Args:
        variant: A variant or the name of one. A timm file can change its padding, epsilon and resolution.
        classes: Outputs; None takes the file's number, or 1000.
        weights: From `find_weights`, or what `find_weights` takes; None leaves Keras's own initial values.
        resolution: Side of the input in pixels; the variant's by default.
        batch: Fixed at 1 for conversion (else SHAPE and PACK operators stay in the graph); None for training.
        softmax: End in ``probabilities`` instead of ``logits``.

    Returns:
        A ``keras.Model``: input ``image`` (batch, resolution, resolution, 3) float32, normalised as the weights'
        preprocessing says; output (batch, classes) float32, probabilities or logits.

    Raises:
        UsageError: classes contradicts the weights, or a size is out of range.
        WeightsError: The weights cannot be used; its subclasses say why.
    """
    variant = get_variant(variant) if isinstance(variant, str) else variant
    if weights is not None and not isinstance(weights, Weights):
        weights = find_weights(variant, weights, classes=classes)
    if weights is not None:
        if classes not in (None, weights.classes):
            raise UsageError(f"{weights.source} has {weights.classes} classes, not {classes}")
        classes, variant = weights.classes, weights.variant
    classes = 1000 if classes is None else classes
    side = variant.resolution if resolution is None else resolution
    if classes < 1 or side < LEAST_RESOLUTION:
        raise UsageError(f"classes must be at least 1 and resolution at least {LEAST_RESOLUTION} pixels")
    model = _graph(variant, classes, side, batch, softmax)
    if weights is not None:
        load_weights(model, weights)
    return model


def _graph(variant: Variant, classes: int, side: int, batch: int | None, softmax: bool) -> Any:
    import keras

    layer = _LayerMaker(keras, variant)
    image = keras.Input(batch_shape=(batch, side, side, 3), name="image", dtype="float32")
    x = layer.relu6(layer.conv(image, "stem", STEM_FILTERS, kernel=3, stride=2), "stem")
    for block in blocks(variant.width, variant.depth):
        entry = x
        if block.expand != 1:
            name = f"{block.name}_expand"
            x = layer.relu6(layer.conv(x, name, block.filters_expanded), name)
        name = f"{block.name}_depthwise"
        x = layer.relu6(layer.depthwise(x, name, block.kernel, block.stride), name)
        x = layer.conv(x, f"{block.name}_project", block.filters_out)
        if block.residual:
            x = keras.layers.Add(name=f"{block.name}_add")([x, entry])
    x = layer.relu6(layer.conv(x, "head", HEAD_FILTERS), "head")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    if variant.dropout:
        x = keras.layers.Dropout(variant.dropout, name="dropout")(x)
    x = keras.layers.Dense(classes, name="logits")(x)
    if softmax:
        x = keras.layers.Softmax(name="probabilities")(x)
    return keras.Model(image, x, name=variant.name.replace("-", "_"))


class _LayerMaker:
    """Applies one convolution with its padding and BatchNorm, or one activation."""

    def __init__(self, keras: Any, variant: Variant) -> None:
        self.layers, self.variant = keras.layers, variant

    def conv(self, x: Any, name: str, filters: int, *, kernel: int = 1, stride: int = 1) -> Any:
        x, padding = self.padded(x, name, kernel, stride)
        x = self.layers.Conv2D(filters, kernel, strides=stride, padding=padding, use_bias=False, name=f"{name}_conv")(x)
        return self.norm(x, name)

    def depthwise(self, x: Any, name: str, kernel: int, stride: int) -> Any:
        x, padding = self.padded(x, name, kernel, stride)
        x = self.layers.DepthwiseConv2D(kernel, strides=stride, padding=padding, use_bias=False, name=f"{name}_conv")(x)
        return self.norm(x, name)

    def padded(self, x: Any, name: str, kernel: int, stride: int) -> tuple[Any, str]:
        # At stride 1 SAME is symmetric anyway and needs no PAD operator.
        if self.variant.padding == "same" or stride == 1:
            return x, "same"
        return self.layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad")(x), "valid"

    def norm(self, x: Any, name: str) -> Any:
        return self.layers.BatchNormalization(momentum=BN_MOMENTUM, epsilon=self.variant.bn_epsilon, name=f"{name}_bn")(
            x
        )

    def relu6(self, x: Any, name: str) -> Any:
        return self.layers.ReLU(max_value=6.0, name=f"{name}_relu6")(x)
