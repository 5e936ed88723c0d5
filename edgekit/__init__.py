"""EdgeKit: from EfficientNet-Lite weights to a watched fleet.

The verbs of the command line, as functions. They load what they need when they are first used: ``import edgekit``
loads neither TensorFlow nor OpenCV.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgekit.calibration_check import check_calibration
    from edgekit.compressing import compress
    from edgekit.demonstration import demo
    from edgekit.diagnosis import blame
    from edgekit.evaluation_run import evaluate
    from edgekit.pipeline import bundle, convert, flash, verify
    from edgekit.pruning_study import study_pruning
    from edgekit.report_run import report
    from edgekit.reporting.bench import bench
    from edgekit.runtime_making import runtime_release
    from edgekit.training_run import train
    from edgekit.weight_report import study

__version__ = "0.1.0"
__all__ = [
    "bench",
    "blame",
    "bundle",
    "check_calibration",
    "compress",
    "convert",
    "demo",
    "evaluate",
    "flash",
    "report",
    "runtime_release",
    "study",
    "study_pruning",
    "train",
    "verify",
]

_HOMES = dict.fromkeys(("bundle", "convert", "flash", "verify"), "pipeline") | {
    "bench": "reporting.bench",
    "blame": "diagnosis",
    "check_calibration": "calibration_check",
    "report": "report_run",
    "runtime_release": "runtime_making",
    "study": "weight_report",
    "study_pruning": "pruning_study",
    "compress": "compressing",
    "demo": "demonstration",
    "train": "training_run",
    "evaluate": "evaluation_run",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
