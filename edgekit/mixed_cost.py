"""What layers in float cost: the mixed model beside its all-integer twin, on each rung, in turns."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

Progress = Callable[[str, int, int], None]

_ROUNDS, _SECONDS = 2, 0.2


def cost_of(mixed: bytes, whole: bytes, *, progress: Progress | None = None) -> dict[str, Any]:
    """Time and size of both.

    Args:
        mixed: The model with layers in float.
        whole: The same with all layers as integers.
        progress: Called with ("bench", done, total).

    Returns:
        ``{"bytes": {"mixed", "int8"}, "xnnpack_ms": {"mixed", "int8"}, "builtin_ms": ..., "edgetpu_operators":
        {"before_float", "all"}}``; a time is None where the rung does not run the model. An Edge TPU computes what
        stands before the first float operator, and the CPU the rest.
    """
    from edgekit.reporting.bench import bench
    from edgekit_device.infer.flatbuffer import read_model

    found: dict[str, Any] = {"bytes": {"mixed": len(mixed), "int8": len(whole)}}
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        paths = {name: Path(folder) / f"{name}.tflite" for name in ("mixed", "int8")}
        for path, data in zip(paths.values(), (mixed, whole), strict=True):
            path.write_bytes(data)
        timed = bench(list(paths.values()), threads=(1,), rounds=_ROUNDS, seconds=_SECONDS, progress=progress)
    for cell in timed.cells:
        found.setdefault(f"{cell.rung}_ms", {})[Path(cell.model).stem] = cell.p50_ms
    graph = read_model(mixed, "the mixed model").main
    floats = {tensor.index for tensor in graph.tensors if tensor.dtype == "float32"}
    first = next((at for at, op in enumerate(graph.operators) if floats & {*op.inputs, *op.outputs}), None)
    total = len(graph.operators)
    return {**found, "edgetpu_operators": {"before_float": total if first is None else first, "all": total}}
