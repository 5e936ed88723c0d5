"""OUT.json: what a converted model is, where it came from, and how well it agrees with its float twin."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.artefacts import Sidecar
from edgekit.origins import Origin

if TYPE_CHECKING:
    from edgekit.conversion.calibration import Crop, Photos
    from edgekit.verification.agreement import Agreement
    from edgekit_device.infer.flatbuffer import ModelInfo, TensorInfo


def tensor_facts(tensor: TensorInfo) -> dict[str, Any]:
    """Shape, dtype, scale and zero point of one tensor; scale 0 for float."""
    return {
        "shape": list(tensor.shape),
        "dtype": tensor.dtype,
        "scale": tensor.scales[0] if tensor.scales else 0.0,
        "zero_point": tensor.zero_points[0] if tensor.zero_points else 0,
    }


def record(out: Path, data: bytes, info: ModelInfo, origin: Origin, scheme: str, io: str, seconds: float) -> Sidecar:
    """What is known once the file is made."""
    first, last = tensor_facts(info.main.inputs[0]), tensor_facts(info.main.outputs[0])
    spec = origin.preprocess.quantised(first["dtype"], first["scale"], first["zero_point"])
    return Sidecar(
        path=out.name,
        sha256=hashlib.sha256(data).hexdigest(),
        parent=origin.parent,
        variant=origin.variant,
        scheme=scheme,
        io=io,
        bytes=len(data),
        operators=dict(info.operator_counts),
        input=first,
        output=last,
        preprocess=spec.to_json(),
        calibration={},
        agreement={},
        seconds=round(seconds, 2),
        weights=origin.weights,
        labels=len(origin.labels) if origin.labels else 0,
    )


def with_evidence(
    sidecar: Sidecar, used: Photos, judges: Photos, crops: Sequence[Crop], agreement: Agreement | None, seed: int
) -> Sidecar:
    """Add which photos were calibrated on, and what others said of the result."""
    calibration = {
        "photos": sorted(photo.sha256 for photo in used.images),
        "crops": len(crops),
        "seed": seed,
        "skipped": len(used.skipped),
        "held_out": sorted(photo.sha256 for photo in judges.images) if judges is not used else [],
    }
    measured = agreement.to_json() if agreement else {}
    recipe = {"verb": "convert", "scheme": sidecar.scheme, "io": sidecar.io, "seed": seed}
    return replace(sidecar, calibration=calibration, agreement=measured, recipe=recipe)
