"""Write a runtime release and its signature: the wheels of one Python and one machine out of a folder, and pip's.

Laid out and signed as a bundle is. The same bytes from the same wheels.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.bundling.pair import publish
from edgekit.errors import BundleTooLargeError, BundlingError, UsageError
from edgekit_device.contract.archive import write_archive
from edgekit_device.contract.file_table import MAX_BUNDLE_BYTES, table_of
from edgekit_device.contract.ids import check_bundle_name, check_version
from edgekit_device.contract.runtime_manifest import DEVICE, INSTALLER, NAME, RuntimeManifest, file_name, wheel_of
from edgekit_device.runtimes.release import parse_runtime

if TYPE_CHECKING:
    from edgekit.bundling.writing import Signer

LEAST_LAUNCHER = 1


class WheelMissingError(BundlingError, ValueError):
    """A folder lacks a wheel that a runtime release needs."""

    def __init__(self, folder: str, package: str, python: str, machine: str) -> None:
        super().__init__(
            f"{folder}: no wheel of {package} for Python {python} on {machine}; fetch them with: edgekit wheels fetch"
        )
        self.folder, self.package, self.python, self.machine = folder, package, python, machine


class WheelTwiceError(BundlingError, ValueError):
    """A folder holds two versions of a package."""

    def __init__(self, folder: str, package: str, versions: Iterable[str]) -> None:
        super().__init__(f"{folder}: holds {package} {' and '.join(versions)}; leave one")
        self.folder, self.package = folder, package


@dataclass(frozen=True)
class RuntimePlan:
    """What a runtime release is made of.

    Attributes:
        folder: Wheels, for as many Pythons and machines as you like, in folders of their own or not.
        python: Such as ``3.11``.
        machine: Such as ``aarch64``.
        system: Packages that the boards take from their own system, such as numpy: those wheels are left out.
        system_site_packages: Whether the environment sees the system's packages, as one that `edgekit flash` made does.
        version: ``N.N.N``; that of edgekit-device by default.
        name: Of the release.
        security_epoch: The only floor against downgrade.
    """

    folder: Path
    python: str
    machine: str
    system: frozenset[str] = frozenset()
    system_site_packages: bool = True
    version: str | None = None
    name: str = "runtime"
    security_epoch: int = 0


@dataclass(frozen=True)
class WrittenRuntime:
    """A runtime release on disk, read back by the device's own code."""

    path: Path
    signature: Path
    sha256: str
    bytes: int
    key_id: str
    manifest: RuntimeManifest


def write_runtime(plan: RuntimePlan, out: Path, key: Signer) -> WrittenRuntime:
    """Make, sign and write one release.

    Args:
        plan: What goes in.
        out: The ``.edgekit`` file, or a folder for one under its own name.
        key: Signs it.

    Raises:
        WheelMissingError: edgekit-device's wheel or pip's is not there.
        WheelTwiceError: Two versions of a package fit.
        BundleTooLargeError: Over 256 MiB.
        UsageError: A version or a name that is none.
    """
    chosen = choose_wheels(plan)
    wheels = {path.name: path.read_bytes() for path in chosen.values()}
    version = plan.version or _release_version(wheel_of(chosen[DEVICE].name)[1])
    manifest = RuntimeManifest(
        version=check_version(version),
        python=plan.python,
        machine=plan.machine,
        system_site_packages=plan.system_site_packages,
        wheels=table_of(wheels),
        name=check_bundle_name(plan.name),
        launcher=LEAST_LAUNCHER,
        security_epoch=plan.security_epoch,
    )
    data = write_archive({NAME: manifest.to_bytes(), **wheels})
    if out.is_dir():
        out = out / file_name(manifest.release_id, plan.python, plan.machine)
    if len(data) > MAX_BUNDLE_BYTES:
        raise BundleTooLargeError(str(out), len(data), MAX_BUNDLE_BYTES)
    sha256 = hashlib.sha256(data).hexdigest()
    parse_runtime(data, str(out), key.key_id)
    signature = key.sign(data, f"edgekit {manifest.release_id} sha256:{sha256}")
    return WrittenRuntime(out, publish(out, data, signature), sha256, len(data), key.key_id, manifest)


def choose_wheels(plan: RuntimePlan) -> dict[str, Path]:
    """The wheels of a folder that fit, by package.

    Raises:
        WheelMissingError: edgekit-device's wheel or pip's is not there.
        WheelTwiceError: Two versions of a package fit.
    """
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(plan.folder.rglob("*.whl")):
        package, version = wheel_of(path.name)
        if fits(path.name, plan.python, plan.machine) and package not in plan.system:
            found.setdefault(package, {})[version] = path
    for package, versions in found.items():
        if len(versions) > 1:
            raise WheelTwiceError(str(plan.folder), package, versions)
    for package in (DEVICE, INSTALLER):
        if package not in found:
            raise WheelMissingError(str(plan.folder), package, plan.python, plan.machine)
    return {package: next(iter(versions.values())) for package, versions in found.items()}


def fits(wheel: str, python: str, machine: str) -> bool:
    """Whether a wheel runs on a Linux of glibc with this Python and machine, by the tags in its name.

    Args:
        wheel: Its file name.
        python: Such as ``3.11``.
        machine: Such as ``aarch64``.
    """
    tags, abis, platforms = (part.split(".") for part in wheel.removesuffix(".whl").rsplit("-", 3)[1:])
    minor = int(python.partition(".")[2])
    here = any(p == "any" or (p.startswith(("manylinux", "linux_")) and p.endswith(f"_{machine}")) for p in platforms)
    exact = f"cp3{minor}" in tags and bool({f"cp3{minor}", "abi3", "none"} & set(abis))
    older = [int(found[1]) for tag in tags if (found := re.fullmatch("cp3([0-9]+)", tag))]
    stable = "abi3" in abis and any(low <= minor for low in older)
    pure = "none" in abis and bool({"py3", f"py3{minor}"} & set(tags))
    return here and (exact or stable or pure)


def _release_version(version: str) -> str:
    """A development version of edgekit-device needs a number of its own for a release."""
    if not re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+", version):
        raise UsageError(
            f"edgekit-device {version} is no released version; name the release's own with --version N.N.N"
        )
    return version
