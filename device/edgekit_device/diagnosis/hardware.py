"""Cameras, groups, power supply, clock and disk."""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from edgekit_device.diagnosis.finding import FAIL, OK, UNKNOWN, WARN, Finding
from edgekit_device.health.readings import clock as clock_state
from edgekit_device.health.throttling import decode, kernel_bits, parse_bits
from edgekit_device.health.tools import ToolRunner
from edgekit_device.sources.video_devices import list_devices

# The nodes that each group opens; a group whose nodes are not there is not missed.
_NODES = {
    "video": ("video*", "media*", "vchiq", "vcio", "dma_heap/*"),
    "render": ("dri/renderD*",),
    "plugdev": ("bus/usb/*/*",),
    "gpio": ("gpiochip*", "gpiomem*"),
}
# Codecs and image processors of a Pi are video nodes too, and no cameras.
_NO_CAMERA = ("codec", "isp", "hevc", "rpivid", "pispbe")
_CSI = ("unicam", "rp1-cfe", "imx", "ov5647")
_LEAST_BYTES, _TIGHT_BYTES = 100 << 20, 500 << 20
# EdgeKit did not exist before it: an earlier clock is a board without a battery that has not met a time server.
_OLDEST_S = 1_790_000_000


def cameras(root: Path = Path("/"), picamera2: bool = False) -> Finding:
    """Which cameras the kernel shows, and how each is named for ``--source``.

    Args:
        root: Where /dev and /sys are.
        picamera2: Whether picamera2 can be imported.
    """
    usable, csi = [], False
    for device in list_devices(root):
        label = device.device_id.lower()
        if any(word in label for word in _CSI):
            csi = True
        elif not any(word in label for word in _NO_CAMERA):
            usable.append(f"camera:{device.number} ({device.device_id.rpartition('/')[2]})")
    if csi and picamera2:
        usable.insert(0, "picamera (CSI)")
    if usable:
        return Finding("camera", OK, ", ".join(usable))
    if csi:
        return Finding(
            "camera",
            FAIL,
            "a CSI camera is there, but picamera2 cannot be imported here",
            "sudo apt install python3-picamera2   # and a venv made with --system-site-packages",
        )
    return Finding("camera", WARN, "none: no USB camera and no CSI camera", "lsusb; rpicam-hello --list-cameras")


def groups(root: Path = Path("/"), user: str | None = None, held: Iterable[str] | None = None) -> Finding:
    """Whether the user may open the devices that are there.

    Args:
        root: Where /dev and /etc/group are.
        user: Who is to open them; the user of this process by default.
        held: The groups of that user; looked up in /etc/group by default.
    """
    user = user or _user()
    if user == "root":
        return Finding("groups", OK, "root opens everything")
    known = _groups(root)
    mine = set(held) if held is not None else {name for name, members in known.items() if user in members}
    missing = [
        group
        for group, patterns in _NODES.items()
        if group in known and group not in mine and any(any((root / "dev").glob(pattern)) for pattern in patterns)
    ]
    if not missing:
        return Finding(
            "groups", OK, f"{user} is in {', '.join(sorted(mine & set(_NODES))) or 'no group it would need'}"
        )
    return Finding(
        "groups",
        WARN if "video" not in missing else FAIL,
        f"{user} is not in {', '.join(missing)}, which may open devices that are here",
        f"sudo usermod -aG {','.join(missing)} {user}   # then log in again",
    )


def throttling(root: Path = Path("/"), vcgencmd: str = "vcgencmd") -> Finding:
    """Whether the supply and the cooling are good enough, as the firmware of a Raspberry Pi sees it."""
    said = ToolRunner().ask([vcgencmd, "get_throttled"])
    bits = parse_bits(said) if said and said.startswith("throttled=") else kernel_bits(root / "sys")
    if bits is None:
        if not (root / "dev/vcio").exists():
            return Finding("throttling", OK, "no Raspberry Pi firmware here that would tell")
        return Finding(
            "throttling",
            UNKNOWN,
            "the firmware does not answer",
            f"sudo usermod -aG video {_user()}   # and log in again",
        )
    state = decode(bits)
    if not state.now and not state.since_boot:
        return Finding("throttling", OK, "none since boot")
    words = "; ".join(
        f"{when}: {', '.join(names)}" for when, names in (("now", state.now), ("since boot", state.since_boot)) if names
    )
    if "undervoltage" in (*state.now, *state.since_boot):
        remedy = "vcgencmd pmic_read_adc EXT5V_V   # then: a supply of 5.1 V and 3 A (Pi 5: 5 A), a short cable"
    else:
        remedy = "vcgencmd measure_temp   # then: a heat sink or a fan"
    return Finding("throttling", FAIL if state.now else WARN, words, remedy)


def clock(state: Callable[[], str] = clock_state, now_s: float | None = None) -> Finding:
    """Whether the wall clock is right."""
    found, now_s = state(), time.time() if now_s is None else now_s
    if now_s < _OLDEST_S:
        year = time.gmtime(now_s).tm_year
        return Finding("clock", FAIL, f"it is set to the year {year}", "sudo timedatectl set-ntp true")
    if found == "synced":
        return Finding("clock", OK, "synchronised")
    if found == "unsynced":
        return Finding(
            "clock", WARN, "not synchronised: times in Readings may be wrong", "sudo timedatectl set-ntp true"
        )
    return Finding("clock", UNKNOWN, "the kernel does not say whether it is synchronised", "timedatectl status")


def disk(state_dir: Path, free_bytes: int | None = None) -> Finding:
    """Room for state and for one more release, and whether anything can be written.

    Args:
        state_dir: Where EdgeKit keeps its state.
        free_bytes: Free space; looked up by default.
    """
    place = next((path for path in (state_dir, *state_dir.parents) if path.exists()), Path("/"))
    try:
        about = os.statvfs(place)
    except OSError as cause:
        return Finding("disk", FAIL, f"{place}: {cause.strerror}", "dmesg | tail -n 30   # a card that gives up?")
    free = about.f_bavail * about.f_frsize if free_bytes is None else free_bytes
    detail = f"{free / 2**30:.1f} GiB free at {place}"
    if about.f_flag & os.ST_RDONLY:
        return Finding("disk", FAIL, f"{place} is mounted read-only", f"sudo mount -o remount,rw {_mount_of(place)}")
    if free < _TIGHT_BYTES:
        state = FAIL if free < _LEAST_BYTES else WARN
        return Finding("disk", state, detail, "sudo apt clean && sudo journalctl --vacuum-size=50M")
    return Finding("disk", OK, detail)


def _mount_of(path: Path) -> Path:
    return next(place for place in (path, *path.parents) if place.is_mount())


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _groups(root: Path) -> dict[str, set[str]]:
    try:
        lines = (root / "etc/group").read_text("utf-8", "replace").splitlines()
    except OSError:
        return {}
    fields = [line.split(":") for line in lines]
    return {field[0]: set(field[3].split(",")) - {""} for field in fields if len(field) == 4}
