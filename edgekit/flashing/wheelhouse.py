"""Wheels for a board, chosen on this machine from a folder: the board gets a list with a hash each and asks nobody."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from email.parser import HeaderParser
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.errors import EdgeKitError, MissingPackageError
from edgekit.flashing.facts import PythonFacts

if TYPE_CHECKING:
    from packaging.requirements import Requirement

_LEAST_GLIBC_MINOR = 17


class DamagedWheelError(EdgeKitError):
    """A file that is called a wheel and is none."""


@dataclass(frozen=True)
class Wheel:
    """One file.

    Attributes:
        path: On this machine.
        name: Normalised, e.g. ``paho-mqtt``.
        version: As text.
        tags: What it fits, e.g. ``cp311-cp311-manylinux_2_17_aarch64``.
        requires: Its ``Requires-Dist`` lines.
        sha256: Hexadecimal.
        unpacked_bytes: On the board's disk.
    """

    path: Path
    name: str
    version: str
    tags: frozenset[str]
    requires: tuple[str, ...] = ()
    sha256: str = ""
    unpacked_bytes: int = 0


@dataclass(frozen=True)
class Selection:
    """What goes into a runtime.

    Attributes:
        wheels: To be installed.
        of_the_board: Name -> version of what its own system brings.
        missing: Requirements that neither has.
    """

    wheels: tuple[Wheel, ...] = ()
    of_the_board: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()


def wheel_folder() -> Path | None:
    """The cache that `edgekit wheels fetch` fills; None where it holds nothing.

    ``~/.cache/edgekit/wheels``, or below XDG_CACHE_HOME; EDGEKIT_WHEELS names another folder.
    """
    named = os.environ.get("EDGEKIT_WHEELS")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(named) if named else cache / "edgekit" / "wheels"
    return folder if any(folder.rglob("*.whl")) else None


def load_packaging() -> None:
    """Say what is missing where wheels cannot be judged.

    Raises:
        MissingPackageError: packaging is not installed.
    """
    try:
        import packaging.tags  # noqa: F401
    except ImportError as cause:
        raise MissingPackageError("packaging", "choosing wheels", "pip install 'edgekit[flash]'") from cause


def read_wheel(path: Path) -> Wheel:
    """Read a wheel's name and metadata.

    Raises:
        DamagedWheelError: It is none.
    """
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    try:
        name, version, _, tags = parse_wheel_filename(path.name)
        with zipfile.ZipFile(path) as archive:
            about = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA") and n.count("/") == 1)
            lines = HeaderParser().parsestr(archive.read(about).decode("utf-8")).get_all("Requires-Dist", [])
            unpacked = sum(entry.file_size for entry in archive.infolist())
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError, StopIteration, zipfile.BadZipFile, InvalidWheelFilename) as cause:
        raise DamagedWheelError(f"{path}: not a wheel ({cause}); fetch it again: edgekit wheels fetch") from cause
    return Wheel(path, str(name), str(version), frozenset(map(str, tags)), tuple(lines), digest, unpacked)


def tags_of(python: PythonFacts, machine: str) -> list[str]:
    """The tags that a board takes, best first."""
    from packaging import tags

    minor = int(python.libc.split(".")[1]) if python.libc.startswith("2.") else _LEAST_GLIBC_MINOR
    platforms = [f"manylinux_2_{n}_{machine}" for n in range(minor, _LEAST_GLIBC_MINOR - 1, -1)]
    # The old names of some of these.
    old = [(17, "manylinux2014"), (12, "manylinux2010"), (5, "manylinux1")]
    platforms += [f"{name}_{machine}" for n, name in old if n <= minor] + [f"linux_{machine}"]
    version = python.version[:2]
    found = [str(tag) for tag in tags.cpython_tags(version, platforms=platforms)]
    return found + [str(tag) for tag in tags.compatible_tags(version, f"cp{version[0]}{version[1]}", platforms)]


def choose(
    wheels: Iterable[Wheel],
    roots: Sequence[str],
    python: PythonFacts,
    machine: str,
    system_only: Mapping[str, str] | None = None,
) -> Selection:
    """Choose the wheels that a board needs, with everything that they require.

    Args:
        wheels: What there is.
        roots: Requirements to begin with.
        python: The board's.
        machine: Its processor, as wheels name it.
        system_only: Name -> version that must stay the board's own.
    """
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    system = {str(canonicalize_name(name)): version for name, version in python.packages.items()}
    kept = dict(system_only or {})
    order = {tag: rank for rank, tag in enumerate(tags_of(python, machine))}
    fitting = [wheel for wheel in wheels if wheel.tags & order.keys()]
    best = sorted(fitting, key=lambda wheel: min(order[tag] for tag in wheel.tags if tag in order))
    environment = _environment(python, machine)
    chosen: dict[str, Wheel] = {}
    of_the_board: dict[str, str] = {}
    missing: list[str] = []
    queue, seen = [Requirement(root) for root in roots], set()
    while queue:
        wanted = queue.pop(0)
        name = str(canonicalize_name(wanted.name))
        if (name, str(wanted)) in seen:
            continue
        seen.add((name, str(wanted)))
        if name in kept:
            of_the_board[name] = kept[name]
            continue
        wheel = chosen.get(name) or _newest(best, name, wanted)
        if wheel is not None and wanted.specifier.contains(wheel.version, prereleases=True):
            chosen[name] = wheel
            queue += _required(wheel, wanted.extras, environment)
        elif name in system and wanted.specifier.contains(system[name], prereleases=True):
            of_the_board[name] = system[name]
        else:
            missing.append(str(wanted))
    return Selection(tuple(sorted(chosen.values(), key=lambda w: w.name)), of_the_board, tuple(missing))


def _newest(wheels: Sequence[Wheel], name: str, wanted: Requirement) -> Wheel | None:
    from packaging.version import Version

    found = [w for w in wheels if w.name == name and wanted.specifier.contains(w.version, prereleases=True)]
    # `wheels` has the best tag first, and max keeps the first of equals.
    return max(found, key=lambda wheel: Version(wheel.version), default=None)


def _required(wheel: Wheel, extras: Iterable[str], environment: Mapping[str, str]) -> list[Requirement]:
    from packaging.requirements import Requirement

    found = []
    for line in wheel.requires:
        requirement = Requirement(line)
        marker = requirement.marker
        names = ["", *extras]
        if marker is None or any(marker.evaluate({**environment, "extra": extra}) for extra in names):
            found.append(requirement)
    return found


def _environment(python: PythonFacts, machine: str) -> dict[str, str]:
    return {
        "implementation_name": "cpython",
        "implementation_version": python.text,
        "os_name": "posix",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "platform_release": "",
        "platform_version": "",
        "python_full_version": python.text,
        "python_version": ".".join(map(str, python.version[:2])),
        "sys_platform": "linux",
    }
