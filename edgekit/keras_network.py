"""A Keras classifier as something that can be taught: pixels in, logits and features out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgekit.errors import UsageError
from edgekit_device.contract.preprocess import Preprocess

# Below the smallest probability that is worth telling from nothing.
_TINY = 1e-7
SHORT_MOMENTUM = 0.9


def normalised(images: Any, preprocess: Preprocess) -> Any:
    """uint8 pixels as the model reads them: float32, (x - mean) / std."""
    import tensorflow as tf

    mean = tf.constant(np.array(preprocess.mean, np.float32))
    std = tf.constant(np.array(preprocess.std, np.float32))
    return (tf.cast(images, tf.float32) - mean) / std


def last_tensors(model: Any) -> tuple[Any, bool, Any]:
    """Where logits and features of a classifier are.

    Returns:
        (tensor of the logits, or of the probabilities where a layer computes both at once; whether it holds
        probabilities; tensor that the last layer with weights reads).

    Raises:
        UsageError: It has no last layer with weights, or more than one output.
    """
    outputs = model.outputs
    if len(outputs) != 1 or len(outputs[0].shape) != 2:
        raise UsageError(f"{model.name}: a classifier has one output of shape (batch, classes)")
    tensor = outputs[0]
    while True:
        layer = tensor._keras_history.operation
        kind = type(layer).__name__
        if layer.weights:
            return tensor, _is_softmax(layer), _input(tensor)
        if not (_is_softmax(layer) or kind in ("Dropout", "Flatten", "Reshape") or _is_linear(layer)):
            raise UsageError(f"{model.name}: '{layer.name}' ({kind}) stands behind the last layer with weights")
        tensor = _input(tensor)


def logits_of(last: Any, probable: bool) -> Any:
    """Logits, shape (batch, classes), from what `last_tensors` points to.

    Args:
        last: Its value; of another shape where a convolution makes the scores and a Reshape or Flatten stands behind.
        probable: Whether it holds probabilities.
    """
    import tensorflow as tf

    if len(last.shape) != 2:
        last = tf.reshape(last, (tf.shape(last)[0], int(np.prod(last.shape[1:]))))
    return tf.math.log(tf.maximum(last, _TINY)) if probable else last


def _input(tensor: Any) -> Any:
    history = tensor._keras_history
    return history.operation._inbound_nodes[history.node_index].input_tensors[0]


def _is_softmax(layer: Any) -> bool:
    named = getattr(getattr(layer, "activation", None), "__name__", "")
    return type(layer).__name__ == "Softmax" or named == "softmax"


def _is_linear(layer: Any) -> bool:
    return getattr(getattr(layer, "activation", None), "__name__", "") == "linear" and not layer.weights


class KerasNetwork:
    """A functional or sequential Keras model.

    Attributes:
        model: The model; its own variables are trained.
        preprocess: How pixels become its input.
    """

    def __init__(self, model: Any, preprocess: Preprocess, *, frozen_statistics: bool = True) -> None:
        import keras

        self.model, self.preprocess = model, preprocess
        logits, self._probable, features = last_tensors(model)
        self._twin = keras.Model(model.inputs, [logits, features])
        for layer in model.layers:
            if type(layer).__name__ == "BatchNormalization":
                # A few hundred steps of small batches ruin statistics that saw a million photos.
                layer.trainable = not frozen_statistics
                if not frozen_statistics:
                    # The zoo's 0.99 forgets its first values only after several hundred steps.
                    layer.momentum = min(layer.momentum, SHORT_MOMENTUM)

    @property
    def trained(self) -> Sequence[Any]:
        """Kernels and biases; scales and offsets of BatchNorm where its statistics move."""
        return list(self.model.trainable_variables)

    @property
    def state(self) -> Sequence[Any]:
        """Every variable, the state of dropout included."""
        return list(self.model.variables)

    def outputs(self, images: Any, *, training: bool) -> Mapping[str, Any]:
        """``logits``, shape (batch, classes), and ``features``, shape (batch, d) where the last layer is dense."""
        last, features = self._twin(normalised(images, self.preprocess), training=training)
        return {"logits": logits_of(last, self._probable), "features": features}


def seed_dropout(model: Any, seed: int) -> None:
    """Set the state of every layer that draws, so that the same seed draws the same."""
    for at, layer in enumerate(model.layers):
        generator = getattr(layer, "seed_generator", None)
        if generator is not None:
            generator.state.assign(np.array([seed & 0xFFFFFFFF, at], np.uint32))
