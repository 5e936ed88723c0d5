"""How small a model is: multiply-adds, parameters, bytes as they are and in a zip."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from edgekit.compression.keras_graph import WEIGHTED
from edgekit.compression.passes import Subject

_LEVELS = 127


def size_facts(model: Any) -> dict[str, int]:
    """``macs``, ``parameters``, ``zeros``, ``float_zip_bytes`` and ``int8_zip_bytes`` of a Keras model.

    The zipped sizes are of the kernels alone, as float32 and rounded to int8 with a scale for each channel.
    """
    macs = parameters = zeros = 0
    plain, rounded = bytearray(), bytearray()
    for layer in model.layers:
        # Moving statistics are folded away by every converter.
        moving = ("moving_mean", "moving_variance")
        parameters += sum(math.prod(v.shape) for v in layer.weights if v.name not in moving)
        if type(layer).__name__ not in WEIGHTED:
            continue
        kernel = layer.kernel.numpy()
        dense = type(layer).__name__ == "Dense"
        macs += (1 if dense else math.prod(layer.output.shape[1:-1])) * kernel.size
        zeros += int((kernel == 0).sum())
        plain += kernel.tobytes()
        axes = (0, 1) if type(layer).__name__ == "DepthwiseConv2D" else tuple(range(kernel.ndim - 1))
        scale = np.maximum(np.abs(kernel).max(axis=axes, keepdims=True) / _LEVELS, 1e-12)
        rounded += np.round(kernel / scale).astype(np.int8).tobytes()
    return {
        "macs": macs,
        "parameters": parameters,
        "zeros": zeros,
        "float_zip_bytes": len(zlib.compress(bytes(plain), 9)),
        "int8_zip_bytes": len(zlib.compress(bytes(rounded), 9)),
    }


def sized(subject: Subject, kind: str, work: Callable[[], Subject]) -> Subject:
    """Run a pass that makes a model smaller; its facts say under ``pruned`` by how much all of them did.

    Args:
        subject: What goes in; the pass may change its model in place.
        kind: Of the pass.
        work: The pass; what its facts have under ``notes`` is moved there.
    """
    earlier = subject.facts.get("pruned") or {}
    before = earlier.get("before") or size_facts(subject.model)
    done = work()
    known = dict(done.facts)
    facts = {
        "kind": f"{earlier['kind']}+{kind}" if earlier else kind,
        "before": before,
        "after": size_facts(done.model),
        "notes": [*earlier.get("notes", ()), *known.pop("notes", ())],
    }
    return replace(done, facts={**known, "pruned": facts})
