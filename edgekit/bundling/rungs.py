"""Try one rung of the delegate ladder in a process of its own: a bad kernel may abort it, or never return.

The parent writes the model and the input tensors to a folder, the child writes the score vectors back. A child
that dies takes nothing with it; how it died becomes the reason.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgekit.errors import RungError
from edgekit_device.exit_signal import ending

if TYPE_CHECKING:
    from edgekit_device.infer.interpreter import TensorSpec

Scores = npt.NDArray[np.float32]
Tensors = npt.NDArray[Any]

STARTUP_S = 60.0
"""Importing numpy and the interpreter and building the graph, on a busy machine."""
PER_IMAGE_S = 5.0
"""Lite4 on reference-speed kernels stays below 2 s an image."""


def run_rung(model: bytes, tensors: Tensors, rung: str, *, threads: int = 1) -> tuple[Scores, TensorSpec]:
    """Scores of many inputs on one rung.

    Args:
        model: The .tflite file.
        tensors: Shape (n, height, width, channels), dtype of the model's input.
        rung: ``xnnpack`` or ``builtin``.
        threads: Interpreter threads.

    Returns:
        (scores, float32, shape (n, classes); the output tensor).

    Raises:
        RungError: The process died, hung, or said why it cannot.
    """
    from edgekit_device.infer.interpreter import TensorSpec

    with tempfile.TemporaryDirectory(prefix="edgekit-rung-") as name:
        folder = Path(name)
        (folder / "model.tflite").write_bytes(model)
        np.save(folder / "inputs.npy", tensors, allow_pickle=False)
        _in_child(folder, "score", rung, str(threads), limit_s=STARTUP_S + PER_IMAGE_S * len(tensors))
        scores: Scores = np.load(folder / "scores.npy", allow_pickle=False)
        output = json.loads((folder / "output.json").read_bytes())
    if not np.all(np.isfinite(scores)):
        raise RungError(rung, "it computes scores that are not finite")
    return scores, TensorSpec(tuple(output["shape"]), output["dtype"], output["scale"], output["zero_point"])


def prove_rung(bundle: Path, public_key: Path, rung: str) -> dict[str, Any]:
    """Open a bundle with the device's code and reproduce its golden vectors on one rung, in a child.

    Returns:
        ``{"images", "largest_difference", "tolerance"}``.

    Raises:
        RungError: It cannot be opened, or the vectors are not reproduced; the reason says which.
    """
    with tempfile.TemporaryDirectory(prefix="edgekit-rung-") as name:
        limit_s = STARTUP_S + 16 * PER_IMAGE_S
        _in_child(Path(name), "prove", rung, str(bundle), str(public_key), limit_s=limit_s)
        figures: dict[str, Any] = json.loads((Path(name) / "figures.json").read_bytes())
        return figures


def _command(task: str, folder: Path, rung: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "edgekit.bundling.rungs", task, str(folder), rung, *arguments]


def _in_child(folder: Path, task: str, rung: str, *arguments: str, limit_s: float) -> None:
    # The child must find the packages the parent found, however those got onto its path.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(Path(p).absolute()) for p in sys.path)}
    try:
        child = subprocess.run(
            _command(task, folder, rung, *arguments), env=environment, capture_output=True, timeout=limit_s, check=False
        )
    except subprocess.TimeoutExpired as cause:
        raise RungError(rung, f"no answer in {limit_s:.0f} s") from cause
    if child.returncode:
        raise RungError(rung, _reason(folder, child))


def _reason(folder: Path, child: subprocess.CompletedProcess[bytes]) -> str:
    told = folder / "error.txt"
    if told.exists():
        return told.read_text(encoding="utf-8")
    ended = f"the process that tried it {ending(child.returncode)}"
    if child.returncode < 0:
        return ended
    last = child.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
    return f"{ended} ({''.join(last)[:200]})"


def _score(folder: Path, rung: str, threads: str) -> None:
    from edgekit_device.infer.interpreter import Engine

    engine = Engine((folder / "model.tflite").read_bytes(), delegate=rung, threads=int(threads))
    inputs = np.load(folder / "inputs.npy", allow_pickle=False)
    scores = np.stack([engine.scores(tensor[None]) for tensor in inputs])
    np.save(folder / "scores.npy", scores.astype(np.float32, copy=False), allow_pickle=False)
    (folder / "output.json").write_text(json.dumps(asdict(engine.output)), encoding="utf-8")


def _prove(folder: Path, rung: str, bundle: str, public_key: str) -> None:
    from edgekit_device.bundle import open_bundle
    from edgekit_device.infer.golden import prove
    from edgekit_device.infer.interpreter import Engine

    opened, _ = open_bundle(Path(bundle), [Path(public_key)])
    figures = prove(Engine(opened.model(), delegate=rung), opened)
    (folder / "figures.json").write_text(json.dumps(figures), encoding="utf-8")


def main(task: str, folder: Path, rung: str, *arguments: str) -> int:
    """The child: do one task; a known error goes into ``error.txt``."""
    from edgekit_device.contract.errors import EdgeKitError

    try:
        if task == "score":
            _score(folder, rung, *arguments)
        else:
            _prove(folder, rung, *arguments)
    except (EdgeKitError, ValueError, RuntimeError) as cause:
        (folder / "error.txt").write_text(str(cause) or type(cause).__name__, encoding="utf-8")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:]))
