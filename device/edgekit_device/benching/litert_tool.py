"""LiteRT's own benchmark of the same model, where one is installed: an independent figure beside ours."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgekit_device.exit_signal import signal_name

VARIABLE = "EDGEKIT_BENCHMARK_MODEL"
_WHEEL_TOOL = "ai_edge_litert.tools.benchmark_litert_model"
_DEADLINE_S = 60.0
_RUNS = 50
# "Inference timings in us: Init: 12345, First inference: 9876, Warmup (avg): 5.1e3, Inference (avg): 4567.8"
_AVERAGE = re.compile(r"Inference \(avg\): ([0-9.e+]+)")


def benchmark(model: bytes, threads: int) -> dict[str, Any] | None:
    """Let LiteRT's tool measure a model.

    The native `benchmark_model` on PATH, or the file that EDGEKIT_BENCHMARK_MODEL names, else the one in the wheel of
    ai-edge-litert.

    Args:
        model: The .tflite file.
        threads: Interpreter threads.

    Returns:
        ``{"tool", "threads", "invoke_ms", "statistic"}``, or ``{"tool", "threads", "problem"}`` where it fails: the one
        in the wheel of 2.3.0 dies on a Raspberry Pi 4, whose Cortex-A72 lacks instructions that it was compiled for.
        None where there is no such tool.
    """
    native = os.environ.get(VARIABLE) or shutil.which("benchmark_model")
    if not native and not _has_wheel_tool():
        return None
    tool = "benchmark_model" if native else _WHEEL_TOOL.rpartition(".")[2]
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.tflite"
            path.write_bytes(model)
            found = _native(native, path, threads) if native else _from_wheel(path, threads)
    except (OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
        found = {"problem": _problem(error)}
    return {"tool": tool, "threads": threads, **found}


def _problem(error: Exception) -> str:
    """Why there is no figure, in one line."""
    if isinstance(error, subprocess.TimeoutExpired):
        return f"not done within {error.timeout:.0f} s"
    if not isinstance(error, subprocess.CalledProcessError):
        return f"its answer cannot be read: {type(error).__name__}: {error}"
    name = signal_name(error.returncode)
    ended = f"killed by {name}" if name else f"exit {error.returncode}"
    lines = [line.strip() for line in str(error.stderr or "").splitlines() if line.strip("\x00 \n")]
    # The tool's own word for its end; what a shell or an emulator says after it is not.
    said = next((line for line in lines if "FATAL" in line), lines[-1] if lines else "")
    return f"{ended}: {said}" if said else ended


def _has_wheel_tool() -> bool:
    try:
        return find_spec(_WHEEL_TOOL) is not None
    except ImportError:
        return False


def _run(words: list[str]) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=_DEADLINE_S, check=True)
    return done.stdout + done.stderr


def _native(tool: str, path: Path, threads: int) -> dict[str, Any]:
    text = _run([tool, f"--graph={path}", f"--num_threads={threads}", "--use_xnnpack=true", f"--num_runs={_RUNS}"])
    found = _AVERAGE.search(text)
    if not found:
        raise ValueError("no line 'Inference (avg)'")
    return {"invoke_ms": float(found[1]) / 1000, "statistic": "mean"}


def _from_wheel(path: Path, threads: int) -> dict[str, Any]:
    answer = path.with_suffix(".json")
    words = [f"--model={path}", f"--num_threads={threads}", f"--num_runs={_RUNS}", f"--result_json={answer}"]
    _run([sys.executable, "-m", _WHEEL_TOOL, *words])
    latency = json.loads(answer.read_text())["latency"]
    return {"invoke_ms": float(latency["median_ms"]), "statistic": "median"}
