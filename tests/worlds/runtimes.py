"""Runtime releases for tests: real wheels, put together here without a network, and signed.

The device's own package travels as a wheel; what a board would take from apt is a wheel with a path file to this
environment's packages. `Twist` breaks one thing.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import io
import platform
import sys
import sysconfig
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import distribution
from pathlib import Path

from edgekit_device.contract.archive import write_archive
from edgekit_device.contract.file_table import FileEntry, table_of
from edgekit_device.contract.runtime_manifest import NAME, RuntimeManifest
from tests.worlds.bundles import Signer

ROOT_OF = Path(__file__).parents[2]
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
SITE = sysconfig.get_paths()["purelib"]


def wheel(name: str, version: str, files: Mapping[str, bytes], requires: tuple[str, ...] = ()) -> tuple[str, bytes]:
    """A pure wheel: (file name, content). PyPA, binary distribution format 1.0."""
    stem = f"{name.replace('-', '_')}-{version}"
    about = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    about += "".join(f"Requires-Dist: {word}\n" for word in requires)
    entries = {
        **files,
        f"{stem}.dist-info/METADATA": about.encode(),
        f"{stem}.dist-info/WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = [f"{path},sha256={_record_hash(data)},{len(data)}" for path, data in entries.items()]
    entries[f"{stem}.dist-info/RECORD"] = "\n".join([*record, f"{stem}.dist-info/RECORD,,", ""]).encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in entries.items():
            archive.writestr(zipfile.ZipInfo(path), data)
    return f"{stem}-py3-none-any.whl", out.getvalue()


@functools.cache
def pip_wheel() -> tuple[str, bytes]:
    """This environment's pip as the wheel that it was."""
    found = distribution("pip")
    files = {
        str(file): Path(str(found.locate_file(file))).read_bytes()
        for file in found.files or ()
        if file.parts[0] == "pip" and "__pycache__" not in file.parts
    }
    return wheel("pip", found.version, files)


@functools.cache
def device_files() -> dict[str, bytes]:
    """The device's own package."""
    package = ROOT_OF / "device" / "edgekit_device"
    return {
        f"edgekit_device/{path.relative_to(package)}": path.read_bytes()
        for path in sorted(package.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def tiny_files(body: str = "") -> dict[str, bytes]:
    """A stand-in for the device's package with what a build is proved by, in five small files."""
    return {
        "edgekit_device/__init__.py": b'__version__ = "0.0.1"\n',
        "edgekit_device/__main__.py": body.encode(),
        "edgekit_device/cli.py": b"",
        "edgekit_device/running.py": b"",
        "edgekit_device/publish/__init__.py": b"",
        "edgekit_device/publish/mqtt.py": b"",
    }


def system_packages() -> tuple[str, bytes]:
    """What stands for apt's packages: a path to those of this environment."""
    return wheel("apt-stand-in", "1.0", {"apt_stand_in.pth": f"{SITE}\n".encode()})


@dataclass
class Release:
    """What a release is made of.

    Attributes:
        version: Of the release.
        files: The package `edgekit_device` in it, by path.
        python: That it is for.
        machine: That it is for.
        wheels: More wheels, by file name.
        drop: Packages whose wheel is left out of the archive.
        requires: What the device's wheel says that it needs.
        hashes: Digests that the manifest states instead of the right ones, by file name.
        epoch: Its security epoch.
    """

    version: str
    files: Mapping[str, bytes] = field(default_factory=tiny_files)
    python: str = PYTHON
    machine: str = platform.machine()
    wheels: Mapping[str, bytes] = field(default_factory=dict)
    requires: tuple[str, ...] = ()
    hashes: Mapping[str, str] = field(default_factory=dict)
    epoch: int = 0
    system_site_packages: bool = False
    launcher: int = 1

    def parts(self) -> dict[str, bytes]:
        """The wheels by file name."""
        return dict([wheel("edgekit-device", self.version, self.files, self.requires), pip_wheel()]) | dict(self.wheels)

    def write(self, folder: Path, signer: Signer) -> Path:
        """Write and sign it."""
        parts = self.parts()
        listed = table_of(parts)
        listed |= {name: FileEntry(listed[name].bytes, digest) for name, digest in self.hashes.items()}
        manifest = RuntimeManifest(
            version=self.version, python=self.python, machine=self.machine, wheels=listed,
            system_site_packages=self.system_site_packages, launcher=self.launcher, security_epoch=self.epoch,
        )  # fmt: skip
        path = folder / manifest.file_name
        path.write_bytes(write_archive({NAME: manifest.to_bytes(), **parts}))
        signer.sign(path)
        return path


def _record_hash(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
