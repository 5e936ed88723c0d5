"""A run: the folder that training and compression leave, and the recipe that decides whether it may go on.

runs/NAME/model.keras  labels.txt  preprocess.json  recipe.toml  split.json  history.json  RUN.json
          photos/  curves.svg  confusion.svg  ranges.json (after `qat`)  checkpoint.npz (until it is done)
"""

from __future__ import annotations

import json
import shutil
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.artefacts import run_path, write_atomically, write_json
from edgekit.errors import DamagedRecordError, RunExistsError, UsageError
from edgekit_device.contract.documents import SCHEMA

MODEL, RECORD, RECIPE, SPLIT = "model.keras", "RUN.json", "recipe.toml", "split.json"
LABELS, PREPROCESS, HISTORY, RANGES = "labels.txt", "preprocess.json", "history.json", "ranges.json"
CHECKPOINT, PHOTOS = "checkpoint.npz", "photos"
_FILES = (
    MODEL,
    RECORD,
    RECIPE,
    SPLIT,
    LABELS,
    PREPROCESS,
    HISTORY,
    RANGES,
    CHECKPOINT,
    "curves.svg",
    "confusion.svg",
)
# What may differ between a run and its resumption.
_NOT_COMPARED = ("versions",)


@dataclass(frozen=True)
class RunRecord:
    """RUN.json: what a run is and where it came from.

    Attributes:
        folder: Where it lies.
        facts: The document.
    """

    folder: Path
    facts: Mapping[str, Any]

    @property
    def model(self) -> Path:
        """The Keras model."""
        return self.folder / MODEL


def open_run(out: str | Path, recipe: Mapping[str, Any], *, force: bool = False) -> tuple[Path, bool]:
    """Make a run's folder, or find the one to go on with.

    Args:
        out: A bare name means runs/NAME.
        recipe: What is asked for.
        force: Throw away a run of another recipe.

    Returns:
        (the folder; whether the run in it is finished).

    Raises:
        RunExistsError: It holds a run of another recipe, or something that is no run at all.
    """
    folder = run_path(str(out))
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"-o {folder}: is a file; name a folder for the run")
    kept = folder / RECIPE
    if kept.is_file():
        before = read_toml(kept)
        differing = differences(before, recipe)
        if not differing:
            return folder, (folder / RECORD).is_file()
        if "verb" not in before:
            raise RunExistsError(str(folder), ["its recipe.toml is no run's"], force=False)
        if not force:
            raise RunExistsError(str(folder), differing)
        _clear(folder)
    elif folder.is_dir() and any(folder.iterdir()):
        raise RunExistsError(str(folder), ["it holds other files and no recipe.toml"], force=False)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(kept, to_toml(recipe).encode("utf-8"))
    return folder, False


def _clear(folder: Path) -> None:
    """Only what a run leaves; the recipe last, so that a kill in between is still seen as a run."""
    shutil.rmtree(folder / PHOTOS, ignore_errors=True)
    for left in folder.glob("stage*"):
        left.unlink()
    for name in sorted(_FILES, key=lambda name: name == RECIPE):
        (folder / name).unlink(missing_ok=True)


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """One line for each key on which two recipes differ."""
    old, new = _flat(_compared(before)), _flat(_compared(now))
    return [
        f"{key} was {_word(old[key]) if key in old else 'not set'}, is {_word(new[key]) if key in new else 'not set'}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) or (key in old) != (key in new)
    ]


def _compared(recipe: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in recipe.items() if key not in _NOT_COMPARED}


def _flat(values: Mapping[str, Any], head: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        if value is None:  # TOML has no such value: it is left out.
            continue
        if isinstance(value, Mapping):
            found |= _flat(value, f"{head}{key}.")
        elif isinstance(value, (list, tuple)) and value and all(isinstance(item, Mapping) for item in value):
            for at, item in enumerate(value, 1):
                found |= _flat(item, f"{head}{key}[{at}].")
        else:
            found[f"{head}{key}"] = list(value) if isinstance(value, tuple) else value
    return found


def _word(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def write_record(folder: Path, facts: Mapping[str, Any]) -> RunRecord:
    """Write RUN.json, the last file of a run: a folder without it is not finished."""
    document = {**facts, "schema": SCHEMA, "kind": "run"}
    write_json(folder / RECORD, document)
    return RunRecord(folder, document)


def read_record(folder: Path) -> RunRecord | None:
    """Read RUN.json; None where there is none.

    Raises:
        DamagedRecordError: It cannot be read.
    """
    document = read_json(folder / RECORD)
    return None if document is None else RunRecord(folder, document)


def read_split(folder: Path) -> dict[str, Any] | None:
    """Read split.json: which pictures were held out; None where there is none."""
    return read_json(folder / SPLIT)


def read_ranges_file(folder: Path) -> dict[str, tuple[float, float]] | None:
    """Read ranges.json: layer -> smallest and largest value behind it; None where there is none."""
    document = read_json(folder / RANGES)
    if document is None:
        return None
    try:
        return {str(name): (float(low), float(high)) for name, (low, high) in document["layers"].items()}
    except (KeyError, TypeError, ValueError) as cause:
        raise DamagedRecordError(str(folder / RANGES), f"holds no ranges ({cause})") from cause


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object; None where there is no file.

    Raises:
        DamagedRecordError: It cannot be read.
    """
    try:
        document = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as cause:
        raise DamagedRecordError(str(path), f"is not readable JSON ({cause})") from cause
    if not isinstance(document, dict):
        raise DamagedRecordError(str(path), "is not a JSON object")
    return document


def read_toml(path: Path) -> dict[str, Any]:
    """Read a recipe.toml that a run left.

    Raises:
        DamagedRecordError: It is not TOML.
    """
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as cause:
        raise DamagedRecordError(str(path), f"is not TOML ({cause})") from cause


def to_toml(document: Mapping[str, Any]) -> str:
    """A document of scalars, lists of scalars, tables and lists of tables as TOML; None is left out."""
    lines: list[str] = []
    _table(document, "", lines)
    return "\n".join(lines).strip() + "\n"


def _table(values: Mapping[str, Any], head: str, lines: list[str]) -> None:
    nested = {k: v for k, v in values.items() if isinstance(v, Mapping) or _is_tables(v)}
    lines += [f"{_key(k)} = {_value(v)}" for k, v in values.items() if k not in nested and v is not None]
    for key, value in nested.items():
        path = f"{head}{_key(key)}"
        for item in [value] if isinstance(value, Mapping) else value:
            lines += ["", f"[{path}]" if isinstance(value, Mapping) else f"[[{path}]]"]
            _table(item, f"{path}.", lines)


def _is_tables(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(item, Mapping) for item in value)


def _key(name: str) -> str:
    return name if name.replace("_", "").replace("-", "").isascii() and name.isidentifier() else json.dumps(name)


def _value(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_value(item) for item in value)}]"
    # JSON's strings, numbers and truth values are TOML's; DEL is the one character that JSON leaves bare.
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("\x7f", "\\u007f")
