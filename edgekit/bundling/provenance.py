"""What a bundle says about its origin: nothing that differs between two makings of the same thing."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import PurePath
from typing import Any

from edgekit.artefacts import Sidecar
from edgekit.errors import ForeignBaselineError, RandomWeightsError, UsageError

RANDOM = "random"
# What can change the bytes of a bundle or the scores in it.
TOOLS = (
    "edgekit", "edgekit-device", "ai-edge-litert", "tflite-runtime", "numpy", "opencv-python-headless",
    "tensorflow", "tensorflow-cpu", "keras",
)  # fmt: skip
_VOLATILE = frozenset({"seconds", "path", "folder"})
# How fast this host judged, and on how many processes.
_MACHINE = frozenset({"images_per_s", "processes"})


def check_weights(sidecar: Sidecar | None, path: str) -> None:
    """Refuse a model whose weights are random.

    Raises:
        RandomWeightsError: They are.
    """
    if sidecar is not None and sidecar.weights.get("source") == RANDOM:
        raise RandomWeightsError(path)


def provenance_of(sidecar: Sidecar | None, extra: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest's ``provenance``.

    Args:
        sidecar: What `convert` wrote beside the model; None for a model from elsewhere.
        extra: Further facts, e.g. ``{"licences": {"model": "Apache-2.0"}}``; they win.
    """
    found: dict[str, Any] = {"tools": tool_versions()}
    if sidecar is None:
        found["model"] = {"origin": "elsewhere"}
    else:
        found["model"] = {"variant": sidecar.variant, "scheme": sidecar.scheme, "io": sidecar.io}
        found["parent"] = sidecar.parent
        found["weights"] = portable(sidecar.weights)
        found["recipe"] = portable(sidecar.recipe)
        found["calibration"] = portable(sidecar.calibration)
        found["agreement"] = portable(sidecar.agreement)
        if licence := sidecar.weights.get("licence"):
            found["licences"] = {"weights": licence}
    return {**found, **portable(extra)}


def baseline_of(evaluation: Mapping[str, Any], model: bytes, path: str) -> dict[str, Any]:
    """The manifest's ``baseline``: what `edgekit evaluate --json` found, without what belongs to this machine.

    Args:
        evaluation: May be empty.
        model: The CPU model that is bundled.
        path: What to call it in errors.

    Raises:
        ForeignBaselineError: Another model was evaluated.
    """
    judged = evaluation.get("model_sha256")
    if judged is not None and judged != hashlib.sha256(model).hexdigest():
        raise ForeignBaselineError(path, str(judged))
    return {key: value for key, value in portable(evaluation).items() if key not in _MACHINE}


def bench_of(bench: Mapping[str, Any], model: bytes, path: str) -> dict[str, Any]:
    """What a board's own bench adds to the ``baseline``: ``bench_fps``, and on what it was measured.

    Args:
        bench: What `edgekit-device bench --json` printed; empty adds nothing.
        model: The CPU model that is bundled.
        path: What to call it in errors.

    Raises:
        UsageError: It is not such a document, or no row of it was measured.
        ForeignBaselineError: Another model was measured.
    """
    if not bench:
        return {}
    judged = bench.get("model_sha256")
    if not isinstance(judged, str) or not isinstance(bench.get("rows"), list):
        raise UsageError("--bench is not a board's; make it there with: edgekit-device bench --json > bench.json")
    if judged != hashlib.sha256(model).hexdigest():
        raise ForeignBaselineError(path, judged, "--bench", "edgekit-device bench --json, on a board that runs it")
    rows = [row for row in bench["rows"] if isinstance(row, Mapping) and isinstance(row.get("fps"), int | float)]
    best = max((row for row in rows if row["fps"] > 0), key=lambda row: float(row["fps"]), default=None)
    if best is None:
        raise UsageError('--bench: no row of it was measured; look at its "problem" entries')
    known = {"kind": bench.get("kind"), "rung": best.get("rung"), "layout": best.get("layout")}
    return {"bench_fps": float(best["fps"]), "bench": known}


def tool_versions() -> dict[str, str]:
    """Installed versions of what made the bundle; what is not installed is left out."""
    found = {}
    for name in TOOLS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def portable(value: Any) -> Any:
    """The same value without what belongs to this machine or this minute: durations and where files lay."""
    if isinstance(value, Mapping):
        return {str(key): portable(inner) for key, inner in value.items() if key not in _VOLATILE}
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return [portable(inner) for inner in value]
    if isinstance(value, PurePath) or (isinstance(value, str) and value.startswith(("/", "~/"))):
        return PurePath(value).name
    return value
