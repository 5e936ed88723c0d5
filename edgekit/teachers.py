"""Whom a student may follow: any variant, any run or Keras model, any .tflite, each through its own preprocessing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.errors import PassError
from edgekit_device.contract.preprocess import Preprocess

_TINY = 1e-7


@dataclass(frozen=True)
class OpenTeacher:
    """A teacher ready to answer; see `edgekit.compression.passes.Teacher`.

    Attributes:
        name: As the recipe calls it.
        digest: Names its weights and preprocessing.
        labels: Its classes, where they are known.
        preprocess: Its own.
        colors: Order of the channels that students see.
        run: (pixels at its size, output) -> answers.
    """

    name: str
    digest: str
    labels: tuple[str, ...] | None
    preprocess: Preprocess
    colors: str
    run: Callable[[npt.NDArray[np.uint8], str], npt.NDArray[np.float32]]

    def answers(self, pixels: npt.NDArray[np.uint8], output: str) -> npt.NDArray[np.float32]:
        """``logits``, shape (n, classes), or ``features``, shape (n, d), of pictures as a student sees them."""
        from edgekit_device import vision

        spec = self.preprocess
        seen = []
        for image in pixels:
            sized = vision.resize(image, spec.height, spec.width, "bilinear", antialias=True)
            seen.append(vision.to_color(sized, self.colors, spec.color))
        return self.run(np.ascontiguousarray(np.stack(seen)), output)


def open_teacher(name: str, colors: str, preprocess: str | None = None) -> OpenTeacher:
    """Find a teacher.

    Args:
        name: A variant, a run, a .keras file, a SavedModel or a .tflite with OUT.json beside it.
        colors: Order of the channels that students see: ``RGB``, ``BGR`` or ``GRAY``.
        preprocess: For a model beside which nothing states it.

    Raises:
        EdgeKitError: There is none, or nothing states its preprocessing.
    """
    if name.endswith(".tflite"):
        return _tflite(name, colors, preprocess)
    from edgekit.keras_network import KerasNetwork
    from edgekit.origins import find_origin

    origin = find_origin(name, "imagenet", _beside(name, preprocess), None, 0)
    network = KerasNetwork(origin.model, origin.preprocess)
    graphs: dict[str, Any] = {}

    def run(pixels: npt.NDArray[np.uint8], output: str) -> npt.NDArray[np.float32]:
        import tensorflow as tf

        if output not in graphs:
            shape = tf.TensorSpec((None, *pixels.shape[1:]), tf.uint8)
            graphs[output] = tf.function(
                lambda images: network.outputs(images, training=False)[output], input_signature=[shape]
            )
        # A variant is built for one image at a time; a network of features does not mind more.
        return np.asarray(graphs[output](tf.constant(pixels)))

    text = f"{origin.parent};{sorted(origin.preprocess.to_json().items())}"
    digest = hashlib.sha256(text.encode()).hexdigest()
    return OpenTeacher(name, digest, origin.labels, origin.preprocess, colors, run)


def _beside(name: str, preprocess: str | None) -> str | None:
    """preprocess.json beside a .keras file, as a run has it."""
    stated = Path(name).with_name("preprocess.json")
    return str(stated) if preprocess is None and name.endswith(".keras") and stated.is_file() else preprocess


def _tflite(name: str, colors: str, preprocess: str | None) -> OpenTeacher:
    from edgekit.artefacts import read_sidecar
    from edgekit.bundling.labels import read_labels
    from edgekit.inputs import existing, labels_path, preprocess_of
    from edgekit_device import vision
    from edgekit_device.infer.flatbuffer import read_model
    from edgekit_device.infer.interpreter import Engine

    path = existing(name)
    data = path.read_bytes()
    spec = preprocess_of(path, read_sidecar(path), read_model(data, name), preprocess)
    engine = Engine(data, name=name)
    named = labels_path(path)
    labels = read_labels(named).names if named.is_file() else None

    def run(pixels: npt.NDArray[np.uint8], output: str) -> npt.NDArray[np.float32]:
        if output != "logits":
            raise PassError("distil", f"teacher {name} gives scores only, no features", "take a run or a .keras file")
        scores = np.stack([engine.scores(vision.quantise(image, spec)[None]) for image in pixels])
        chances: npt.NDArray[np.float32] = np.log(np.maximum(scores, _TINY)).astype(np.float32)
        return chances

    digest = hashlib.sha256(data + repr(sorted(spec.to_json().items())).encode()).hexdigest()
    return OpenTeacher(name, digest, labels, spec, colors, run)
