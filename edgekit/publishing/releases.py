"""Bundles and runtime releases as files of the repository: checked as a board checks them before they are offered."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from edgekit.errors import UsageError
from edgekit.publishing.reading import Offer
from edgekit.publishing.repository import Repository
from edgekit_device.bundle import open_signed, user_public_key
from edgekit_device.contract.errors import NoTrustedKeyError
from edgekit_device.ota.depot import BUNDLES, RUNTIMES
from edgekit_device.runtimes.release import is_runtime, open_runtime

_SIGNATURE = ".minisig"


def publish(
    repository: Repository,
    release: Path,
    *,
    notes: str | None = None,
    public_key: Path | None = None,
    now: datetime | None = None,
) -> list[Offer]:
    """Offer a signed bundle or runtime release to boards.

    Args:
        repository: Made if it is not there yet.
        release: The ``.edgekit`` file, its signature beside it.
        notes: What is new, for people.
        public_key: Key that signed it; the user's own by default.
        now: When the offer is signed.

    Returns:
        What is new; nothing if the same bytes were offered already.

    Raises:
        NoTrustedKeyError: There is no public key.
        BundleError: It is not as signed.
        PublishedOtherwiseError: Other bytes are offered under its name.
        UpdateKeyError: The key of targets is not here.
    """
    key = public_key or user_public_key()
    if not key.is_file():
        raise NoTrustedKeyError([str(key)])
    if not release.is_file():
        raise UsageError(f"{release}: there is no such file")
    custom: dict[str, Any] = {"notes": notes} if notes else {}
    if is_runtime(release):
        runtime = open_runtime(release, [key])
        manifest = runtime.manifest
        tag = f"cp{manifest.python.replace('.', '')}-{manifest.machine}"
        path = f"{RUNTIMES}/{manifest.name}-{manifest.version}-{tag}.edgekit"
    else:
        bundle, _, _ = open_signed(release, [key])
        path = f"{BUNDLES}/{bundle.manifest.bundle_id}.edgekit"
    signature = release.with_name(release.name + _SIGNATURE)
    found = repository.publish({path: release, path + _SIGNATURE: signature}, custom, now)
    return [offer for offer in found if not offer.path.endswith(_SIGNATURE)]


def withdraw(repository: Repository, name: str, now: datetime | None = None) -> None:
    """Offer a release no more; boards that run it go on.

    Args:
        repository: Which.
        name: ``NAME-VERSION``; of a runtime release with what it is for.
        now: When that is signed.

    Raises:
        NotPublishedError: It is not offered.
    """
    held = {offer.path for offer in repository.offers()}
    folder = RUNTIMES if f"{RUNTIMES}/{name}.edgekit" in held else BUNDLES
    path = f"{folder}/{name}.edgekit"
    repository.withdraw([path, path + _SIGNATURE], now)


def offered(repository: Repository) -> list[dict[str, Any]]:
    """What is offered, for lists: name, kind, bytes, notes."""
    return [
        {
            "name": offer.path.rpartition("/")[2].removesuffix(".edgekit"),
            "kind": "runtime" if offer.path.startswith(f"{RUNTIMES}/") else "bundle",
            "bytes": offer.length,
            "sha256": offer.sha256,
            "notes": offer.custom.get("notes"),
        }
        for offer in repository.offers()
        if not offer.path.endswith(_SIGNATURE)
    ]
