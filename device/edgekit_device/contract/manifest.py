"""The manifest of a bundle: what was signed, and how to use it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgekit_device.contract.documents import SCHEMA, Fields, dump, load
from edgekit_device.contract.errors import FieldError
from edgekit_device.contract.file_table import FileEntry, read_entry, read_identity, table_json
from edgekit_device.contract.ids import check_version
from edgekit_device.contract.preprocess import Preprocess

NAME = "manifest.json"
LABELS = "labels.txt"
GOLDEN_SCORES = "golden/expected.json"
MAX_ENTRIES = 256
MAX_CLASSES = 100_000

# One flat level below the root, no dot files: an entry name is only ever looked up, never joined to a path. No dot at
# the end either: file systems that drop it would make two names one.
_ENTRY = re.compile(r"(golden/)?[A-Za-z0-9_]([A-Za-z0-9_.-]{0,98}[A-Za-z0-9_-])?", re.ASCII)
_ROLE = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}", re.ASCII)


@dataclass(frozen=True)
class Manifest:
    """What a bundle holds and how its model is to be fed.

    Attributes:
        name: Bundle name.
        version: ``N.N.N``.
        files: Every other entry of the zip, by name.
        models: Model file per role; ``cpu`` is always there.
        preprocess: How a frame becomes the input tensor of the ``cpu`` model.
        classes: Length of the score vector.
        baseline: Validation baseline (accuracy with interval, class mix, histograms, bench FPS); may be empty.
        provenance: Weights hash, recipe, tool versions, licences.
        requires: ``{"runtime": least version, "schema": 1}``.
        security_epoch: The only floor against downgrade.
        extra: Fields of a newer minor version, kept as they are.
    """

    name: str
    version: str
    files: Mapping[str, FileEntry]
    models: Mapping[str, str]
    preprocess: Preprocess
    classes: int
    baseline: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    requires: Mapping[str, Any] = field(default_factory=dict)
    security_epoch: int = 0
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def bundle_id(self) -> str:
        """``NAME-VERSION``, as it stands in status and Readings."""
        return f"{self.name}-{self.version}"

    @property
    def golden_images(self) -> tuple[str, ...]:
        """Names of the golden images, sorted."""
        return tuple(sorted(n for n in self.files if n.startswith("golden/") and n.endswith(".png")))

    def to_bytes(self) -> bytes:
        """The document as it is signed."""
        return dump(
            {
                **self.extra,
                "schema": SCHEMA,
                "name": self.name,
                "version": self.version,
                "files": table_json(self.files),
                "models": dict(self.models),
                "preprocess": self.preprocess.to_json(),
                "classes": self.classes,
                "baseline": dict(self.baseline),
                "provenance": dict(self.provenance),
                "requires": dict(self.requires),
                "security_epoch": self.security_epoch,
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """Read a manifest.

        Raises:
            FieldError: A field is missing, mistyped or out of range.
            SchemaError: A schema this version does not read.
        """
        values = load("manifest", data)
        fields = Fields("manifest", values)
        files = _files(fields)
        models = _models(fields, files)
        name, version = read_identity(fields)
        if LABELS not in files:
            raise FieldError("manifest", "files", f"lacks {LABELS}")
        return cls(
            name=name,
            version=version,
            files=files,
            models=models,
            preprocess=Preprocess.from_json(fields.mapping("preprocess"), "manifest.preprocess"),
            classes=fields.integer("classes", low=1, high=MAX_CLASSES),
            baseline=fields.mapping("baseline"),
            provenance=fields.mapping("provenance"),
            requires=_requires(fields),
            security_epoch=fields.integer("security_epoch"),
            extra={k: v for k, v in values.items() if k not in _KNOWN},
        )


_KNOWN = {
    "schema", "name", "version", "files", "models", "preprocess", "classes", "baseline", "provenance",
    "requires", "security_epoch",
}  # fmt: skip


def _files(fields: Fields) -> dict[str, FileEntry]:
    listed = fields.mapping("files")
    if len(listed) > MAX_ENTRIES:
        raise FieldError("manifest", "files", f"lists more than {MAX_ENTRIES} entries")
    files = {}
    folded: set[str] = set()
    for name, entry in listed.items():
        if not _ENTRY.fullmatch(name) or name == NAME or ".." in name or name.casefold() in folded:
            raise FieldError("manifest", "files", f"lists {name[:80]!r}, which is not an allowed entry name")
        folded.add(name.casefold())
        files[name] = read_entry("manifest", "files", name, entry)
    return files


def _models(fields: Fields, files: Mapping[str, FileEntry]) -> dict[str, str]:
    models = fields.mapping("models")
    for role, name in models.items():
        if not _ROLE.fullmatch(role) or not isinstance(name, str) or name not in files:
            raise FieldError("manifest", "models", f"role {role[:40]!r} names a file that is not listed")
    if "cpu" not in models:
        raise FieldError("manifest", "models", "has no 'cpu' model; every bundle carries one")
    return models


def _requires(fields: Fields) -> dict[str, Any]:
    required = fields.mapping("requires")
    inner = Fields("manifest.requires", required)
    if "runtime" in required:
        least = inner.text("runtime")
        try:
            check_version(least)
        except ValueError as cause:
            raise FieldError(inner.name, "runtime", str(cause)) from cause
    if "schema" in required:
        inner.integer("schema", low=1)
    return required
