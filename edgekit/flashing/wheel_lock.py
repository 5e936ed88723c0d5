"""The wheels that boards' runtimes are made of: names, sizes and hashes, in a file that ships with EdgeKit.

Made by ``tools/make_wheel_lock.py``. It names packages, never an address: pip finds them where yours looks.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from edgekit.errors import EdgeKitError, UsageError, near_miss

_NAME = "wheels.lock.json"
BEST_EFFORT = ("armv7l",)


class WheelLockError(EdgeKitError):
    """The lock is damaged."""


@dataclass(frozen=True)
class LockedWheel:
    """One file of the lock.

    Attributes:
        file_name: E.g. ``numpy-2.5.5-cp313-cp313-manylinux_2_27_aarch64.manylinux_2_28_aarch64.whl``.
        sha256: Hexadecimal.
        bytes: Its size.
        python: A Python that it is for, e.g. ``3.13``.
    """

    file_name: str
    sha256: str
    bytes: int
    python: str

    @property
    def requirement(self) -> str:
        """As pip wants it: ``numpy==2.5.5``."""
        name, version = self.file_name.split("-")[:2]
        return f"{name.replace('_', '-')}=={version}"

    @property
    def platforms(self) -> list[str]:
        """Its platform tags; none for one that runs anywhere."""
        tags = self.file_name.removesuffix(".whl").rpartition("-")[2].split(".")
        return [] if tags == ["any"] else tags


@dataclass(frozen=True)
class WheelLock:
    """The lock.

    Attributes:
        targets: ``(python, machine)`` -> names of files.
        wheels: Name of a file -> (sha256, bytes).
    """

    targets: dict[tuple[str, str], tuple[str, ...]]
    wheels: dict[str, tuple[str, int]]

    def select(self, pythons: Sequence[str] = (), machines: Sequence[str] = ()) -> list[LockedWheel]:
        """The wheels of some kinds of board, each file once.

        Args:
            pythons: Such as ``3.11``; all by default.
            machines: Such as ``aarch64``; by default all but those that are best effort.

        Raises:
            UsageError: The lock has no such board.
        """
        for given, known in ((pythons, {p for p, _ in self.targets}), (machines, {m for _, m in self.targets})):
            for word in given:
                if word not in known:
                    raise UsageError(
                        f"no wheels are locked for {word}{near_miss(word, known)}; there are: {self.words}"
                    )
        wanted: dict[str, LockedWheel] = {}
        for (python, machine), names in self.targets.items():
            if (machine in machines if machines else machine not in BEST_EFFORT) and (not pythons or python in pythons):
                for name in names:
                    wanted.setdefault(name, LockedWheel(name, *self.wheels[name], python))
        if not wanted:
            raise UsageError(f"no wheels are locked for {', '.join(pythons)} on {', '.join(machines)}: {self.words}")
        return [wanted[name] for name in sorted(wanted)]

    @property
    def words(self) -> str:
        """The kinds of board, for a person."""
        return ", ".join(f"Python {python} on {machine}" for python, machine in sorted(self.targets))


def read_lock(path: Path | None = None) -> WheelLock:
    """Read a lock.

    Args:
        path: Another file than the one that ships.

    Raises:
        WheelLockError: It is damaged.
    """
    where = str(path) if path else _NAME
    try:
        text = path.read_text("utf-8") if path else (files("edgekit.flashing") / _NAME).read_text("utf-8")
        document: dict[str, Any] = json.loads(text)
        wheels = {str(n): (str(entry["sha256"]), int(entry["bytes"])) for n, entry in document["wheels"].items()}
        targets = {}
        for key, names in document["targets"].items():
            python, machine = str(key).split(" ")
            targets[python, machine] = tuple(str(name) for name in names)
        whole = all(name in wheels and len(wheels[name][0]) == 64 for names in targets.values() for name in names)
        plain = all("/" not in name and name.endswith(".whl") and not name.startswith(".") for name in wheels)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as cause:
        raise WheelLockError(f"{where}: not a lock of wheels ({cause}); install edgekit again") from cause
    if document.get("schema") != 1 or not (whole and plain):
        raise WheelLockError(f"{where}: not a lock of wheels that this version reads; install edgekit again")
    return WheelLock(targets, wheels)
