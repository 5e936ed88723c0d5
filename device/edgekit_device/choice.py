"""What was found out about this model on this machine, kept over a restart: which rung serves, with how many threads.

Only a shortcut: the rung still proves itself at every start, and a lost one is tried again.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from edgekit_device.disk import make_folders, replace_file

NAME = "choice.json"
_PACKAGES = ("ai-edge-litert", "tflite-runtime", "numpy")


@dataclass(frozen=True)
class Choice:
    """The outcome of an earlier start.

    Attributes:
        threads: Threads of each interpreter, by rung.
        failures: Why better rungs were left.
        lanes: Interpreters side by side, by rung; one where nothing is said.
        warnings: What was found to be slower here than it should be, for `edgekit-device status`.
    """

    threads: dict[str, int] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    lanes: dict[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def fingerprint(model_sha256: str, source: str, *, realtime: bool = False, mode: str = "") -> str:
    """What the choice depends on: the model, the interpreter, the kernel, the processor, the source's kind and pace.

    Args:
        model_sha256: Of the CPU model.
        source: ``kind:argument``.
        realtime: Whether a file is played at its own pace, which fewer threads hold.
        mode: What the run is for.
    """
    parts = [model_sha256, platform.machine(), platform.release(), str(os.cpu_count()), source.partition(":")[0]]
    parts += [f"realtime={realtime}", mode]
    for package in _PACKAGES:
        try:
            parts.append(f"{package}={version(package)}")
        except PackageNotFoundError:
            continue
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def load_choice(folder: Path, key: str) -> Choice:
    """The kept choice; an empty one if there is none, or if the world has changed since."""
    try:
        document = json.loads((folder / NAME).read_bytes()[: 1 << 16])
        if document["key"] != key:
            return Choice()
        threads, lanes = (
            {str(rung): int(count) for rung, count in document.get(name, {}).items() if 1 <= int(count) <= 64}
            for name in ("threads", "lanes")
        )
        warnings = tuple(str(words)[:300] for words in document.get("warnings", ())[:8])
        failures = {str(rung): str(why)[:300] for rung, why in document["failures"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Choice()
    return Choice(threads, failures, lanes, warnings)


def keep_choice(folder: Path, key: str, choice: Choice) -> None:
    """Keep it; a disk that does not take it costs a measurement at the next start and nothing else."""
    document = {**asdict(choice), "key": key, "schema": 1}
    try:
        make_folders(folder)
        replace_file(folder / NAME, json.dumps(document, sort_keys=True).encode())
    except OSError:
        return
