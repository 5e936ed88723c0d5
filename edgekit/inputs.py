"""What belongs to a model file that is named on a command line: that it exists, its preprocessing, its labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.artefacts import Sidecar
from edgekit.errors import PreprocessUnknownError, UsageError
from edgekit.preprocessing import choose_preprocess
from edgekit.records import tensor_facts
from edgekit_device.contract.preprocess import Preprocess

if TYPE_CHECKING:
    from edgekit_device.infer.flatbuffer import ModelInfo


def existing(path: str | Path) -> Path:
    """A file that is there.

    Raises:
        UsageError: It is not.
    """
    found = Path(path)
    if not found.is_file():
        raise UsageError(f"{found}: there is no such file")
    return found


def preprocess_of(path: Path, sidecar: Sidecar | None, info: ModelInfo, choice: str | None) -> Preprocess:
    """The preprocessing of a .tflite model: what --preprocess says, else OUT.json.

    Raises:
        PreprocessUnknownError: Neither says anything.
    """
    shape = info.main.inputs[0].shape
    if choice is None:
        if sidecar is None or not sidecar.preprocess:
            raise PreprocessUnknownError(str(path))
        return Preprocess.from_json(dict(sidecar.preprocess), f"{path.with_suffix('.json')}:preprocess")
    spec = choose_preprocess(choice, (shape[1], shape[2]), beside=path)
    tensor = tensor_facts(info.main.inputs[0])
    return spec.quantised(tensor["dtype"], tensor["scale"], tensor["zero_point"])


def labels_path(model: Path) -> Path:
    """Where `convert` leaves the labels: OUT.labels.txt for OUT.tflite."""
    return model.with_suffix(".labels.txt")


def labels_of(model: Path, labels: str | Path | None) -> Path:
    """The labels file of a model: the one that is named, else the one beside it.

    Raises:
        UsageError: Neither is there.
    """
    if labels:
        return Path(labels)
    beside = labels_path(model)
    if not beside.is_file():
        raise UsageError(
            f"{model}: its labels are not known (there is no {beside.name} beside it); name them with --labels FILE, "
            "one label a line in the order of the score vector"
        )
    return beside
