"""Checkpoints: everything that the next epoch hangs on, in one file that is whole or the one before it."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.artefacts import write_atomically

Arrays = Sequence[npt.NDArray[Any]]


@dataclass(frozen=True)
class Checkpoint:
    """One epoch's end.

    Attributes:
        stage: Which teaching it belongs to; that of another stage or recipe is not read.
        state: Variables of network and optimiser.
        best: The network's variables after the best epoch, if early stopping watches.
        history: One entry an epoch.
    """

    stage: str
    state: Arrays
    best: Any
    history: list[dict[str, float]]


def write_checkpoint(path: Path, kept: Checkpoint) -> None:
    """Write it down to the disk, then put it in the place of the one before."""
    arrays = {f"state{at:05}": value for at, value in enumerate(kept.state)}
    arrays |= {f"best{at:05}": value for at, value in enumerate(kept.best or ())}
    facts = json.dumps({"stage": kept.stage, "history": kept.history})
    buffer = io.BytesIO()
    np.savez(buffer, facts=np.array(facts), **arrays)  # type: ignore[arg-type]
    write_atomically(path, buffer.getvalue())


def read_checkpoint(path: Path, stage: str) -> Checkpoint | None:
    """Read it; None where there is none, or it is damaged, or another stage's: then that stage starts anew."""
    try:
        with np.load(path, allow_pickle=False) as file:
            facts = json.loads(str(file["facts"]))
            if facts["stage"] != stage:
                return None
            names = sorted(file.files)
            state = [file[name] for name in names if name.startswith("state")]
            best = [file[name] for name in names if name.startswith("best")]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return Checkpoint(stage, state, best or None, facts["history"])
