"""An Edge TPU, its library, and whether that library's build fits the interpreter; nothing is opened.

A libedgetpu works only with interpreters near the TensorFlow that it was built against: Google's last one (16.0, of
TensorFlow 2.5) ends the process with tflite-runtime 2.12 and newer; the maintained fork, feranick/libedgetpu, says its
TensorFlow in its version, 16.0tf2.19.1-1. Both by the word of google-coral/edgetpu#812: nothing was tried with a Coral.
"""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from edgekit_device.diagnosis.finding import FAIL, OK, WARN, Finding

_LIBRARY_DIRS = ("usr/lib", "usr/local/lib", "lib", "opt/edgekit/lib")
_CORAL_USB = {("1a6e", "089a"), ("18d1", "9302")}  # Before its firmware is loaded, and after.
_DPKG, _MAX_DPKG_BYTES = "var/lib/dpkg/status", 32 << 20
INTERPRETERS = ("ai-edge-litert", "tflite-runtime")
_GOOGLES, _BROKEN_FROM = (2, 5), (2, 12)
_REMEDY = "edgekit flash BUNDLE TARGET --libedgetpu FILE.deb"
_FORK = "# from github.com/feranick/libedgetpu/releases"
UNTRIED = "not tried with a Coral"


class Pair(NamedTuple):
    """How a build and an interpreter go together.

    Attributes:
        fits: False where the two are known to end the process; None where nobody has said.
        words: Why, for a person.
    """

    fits: bool | None
    words: str


def judge_pair(build: str, interpreter: str, number: str) -> Pair:
    """Decide whether a build of libedgetpu goes with an interpreter, by what is known of others.

    Args:
        build: Version of the Debian package, ``16.0`` or ``16.0tf2.19.1-1``; empty where it came without one.
        interpreter: ``ai-edge-litert`` or ``tflite-runtime``; empty where there is none.
        number: Its version.
    """
    if not build:
        return Pair(None, f"a library without a package does not say what it was built for ({UNTRIED})")
    found = re.search(r"tf(\d+)\.(\d+)", build)
    made = (int(found[1]), int(found[2])) if found else _GOOGLES
    words = f"libedgetpu {build}, built with TensorFlow {made[0]}.{made[1]}"
    if not interpreter:
        return Pair(None, f"{words}; no interpreter to go with it")
    with_it = f"{interpreter} {number}"
    head = re.match(r"(\d+)\.(\d+)", number)
    old = interpreter == "tflite-runtime" and head is not None and (int(head[1]), int(head[2])) < _BROKEN_FROM
    if made < _BROKEN_FROM and not old:
        return Pair(False, f"{words}, ends the process with {with_it} (google-coral/edgetpu#812)")
    if old and made >= _BROKEN_FROM:
        return Pair(None, f"{words}, is not known to go with {with_it} ({UNTRIED})")
    if interpreter == "ai-edge-litert":
        return Pair(None, f"{words}; with {with_it} nobody's word, only the fork's with tflite-runtime ({UNTRIED})")
    return Pair(True, f"{words}, goes with {with_it} by the word of google-coral/edgetpu#812 ({UNTRIED})")


def edge_tpu(root: Path = Path("/"), interpreter: tuple[str, str] | None = None) -> Finding:
    """An Edge TPU and its library, from the names that the kernel shows: neither is opened.

    A second process that opens a USB Coral aborts the first one.

    Args:
        root: Where /dev, /sys, the libraries and dpkg's records are.
        interpreter: Its name and version; what is installed for this Python by default.
    """
    library = next((p for folder in _LIBRARY_DIRS for p in _libraries(root / folder)), None)
    coral = _coral(root)
    if coral and library is None:
        return Finding("edgetpu", FAIL, f"{coral}, but no libedgetpu.so.1", _REMEDY)
    if library is None:
        return Finding("edgetpu", OK, "none is plugged in: the processor serves")
    pair = judge_pair(installed_build(root), *(_interpreter() if interpreter is None else interpreter))
    where = f"{coral}; {library}" if coral else f"none is plugged in: the processor serves; {library}"
    if pair.fits is False:
        return Finding("edgetpu", WARN, f"{where}: {pair.words}; the processor serves", f"{_REMEDY}   {_FORK}")
    note = "; not opened here: edgekit-device status says what serves" if coral else ""
    return Finding("edgetpu", OK, f"{where}: {pair.words}{note}")


def installed_build(root: Path = Path("/")) -> str:
    """The version of the libedgetpu package that dpkg holds; empty without one."""
    try:
        with (root / _DPKG).open("rb") as file:
            text = file.read(_MAX_DPKG_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
    for block in text.split("\n\n"):
        fields = dict(line.partition(": ")[::2] for line in block.splitlines() if not line.startswith(" "))
        if fields.get("Package", "").startswith("libedgetpu1") and fields.get("Status", "").endswith(" installed"):
            return fields.get("Version", "")
    return ""


def _interpreter() -> tuple[str, str]:
    for name in INTERPRETERS:
        try:
            return name, version(name)
        except PackageNotFoundError:
            continue
    return "", ""


def _coral(root: Path) -> str | None:
    for device in sorted((root / "sys/bus/usb/devices").glob("*")):
        try:
            ids = ((device / "idVendor").read_text().strip(), (device / "idProduct").read_text().strip())
        except (OSError, UnicodeDecodeError):
            continue
        if ids in _CORAL_USB:
            return f"a USB Coral at {device.name}"
    apex = next(iter(sorted((root / "dev").glob("apex_*"))), None)
    return f"a PCIe Coral at /dev/{apex.name}" if apex else None


def _libraries(folder: Path) -> list[Path]:
    return [*sorted(folder.glob("libedgetpu.so.1*")), *sorted(folder.glob("*-linux-gnu*/libedgetpu.so.1*"))]
