"""Which V4L2 cameras there are, and what each is called when its number changes.

Decided from the names that the kernel and udev keep: nothing is opened here.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from edgekit_device.contract.errors import SourceUnavailableError

_BY_ID = "/dev/v4l/by-id/"
_NAME = "name:"


@dataclass(frozen=True)
class VideoDevice:
    """One node that delivers pictures.

    Attributes:
        path: ``/dev/videoN``.
        device_id: The udev link below /dev/v4l/by-id, else ``name:`` and the kernel's name for it.
    """

    path: str
    device_id: str

    @property
    def number(self) -> int:
        """The N of /dev/videoN."""
        return int("".join(c for c in Path(self.path).name if c.isdigit()) or -1)


def list_devices(root: Path = Path("/")) -> list[VideoDevice]:
    """Every capture node, by number.

    A UVC camera has a second node for metadata only; its sysfs `index` is not 0.

    Args:
        root: Where /dev and /sys are.
    """
    links: dict[str, str] = {}
    folder = root / _BY_ID.strip("/")
    for link in sorted(folder.iterdir()) if folder.is_dir() else ():
        links.setdefault(Path(os.path.realpath(link)).name, _BY_ID + link.name)
    found = []
    for entry in (root / "sys/class/video4linux").glob("video*"):
        if not (root / "dev" / entry.name).exists() or _text(entry / "index") not in ("", "0"):
            continue
        device_id = links.get(entry.name) or _NAME + (_text(entry / "name") or entry.name)
        found.append(VideoDevice(f"/dev/{entry.name}", device_id))
    return sorted(found, key=lambda device: device.number)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace").strip()
    except OSError:
        return ""


def choose_device(devices: list[VideoDevice], wanted: str, known_id: str | None) -> VideoDevice:
    """The camera that was asked for, wherever it is now.

    Args:
        devices: What is plugged in.
        wanted: A number, /dev/videoN, a link below /dev/v4l/by-id, ``name:`` and a name, or nothing for the first.
        known_id: What the wanted camera was called when it was last open. Then only that camera will do: another
            one that took its number would be watched in its place without a word.

    Raises:
        SourceUnavailableError: It is not there; says what is.
    """
    name = f"camera:{wanted}"
    there = ", ".join(f"{d.path} ({d.device_id.removeprefix(_BY_ID)})" for d in devices) or "no camera at all"
    if known_id is not None:
        same = [d for d in devices if d.device_id == known_id]
        if same:
            # Two cameras of one make and no serial number share a name; then the number decides.
            return next((d for d in same if _is_number(d, wanted)), same[0])
        raise SourceUnavailableError(name, f"{known_id.removeprefix(_BY_ID)} is gone (there is: {there}); plug it in")
    if not wanted and devices:
        return devices[0]
    for device in devices:
        if device.device_id == wanted or _is_number(device, wanted):
            return device
    raise SourceUnavailableError(
        name, f"there is no such camera (there is: {there}); plug it in, or name another with --source camera:N"
    )


def _is_number(device: VideoDevice, wanted: str) -> bool:
    return wanted in (str(device.number), device.path)
