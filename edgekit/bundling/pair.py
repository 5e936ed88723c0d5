"""Put a bundle and its signature in place: never one beside the other's stranger."""

from __future__ import annotations

from pathlib import Path

from edgekit.artefacts import stage, sync_folder


def publish(out: Path, data: bytes, signature: bytes) -> Path:
    """Put a bundle and its signature in place.

    Both are on the disk before either has its name. An old bundle goes first and the new one comes last, so that at
    no moment a bundle lies beside a signature that is not its own.

    Returns:
        The signature's path.
    """
    beside = out.with_name(out.name + ".minisig")
    staged: list[Path] = []
    try:
        staged.append(stage(beside, signature))
        staged.append(stage(out, data))
        out.unlink(missing_ok=True)
        sync_folder(out.parent)
        staged[0].replace(beside)
        sync_folder(out.parent)
        staged[1].replace(out)
        sync_folder(out.parent)
    finally:
        for path in staged:
            path.unlink(missing_ok=True)
    return beside
