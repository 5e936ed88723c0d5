"""The device side of EdgeKit: a signed TFLite bundle, a camera, and FPS you can trust.

Importing this package loads the standard library only; OpenCV, numpy and the interpreter are imported by
the module that uses them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgekit_device.classifier import Classifier, Seen

__version__ = "0.1.0"
__all__ = ["Classifier", "Seen", "__version__"]


def __getattr__(name: str) -> Any:
    if name not in ("Classifier", "Seen"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from edgekit_device import classifier

    return getattr(classifier, name)
