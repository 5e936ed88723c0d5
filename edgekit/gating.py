"""The gates of a recipe on one model: what they ask for is measured, then judged in one place."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.artefacts import sha256_of
from edgekit.errors import UsageError

if TYPE_CHECKING:
    from edgekit.verification.agreement import Agreement
    from edgekit.verification.gates import Gates
    from edgekit.verification.verdict import Verdict
    from edgekit_device.infer.flatbuffer import ModelInfo


def read_evaluation(path: Path, model: Path) -> dict[str, Any]:
    """The document of `edgekit evaluate --json`, of this model and no other.

    Raises:
        UsageError: Not such a document, or of another model.
    """
    try:
        document = json.loads(path.read_text("utf-8"))
        measured = document["model_sha256"]
        float(document["top1"]), int(document["n"])
    except (OSError, ValueError, KeyError, TypeError) as cause:
        raise UsageError(f"--evaluation {path}: make it with: edgekit evaluate MODEL DATA --json") from cause
    if measured != sha256_of(model):
        raise UsageError(f"--evaluation {path}: it is of another model than {model}; evaluate this one")
    return dict(document)


def judge_gates(
    model: Path,
    info: ModelInfo,
    gates: Gates | Mapping[str, Any] | Path,
    agreement: Agreement | None,
    evaluation: Path | None,
) -> Verdict:
    """Measure what the gates ask for beyond agreement, and judge all of it.

    Args:
        model: The .tflite file.
        info: What it declares.
        gates: The limits, as plain data, or a TOML file with a table [gates].
        agreement: With its float twin, if that was measured.
        evaluation: Result of `edgekit evaluate --json`.

    Raises:
        RecipeError: A gate is unknown or has a value that does not fit.
        RungError: The model cannot be timed.
    """
    from edgekit.reporting.bench import bench
    from edgekit.verification.gates import Gates, Measured, gates_of, judge, read_gates
    from edgekit_device.infer.operators import FLOAT_TYPES

    if isinstance(gates, Path):
        gates = read_gates(gates)
    limits = gates if isinstance(gates, Gates) else gates_of(gates)
    ends = {t.name for t in info.main.inputs + info.main.outputs} if _float_ends(info) else set()
    p50_ms = None
    if limits.need_speed:
        p50_ms = bench([model], rungs=("xnnpack",), threads=(limits.threads,)).cells[0].p50_ms
    measured = Measured(
        bytes=model.stat().st_size,
        operators=info.operator_counts,
        float_tensors=tuple(
            t.name for g in info.subgraphs for t in g.tensors if t.dtype in FLOAT_TYPES and t.name not in ends
        ),
        agreement=agreement,
        evaluation=read_evaluation(evaluation, model) if evaluation else None,
        p50_ms=p50_ms,
    )
    return judge(measured, limits)


def _float_ends(info: ModelInfo) -> bool:
    """Whether it was made to take and give float: then a conversion stands at each end."""
    return all(t.dtype == "float32" for t in info.main.inputs + info.main.outputs) and bool(
        {"QUANTIZE", "DEQUANTIZE"} & set(info.operator_counts)
    )
