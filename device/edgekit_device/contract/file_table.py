"""What a signed manifest of either kind says of the files beside it, and of its own name."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgekit_device.contract.documents import Fields
from edgekit_device.contract.errors import DigestMismatchError, FieldError
from edgekit_device.contract.ids import check_bundle_name, check_version

MAX_BUNDLE_BYTES = 256 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True)
class FileEntry:
    """Size and digest of one file in the archive."""

    bytes: int
    sha256: str


def check_file(content: bytes | memoryview, expected: FileEntry, path: str) -> None:
    """Refuse other bytes than the ones that were signed.

    Args:
        content: Of the file.
        expected: Its row of the table.
        path: What to call it in errors.

    Raises:
        DigestMismatchError: It is another file.
    """
    actual = hashlib.sha256(content).hexdigest()
    if len(content) != expected.bytes or actual != expected.sha256:
        raise DigestMismatchError(path, expected.sha256, actual)


def read_entry(document: str, table: str, file: str, entry: object) -> FileEntry:
    """One row of the table.

    Args:
        document: What to call the manifest in errors.
        table: Its field.
        file: Name of the entry.
        entry: As it stands there.

    Raises:
        FieldError: It is not such a row.
    """
    if not isinstance(entry, dict):
        raise FieldError(document, f"{table}.{file}", "must be an object")
    inner = Fields(f"{document}.{table}.{file}", entry)
    digest = inner.text("sha256")
    if not _SHA256.fullmatch(digest):
        raise FieldError(inner.name, "sha256", "must be 64 hex digits")
    return FileEntry(inner.integer("bytes", high=MAX_BUNDLE_BYTES), digest)


def table_of(files: Mapping[str, bytes]) -> dict[str, FileEntry]:
    """The table of some files, by name."""
    return {name: FileEntry(len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items()}


def table_json(table: Mapping[str, FileEntry]) -> dict[str, Any]:
    """The table as it is signed."""
    return {name: {"bytes": entry.bytes, "sha256": entry.sha256} for name, entry in table.items()}


def read_identity(fields: Fields) -> tuple[str, str]:
    """Name and version.

    Raises:
        FieldError: Either is missing or not well formed.
    """
    try:
        return check_bundle_name(fields.text("name")), check_version(fields.text("version"))
    except FieldError:
        raise
    except ValueError as cause:
        raise FieldError(fields.name, "name", str(cause)) from cause
