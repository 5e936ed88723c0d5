"""Google's (or the maintained fork's) libedgetpu package on a board: library, udev rule, group.

Tried with a package of the same form; without the hardware nobody could see a Coral answer.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from edgekit.flashing.board import BOARD_USER, INCOMING, Board
from edgekit.flashing.errors import LibraryError
from edgekit.flashing.facts import System
from edgekit.flashing.ssh import failure
from edgekit.flashing.steps import Step
from edgekit_device.diagnosis.coral import INTERPRETERS, judge_pair

RULE = "/etc/udev/rules.d/60-edgekit-edgetpu.rules"
# The stick shows one pair of numbers before its firmware is loaded and another after.
RULE_TEXT = """# Written by edgekit flash: who is in plugdev may use a Coral.
SUBSYSTEM=="usb",ATTRS{idVendor}=="1a6e",ATTRS{idProduct}=="089a",MODE="0664",GROUP="plugdev"
SUBSYSTEM=="usb",ATTRS{idVendor}=="18d1",ATTRS{idProduct}=="9302",MODE="0664",GROUP="plugdev"
SUBSYSTEM=="apex",MODE="0660",GROUP="plugdev"
"""
_REMEDY = "bring libedgetpu1-std from https://github.com/feranick/libedgetpu/releases"
_DPKG_S = 300.0
_MAX_CONTROL_BYTES = 1 << 20
_AR, _AR_ENTRY = b"!<arch>\n", 60


@dataclass(frozen=True)
class Package:
    """What a .deb says of itself.

    Attributes:
        path: The file.
        name: E.g. ``libedgetpu1-std``.
        version: E.g. ``16.0tf2.19.1-1``.
        architecture: Debian's name.
    """

    path: Path
    name: str
    version: str
    architecture: str


def read_package(path: Path, board: str = "--libedgetpu") -> Package:
    """Read a .deb's control file; nothing is installed here.

    Raises:
        LibraryError: It is no .deb, or not of libedgetpu.
    """
    try:
        fields = dict(line.partition(":")[::2] for line in _control(path.read_bytes()).splitlines() if ":" in line)
        found = Package(path, fields["Package"].strip(), fields["Version"].strip(), fields["Architecture"].strip())
    except (OSError, KeyError, ValueError, tarfile.TarError) as cause:
        raise LibraryError(board, f"{path}: not a Debian package ({cause})", _REMEDY) from cause
    if not found.name.startswith("libedgetpu"):
        raise LibraryError(board, f"{path}: a package of {found.name}, not of libedgetpu", _REMEDY)
    return found


def _control(data: bytes) -> str:
    if not data.startswith(_AR):
        raise ValueError("no ar archive")
    at = len(_AR)
    while at + _AR_ENTRY <= len(data):
        name, size = data[at : at + 16].decode("ascii").strip().rstrip("/"), int(data[at + 48 : at + 58])
        begin = at + _AR_ENTRY
        if name.startswith("control.tar"):
            if name.endswith(".zst"):
                raise ValueError("compressed with zstd; repack it: dpkg-deb -Zxz")
            with tarfile.open(fileobj=io.BytesIO(data[begin : begin + size])) as archive:
                for member in archive:
                    if member.name.lstrip("./") == "control" and member.size < _MAX_CONTROL_BYTES:
                        file = archive.extractfile(member)
                        return file.read().decode("utf-8") if file else ""
        at = begin + size + size % 2
    raise ValueError("no control file")


def pair_warnings(package: Package, versions: Mapping[str, str]) -> list[str]:
    """What is known of a build with the interpreter that the board gets.

    Args:
        package: Of libedgetpu.
        versions: Name -> version of what the board's runtime is to hold; empty where that stays as it is.
    """
    if not versions:
        return []
    name = next((name for name in INTERPRETERS if name in versions), "")
    pair = judge_pair(package.version, name, versions.get(name, ""))
    return [] if pair.fits else [pair.words]


async def library_steps(board: Board, system: System, package: Package) -> list[Step]:
    """Install the package, the rule and the group, unless they are there.

    Raises:
        LibraryError: It is for another processor.
    """
    if package.architecture not in (system.dpkg, "all"):
        raise LibraryError(
            board.name, f"{package.path.name} is for {package.architecture}, the board is {system.dpkg}", _REMEDY
        )
    steps = []
    asked = await board.run(["dpkg-query", "-W", "-f", "${Version} ${db:Status-Status}", package.name])
    if asked.text != f"{package.version} installed":
        steps.append(
            Step(
                "libedgetpu",
                f"install {package.name} {package.version} (not tried with a Coral)",
                partial(_install, board, package),
            )
        )
    if await board.read(RULE) != RULE_TEXT.encode():
        steps.append(Step("udev", f"write {RULE}: group plugdev may use a Coral", partial(_rule, board)))
    return steps


async def _install(board: Board, package: Package) -> None:
    there = f"{INCOMING}/{package.path.name}"
    await board.make_folder(INCOMING)
    await board.put(package.path, there)
    ran = await board.run(["env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "-i", there], deadline_s=_DPKG_S)
    if ran.status != 0:
        if "depend" in ran.err:
            raise LibraryError(
                board.name,
                f"{package.name} needs another package",
                "on the board: sudo apt -f install   # libusb-1.0-0",
            )
        raise failure(board.name, f"install {package.name}", ran)
    await board.remove(there)


async def _rule(board: Board) -> None:
    await board.make_folder(RULE.rpartition("/")[0])
    await board.write(RULE, RULE_TEXT.encode())
    await board.run(["sh", "-c", "getent group plugdev >/dev/null || groupadd --system plugdev"])
    await board.run(["usermod", "-aG", "plugdev", BOARD_USER])
    # A board that is being written (a chroot) has no udev to tell.
    await board.run(["sh", "-c", "! command -v udevadm || udevadm control --reload-rules && udevadm trigger || true"])
