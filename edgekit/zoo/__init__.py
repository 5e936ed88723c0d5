"""EfficientNet-Lite: variants as data, one builder, and weights read without running anything.

The verbs load when they are first used; importing this package loads neither TensorFlow nor Keras nor numpy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgekit.zoo.builder import build
    from edgekit.zoo.catalogue import describe
    from edgekit.zoo.files import read_weights
    from edgekit.zoo.keras_files import load_keras
    from edgekit.zoo.timm import read_timm_config, timm_preprocess
    from edgekit.zoo.variants import Variant, compound, get_variant, variant_names
    from edgekit.zoo.weights import Weights, find_weights, load_weights

__all__ = [
    "Variant",
    "Weights",
    "build",
    "compound",
    "describe",
    "find_weights",
    "get_variant",
    "load_keras",
    "load_weights",
    "read_timm_config",
    "read_weights",
    "timm_preprocess",
    "variant_names",
]

_HOMES = {
    "build": "builder",
    "describe": "catalogue",
    "read_weights": "files",
    "load_keras": "keras_files",
    "read_timm_config": "timm",
    "timm_preprocess": "timm",
    "Variant": "variants",
    "compound": "variants",
    "get_variant": "variants",
    "variant_names": "variants",
    "Weights": "weights",
    "find_weights": "weights",
    "load_weights": "weights",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
