"""Open a runtime release: signature first, then structure, then every digest; nothing is ever extracted."""

from __future__ import annotations

import hashlib
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit_device.bundle import read_signed
from edgekit_device.contract.archive import read_archive
from edgekit_device.contract.file_table import check_file
from edgekit_device.contract.runtime_errors import RuntimeFormatError, RuntimeUnfitError
from edgekit_device.contract.runtime_manifest import MAX_WHEELS, NAME, RuntimeManifest


@dataclass(frozen=True)
class RuntimeRelease:
    """A release whose signature and digests hold.

    Attributes:
        manifest: What it says about itself.
        wheels: Content by file name, exactly those that the manifest lists.
        sha256: Digest of the whole archive, hex.
        key_id: Id of the key that signed it.
    """

    manifest: RuntimeManifest
    wheels: Mapping[str, memoryview]
    sha256: str
    key_id: str


def is_runtime(path: Path) -> bool:
    """Whether a file looks like a runtime release and not like a bundle; nothing is checked."""
    try:
        with path.open("rb") as file:
            head = file.read(30 + 256)
    except OSError:
        return False
    # A zip's first header: the length of its name at 26, the name at 30. No entry of a bundle is called like these.
    name = head[30 : 30 + int.from_bytes(head[26:28], "little")]
    return name == NAME.encode() or name.endswith(b".whl")


def open_runtime(path: Path, keys: Sequence[Path]) -> RuntimeRelease:
    """Read and check a release and the signature beside it.

    Args:
        path: The ``.edgekit`` file; its signature is ``path + ".minisig"``.
        keys: Files of the trusted public keys.

    Raises:
        BundleError: Anything about it is not as signed; the class says what.
        ContractError: It is as signed, and breaks the contract.
    """
    data, _, key_id = read_signed(path, keys)
    return parse_runtime(data, str(path), key_id)


def parse_runtime(data: bytes, path: str, key_id: str) -> RuntimeRelease:
    """Check structure and digests of bytes whose signature was checked before.

    Raises:
        BundleFormatError: Not the one zip layout.
        RuntimeFormatError: Entries and manifest differ.
        DigestMismatchError: A wheel is not the one that the manifest names.
        FieldError: The manifest breaks the contract.
    """
    entries = read_archive(data, path, max_entries=MAX_WHEELS + 1)
    if NAME not in entries:
        raise RuntimeFormatError(path, f"holds no {NAME}, so it is no runtime release")
    manifest = RuntimeManifest.from_bytes(bytes(entries.pop(NAME)))
    if set(entries) != set(manifest.wheels):
        odd = ", ".join(sorted(set(entries) ^ set(manifest.wheels))[:3])
        raise RuntimeFormatError(path, f"its entries are not the ones its {NAME} lists ({odd})")
    for name, expected in manifest.wheels.items():
        check_file(entries[name], expected, f"{path}:{name}")
    return RuntimeRelease(manifest, entries, hashlib.sha256(data).hexdigest(), key_id)


@dataclass(frozen=True)
class Ground:
    """What a board offers a release.

    Attributes:
        launches: Version of the launcher that lies on it.
        system_site_packages: Whether its first runtime sees the system's packages.
        own: Which of numpy and OpenCV that runtime has of its own, by package.
    """

    launches: int
    system_site_packages: bool
    own: frozenset[str]


def check_fit(manifest: RuntimeManifest, ground: Ground) -> None:
    """Refuse a release that this board cannot run; pure but for what this machine is.

    Args:
        manifest: Of the release.
        ground: What the board offers.

    Raises:
        RuntimeUnfitError: Another Python, machine or kind of environment, or a newer launcher.
    """
    name, python = manifest.release_id, f"{sys.version_info.major}.{sys.version_info.minor}"
    if (manifest.python, manifest.machine) != (python, platform.machine()):
        here = f"Python {python} on {platform.machine()}"
        raise RuntimeUnfitError(name, f"it is built for Python {manifest.python} on {manifest.machine}, this is {here}")
    if manifest.system_site_packages != ground.system_site_packages:
        mine = "sees the system's packages" if ground.system_site_packages else "has packages of its own only"
        raise RuntimeUnfitError(name, f"this board's runtime {mine}, and the release is of the other kind")
    for package in sorted(manifest.brings ^ ground.own):
        if package in manifest.brings:
            problem = f"it brings {package}, and this board takes it from its system"
        else:
            problem = f"it counts on the system's {package}, and this board's runtime has its own"
        raise RuntimeUnfitError(name, problem)
    if manifest.launcher > ground.launches:
        problem = f"it needs launcher {manifest.launcher}, this has {ground.launches}; flash the board again"
        raise RuntimeUnfitError(name, problem)
