"""EdgeKit: from EfficientNet-Lite weights to a watched fleet.

The verbs of the command line, as functions. They load what they need when they are first used: ``import edgekit``
loads neither TensorFlow nor OpenCV.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgekit.demonstration import demo
    from edgekit.pipeline import bundle, convert, flash, verify

__version__ = "0.1.0"
__all__ = ["bundle", "convert", "demo", "flash", "verify"]

_HOMES = dict.fromkeys(("bundle", "convert", "flash", "verify"), "pipeline") | {"demo": "demonstration"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
