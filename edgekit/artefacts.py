"""The value that travels from stage to stage, and how it is kept on disk.

A stage takes an artefact and makes another one. Each knows its file, the digest of its bytes, its parent's digest
and the recipe that made it; OUT.json beside OUT.tflite carries that chain.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from edgekit.errors import DamagedRecordError, ReplacedFileError
from edgekit_device.contract.documents import SCHEMA, Fields, load
from edgekit_device.contract.errors import ContractError

RUNS = Path("runs")


@dataclass(frozen=True)
class Artefact:
    """One file that a stage made.

    Attributes:
        path: Where it lies.
        sha256: Digest of its bytes, hex.
        parent: Digest of the artefact it was made from; None for the first of a chain.
        recipe: What made it: enough to make it again.
        kind: ``weights``, ``run``, ``tflite``, ``bundle``.
    """

    path: Path
    sha256: str
    parent: str | None
    recipe: Mapping[str, Any]
    kind: str

    @classmethod
    def of(
        cls, path: Path, kind: str, *, parent: str | None = None, recipe: Mapping[str, Any] | None = None
    ) -> Artefact:
        """The artefact that a file on disk is: its digest is taken now."""
        return cls(path, sha256_of(path), parent, recipe or {}, kind)


@dataclass(frozen=True)
class Sidecar:
    """OUT.json: what the model file beside it is and how it was made.

    Attributes:
        path: The model file, as the command named it.
        sha256: Digest of the model file, hex.
        parent: Digest of the float model or run it was converted from.
        variant: Name in `edgekit models`; None for a model from elsewhere.
        scheme: ``int8``, ``int16x8``, ``dynamic``, ``float16`` or ``float32``.
        io: Type of the input and output tensors.
        bytes: Size of the model file.
        operators: Count by operator name.
        input: Shape, dtype, scale and zero point of the input tensor.
        output: The same of the output tensor.
        preprocess: The document of `edgekit_device.contract.preprocess.Preprocess`; empty if it is not known.
        calibration: Which images chose the ranges.
        agreement: How often the model and its float parent name the same class, and on what.
        seconds: What the conversion took.
        weights: ``source`` (``imagenet``, ``random``, a file name), ``sha256``, ``licence``.
        labels: How many labels belong to it; 0 if that is not known.
        recipe: What made it.
        extra: Fields of a newer version, kept as they are.
    """

    path: str
    sha256: str
    parent: str | None
    variant: str | None
    scheme: str
    io: str
    bytes: int
    operators: Mapping[str, int]
    input: Mapping[str, Any]
    output: Mapping[str, Any]
    preprocess: Mapping[str, Any]
    calibration: Mapping[str, Any]
    agreement: Mapping[str, Any]
    seconds: float
    weights: Mapping[str, Any]
    labels: int = 0
    recipe: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The document, ready for `write_json`."""
        known = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "extra"}
        return {**self.extra, "schema": SCHEMA, **known}

    def artefact(self, model: Path) -> Artefact:
        """The link of the chain that this sidecar describes."""
        return Artefact(model, self.sha256, self.parent, self.recipe, "tflite")


def parse_sidecar(data: bytes, name: str) -> Sidecar:
    """Read a sidecar.

    Raises:
        ContractError: A field is missing or mistyped, or the schema is not one this version reads.
    """
    values = load(name, data)
    read = Fields(name, values)
    objects = ("operators", "input", "output", "preprocess", "calibration", "agreement", "weights")
    known = {f.name for f in fields(Sidecar)} | {"schema"}
    return Sidecar(
        path=read.text("path", limit=4096),
        sha256=read.text("sha256", limit=64),
        parent=read.text_or_none("parent"),
        variant=read.text_or_none("variant"),
        scheme=read.text("scheme"),
        io=read.text("io"),
        bytes=read.integer("bytes"),
        seconds=read.number("seconds", low=0),
        labels=read.integer("labels") if "labels" in values else 0,
        recipe=read.mapping("recipe") if "recipe" in values else {},
        extra={key: value for key, value in values.items() if key not in known},
        **{key: read.mapping(key) for key in objects},
    )


def sidecar_path(model: Path) -> Path:
    """OUT.json for OUT.tflite."""
    return model.with_suffix(".json")


def write_sidecar(model: Path, sidecar: Sidecar) -> Path:
    """Write OUT.json beside a model file."""
    path = sidecar_path(model)
    write_json(path, sidecar.to_json())
    return path


def read_sidecar(model: Path) -> Sidecar | None:
    """Read OUT.json beside a model file and hold it against the file.

    Returns:
        None if there is no sidecar: the model was made elsewhere.

    Raises:
        ReplacedFileError: The sidecar speaks of other bytes than the model file has now.
        DamagedRecordError: The sidecar cannot be read.
    """
    path = sidecar_path(model)
    try:
        sidecar = parse_sidecar(path.read_bytes(), path.name)
    except FileNotFoundError:
        return None
    except (ContractError, OSError) as cause:
        raise DamagedRecordError(str(path), str(cause)) from cause
    actual = sha256_of(model)
    if actual != sidecar.sha256:
        raise ReplacedFileError(str(model), str(path), sidecar.sha256, actual)
    return sidecar


def run_path(name: str, *, runs: Path = RUNS) -> Path:
    """Where a run lies: a bare name means ``runs/NAME``, anything with a slash is a path as it stands."""
    path = Path(name).expanduser()
    bare = len(path.parts) == 1 and "/" not in name and name not in (".", "..", "~")
    return runs / path if bare else path


def sha256_of(path: Path) -> str:
    """Digest of a file's bytes, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Replace a file so that a power cut leaves the old bytes or the new ones, never a mixture.

    Args:
        path: The file; its folder is made if it is missing.
        data: What it shall hold.
        mode: Permission bits, less the umask.
    """
    staged = stage(path, data, mode=mode)
    try:
        staged.replace(path)
    except BaseException:
        staged.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def stage(path: Path, data: bytes, *, mode: int = 0o644) -> Path:
    """Write the bytes to a temporary file in the folder of `path`, down to the disk; the caller renames it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            # mkstemp makes 0600; what is public gets what the umask leaves of it.
            os.fchmod(file.fileno(), mode & ~_umask())
            os.fsync(file.fileno())
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return Path(name)


def sync_folder(folder: Path) -> None:
    """Bring a folder's entries to the disk: a rename counts only after this."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # Some network file systems refuse it for folders; the rename is still atomic there.
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write one JSON document for people and programs: sorted keys, two spaces, no NaN, a last newline."""
    text = json.dumps(document, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False, default=_plain)
    write_atomically(path, (text + "\n").encode("utf-8"))


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{type(value).__name__} does not belong in a document")


def _umask() -> int:
    # Python offers no way to read the umask without setting it; /proc does, without a race between threads.
    with contextlib.suppress(OSError, ValueError), Path("/proc/self/status").open() as status:
        for line in status:
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    return 0o022
