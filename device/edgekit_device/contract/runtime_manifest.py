"""What a runtime release says about itself: `runtime.json`, the first thing in its archive.

A release is laid out and signed as a bundle is, and holds wheels in place of a model. It is for one Python and one
machine: `runtime-0.2.0-cp311-aarch64.edgekit`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgekit_device.contract.documents import SCHEMA, Fields, dump, load
from edgekit_device.contract.errors import FieldError, UsageError
from edgekit_device.contract.file_table import FileEntry, read_entry, read_identity, table_json

NAME = "runtime.json"
MAX_WHEELS = 64
DEVICE = "edgekit-device"
INSTALLER = "pip"
"""The wheel that puts the others in place; it is not installed itself."""
SYSTEMS_OWN = {"numpy": "numpy", "opencv-python-headless": "cv2"}
"""Packages that pip must not bring to a board with picamera2, and the folder that each installs."""
_PYTHON = re.compile(r"3\.(0|[1-9][0-9])", re.ASCII)
_MACHINE = re.compile(r"[a-z0-9_]{1,32}", re.ASCII)
# PyPA, binary distribution format: NAME-VERSION(-BUILD)?-PYTHON-ABI-PLATFORM.whl
_WHEEL = re.compile(
    r"(?P<name>[A-Za-z0-9_.]{1,64})-(?P<version>[A-Za-z0-9_.!+]{1,64})(-[0-9][A-Za-z0-9_.]{0,32})?"
    r"-[A-Za-z0-9_.]{1,64}-[A-Za-z0-9_.]{1,64}-[A-Za-z0-9_.]{1,128}\.whl",
    re.ASCII,
)


@dataclass(frozen=True)
class RuntimeManifest:
    """Everything a board needs to know before it takes a release.

    Attributes:
        version: ``N.N.N`` of the release.
        python: The minor version of Python that it is for, such as ``3.11``.
        machine: As `platform.machine()` says, such as ``aarch64``.
        system_site_packages: Whether its environment sees the system's own packages, as picamera2 needs them.
        wheels: Size and digest by file name; pip's is among them.
        name: Name of the release.
        launcher: The least version of the launcher that it needs.
        security_epoch: The only floor against downgrade.
        extra: Fields of a newer minor version, kept as they are.
    """

    version: str
    python: str
    machine: str
    system_site_packages: bool
    wheels: Mapping[str, FileEntry]
    name: str = "runtime"
    launcher: int = 1
    security_epoch: int = 0
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def release_id(self) -> str:
        """``NAME-VERSION``, as it stands in `desired` and `reported`."""
        return f"{self.name}-{self.version}"

    @property
    def file_name(self) -> str:
        """What its archive is called."""
        return file_name(self.release_id, self.python, self.machine)

    @property
    def device(self) -> str:
        """Version of edgekit-device in it."""
        return next(version for name, version in map(wheel_of, self.wheels) if name == DEVICE)

    @property
    def installer(self) -> str:
        """File name of pip's wheel."""
        return next(wheel for wheel in self.wheels if wheel_of(wheel)[0] == INSTALLER)

    @property
    def brings(self) -> frozenset[str]:
        """Which of the packages it brings that a board may have to take from its system, for picamera2's sake."""
        return frozenset(name for name, _ in map(wheel_of, self.wheels) if name in SYSTEMS_OWN)

    def to_bytes(self) -> bytes:
        """The document as it is signed."""
        return dump(
            {
                **self.extra,
                "schema": SCHEMA,
                "name": self.name,
                "version": self.version,
                "python": self.python,
                "machine": self.machine,
                "system_site_packages": self.system_site_packages,
                "wheels": table_json(self.wheels),
                "launcher": self.launcher,
                "security_epoch": self.security_epoch,
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> RuntimeManifest:
        """Read one.

        Raises:
            FieldError: A field is missing, mistyped or out of range.
            SchemaError: A schema this version does not read.
        """
        values = load("runtime", data)
        read = Fields("runtime", values)
        name, version = read_identity(read)
        return cls(
            version=version,
            python=_matching(read, "python", _PYTHON),
            machine=_matching(read, "machine", _MACHINE),
            system_site_packages=_boolean(read, "system_site_packages"),
            wheels=_wheels(read),
            name=name,
            launcher=read.integer("launcher", low=1),
            security_epoch=read.integer("security_epoch"),
            extra={key: value for key, value in values.items() if key not in _KNOWN},
        )


_KNOWN = {
    "schema", "name", "version", "python", "machine", "system_site_packages", "wheels", "launcher", "security_epoch",
}  # fmt: skip


def file_name(release_id: str, python: str, machine: str) -> str:
    """What a release for one Python and one machine is called, on disk and as a target of updates over the air.

    Args:
        release_id: ``NAME-VERSION``.
        python: Such as ``3.11``.
        machine: Such as ``aarch64``.
    """
    return f"{release_id}-cp{python.replace('.', '')}-{machine}.edgekit"


def wheel_of(file: str) -> tuple[str, str]:
    """Name (as PyPI compares it) and version of a wheel, from its file name.

    Raises:
        UsageError: It is not called as a wheel is.
    """
    found = _WHEEL.fullmatch(file)
    if found is None:
        raise UsageError(f"{file[:80]!r} is not the name of a wheel")
    return re.sub(r"[-_.]+", "-", found["name"]).lower(), found["version"]


def _matching(read: Fields, key: str, pattern: re.Pattern[str]) -> str:
    found = read.text(key)
    if not pattern.fullmatch(found):
        raise FieldError(read.name, key, f"must match {pattern.pattern}")
    return found


def _boolean(read: Fields, key: str) -> bool:
    found = read.values.get(key)
    if not isinstance(found, bool):
        raise FieldError(read.name, key, "must be true or false")
    return found


def _wheels(read: Fields) -> dict[str, FileEntry]:
    listed = read.mapping("wheels")
    if len(listed) > MAX_WHEELS:
        raise FieldError(read.name, "wheels", f"lists more than {MAX_WHEELS}")
    wheels, names = {}, []
    for file, entry in listed.items():
        try:
            names.append(wheel_of(file)[0])
        except UsageError as cause:
            raise FieldError(read.name, "wheels", str(cause)) from cause
        wheels[file] = read_entry(read.name, "wheels", file, entry)
    if len(set(names)) != len(names):
        raise FieldError(read.name, "wheels", "lists a package twice")
    for needed in (DEVICE, INSTALLER):
        if needed not in names:
            raise FieldError(read.name, "wheels", f"lacks {needed}")
    return wheels
