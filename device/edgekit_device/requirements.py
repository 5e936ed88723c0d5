"""What a bundle requires of the board that is to run it."""

from __future__ import annotations

from edgekit_device import __version__
from edgekit_device.contract.documents import SCHEMA
from edgekit_device.contract.errors import RuntimeTooOldError, SchemaError
from edgekit_device.contract.manifest import Manifest
from edgekit_device.contract.versions import numbers


def check_requirements(manifest: Manifest, *, runtime: str = __version__) -> None:
    """Refuse a bundle that this runtime is too old for.

    Args:
        manifest: Read, so its ``requires`` has the right types.
        runtime: Version of edgekit-device.

    Raises:
        RuntimeTooOldError: It requires a newer edgekit-device; the message has the command that brings it.
        SchemaError: It requires a schema that this version does not read.
    """
    least = manifest.requires.get("runtime")
    if least is not None and numbers(least) > numbers(runtime):
        raise RuntimeTooOldError(manifest.bundle_id, least, runtime)
    schema = manifest.requires.get("schema")
    if schema is not None and schema > SCHEMA:
        raise SchemaError(f"{manifest.bundle_id}: requires", schema, SCHEMA)
