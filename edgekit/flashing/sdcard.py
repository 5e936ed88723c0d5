"""What a fresh card needs so that the board comes up running and enrolled: files for its boot partition, no more.

    DIR/user-data, meta-data, network-config       Raspberry Pi OS Trixie: cloud-init reads them
    DIR/firstrun.sh and words for cmdline.txt      Bookworm: systemd runs it once, as Raspberry Pi Imager has it do
    DIR/edgekit/                                   bundle, key, wheels, unit, one-time token, first-boot.sh

DIR may be the boot partition itself. A raw device is never opened.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from edgekit.errors import EdgeKitError, UsageError
from edgekit.flashing.announcement import service_text
from edgekit.flashing.board import KEYS
from edgekit.flashing.device_wheel import DeviceWheel, device_wheel
from edgekit.flashing.errors import WheelsError
from edgekit.flashing.facts import PythonFacts, System
from edgekit.flashing.runtime_plan import WHEELS, RuntimePlan, plan_runtime
from edgekit.flashing.wheelhouse import Wheel
from edgekit_device import disk
from edgekit_device.bundle import Bundle
from edgekit_device.runtimes import launcher
from edgekit_device.settings import device_toml
from edgekit_device.units import NAME, unit_text

PAYLOAD, BOOT = "edgekit", "/boot/firmware"
SYSTEMS = {
    "trixie": System(os_version="13", python=PythonFacts("/usr/bin/python3", (3, 13, 5), libc="2.41")),
    "bookworm": System(os_version="12", python=PythonFacts("/usr/bin/python3", (3, 11, 2), libc="2.36")),
}
# What picamera2 brings along on each.
_OWN = {"trixie": "2.2.4", "bookworm": "1.24.2"}
_FIRSTRUN = "systemd.run=/boot/firmware/firstrun.sh systemd.run_success_action=reboot"
_FIRSTRUN += " systemd.unit=kernel-command-line.target"
_GROUPS = "users,adm,dialout,audio,netdev,video,plugdev,cdrom,games,input,gpio,spi,i2c,render,sudo"
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
# A card's first partition has 512 MB, of which the system takes some 80.
MOST_BYTES = 400 << 20


class CardError(EdgeKitError):
    """The card's files cannot be written."""


@dataclass(frozen=True)
class Card:
    """What a card is to be.

    Attributes:
        system: ``trixie`` or ``bookworm``.
        bundle_path: The signed bundle.
        bundle: Opened and checked.
        public_key: Of who signed it.
        settings: Of device.toml: site, id, broker, source ...
        ssh_key: A public key that may log in.
        user: Who logs in.
        token: One-time token, as text; empty leaves the board without a fleet.
        wifi: Name and passphrase; None for cable.
        country: Of the radio, e.g. ``DE``.
    """

    system: str
    bundle_path: Path
    bundle: Bundle
    public_key: Path
    settings: Mapping[str, object]
    ssh_key: str
    user: str = "pi"
    token: str = field(default="", repr=False)
    wifi: tuple[str, str] | None = field(default=None, repr=False)
    country: str = ""


def card_files(card: Card, wheels: Sequence[Wheel], place: Path, system: System | None = None) -> dict[str, bytes]:
    """All files, by their name below DIR.

    Args:
        card: What it is to be.
        wheels: What there is for the board's runtime.
        place: A folder for the device wheel meanwhile.
        system: Another system than the one that `card.system` names.

    Raises:
        WheelsError: A wheel is missing.
        UsageError: A name that is none.
    """
    _check(card)
    made = {f"{PAYLOAD}/{name}": data for name, data in _payload(card, wheels, place, system).items()}
    made |= _trixie(card) if card.system == "trixie" else _bookworm(card)
    total = sum(map(len, made.values()))
    if total > MOST_BYTES:
        raise CardError(f"{total / 1e6:.0f} MB do not fit a card's boot partition; take a smaller bundle")
    return made


def write_card(made: Mapping[str, bytes], out: Path) -> list[str]:
    """Write them, each in one step; those that start everything come last. Returns the names.

    Raises:
        CardError: The folder refuses.
    """
    # A card that is drawn too early has no user-data yet and boots as any other.
    order = sorted(made, key=lambda name: (not name.startswith(f"{PAYLOAD}/"), name))
    try:
        for name in order:
            disk.make_folders((out / name).parent)
            disk.replace_file(out / name, made[name], 0o600 if name.endswith("/token") else 0o644)
        line = out / "cmdline.txt"
        if "firstrun.sh" in made and line.is_file():
            words = line.read_text("utf-8").split("\n")[0].rstrip()
            if _FIRSTRUN not in words:
                disk.replace_file(line, f"{words} {_FIRSTRUN}\n".encode())
    except OSError as cause:
        raise CardError(f"{out}: cannot be written ({cause.strerror}); is the card full or write-protected?") from cause
    return order


def _check(card: Card) -> None:
    if card.system not in SYSTEMS:
        raise UsageError(f"--os {card.system}: write one of {', '.join(SYSTEMS)}")
    if not _USER.fullmatch(card.user):
        raise UsageError(f"--user {card.user!r}: a user's name is a-z, 0-9, '-' and '_'")
    if not re.fullmatch(r"(ssh|ecdsa|sk-ssh)-[a-z0-9@.-]+ [A-Za-z0-9+/=]+( [^\n]*)?", card.ssh_key):
        raise UsageError("--ssh-key: not a public key of SSH; make one: ssh-keygen -t ed25519")
    if card.wifi and (not re.fullmatch(r"[A-Z]{2}", card.country) or not 8 <= len(card.wifi[1]) <= 63):
        raise UsageError("Wi-Fi needs --wifi-country, such as DE, and a passphrase of 8 to 63 characters")
    if card.wifi and not all(word.isprintable() for word in card.wifi):
        raise UsageError("Wi-Fi: name and passphrase must be printable")


def _payload(card: Card, wheels: Sequence[Wheel], place: Path, system: System | None) -> dict[str, bytes]:
    device, known = device_wheel(), system or SYSTEMS[card.system]
    plans = {"pip": _plan(card, known, device, place, wheels)}
    assert known.python is not None
    own = PythonFacts(**{**known.python.__dict__, "picamera2": True, "numpy": _OWN[card.system]})
    plans["own"] = _plan(card, System(**{**known.__dict__, "python": own}), device, place, wheels)
    pip = next((wheel for wheel in wheels if wheel.name == "pip"), None)
    if pip is None:
        raise WheelsError("the card", "no wheel of pip", "edgekit wheels fetch")
    digest = hashlib.sha256("".join(plan.requirements for plan in plans.values()).encode()).hexdigest()
    words = {
        "@RUNTIME@": f"{device.version}-card-{digest[:12]}",
        "@VERSION@": device.version,
        "@PIP@": pip.path.name,
        "@BUNDLE@": card.bundle_path.name,
    }
    script = _script("first-boot.sh")
    for mark, word in words.items():
        script = script.replace(mark, word)
    signature = card.bundle_path.with_name(card.bundle_path.name + ".minisig")
    made = {
        "first-boot.sh": script.encode(),
        "begin.sh": _script("begin.sh").encode(),
        "launch": Path(launcher.__file__).read_bytes(),
        NAME: unit_text().encode(),
        "device.toml": device_toml(card.settings).encode(),
        "avahi.service": service_text(str(card.settings["site"]), str(card.settings["id"])).encode(),
        f"{Path(KEYS).name}/{card.public_key.name}": card.public_key.read_bytes(),
        card.bundle_path.name: card.bundle_path.read_bytes(),
        signature.name: signature.read_bytes(),
    }
    for kind, plan in plans.items():
        made[f"requirements-{kind}.txt"] = plan.requirements.replace(WHEELS, "@HERE@/wheels").encode()
    for wheel in (pip, *plans["pip"].wheels, *plans["own"].wheels):
        made[f"wheels/{wheel.path.name}"] = wheel.path.read_bytes()
    if card.token:
        made["token"] = card.token.encode() + b"\n"
    return made


def _plan(card: Card, system: System, device: DeviceWheel, place: Path, wheels: Sequence[Wheel]) -> RuntimePlan:
    return plan_runtime(f"a card with {card.system}", system, device, place, wheels)


def _script(name: str) -> str:
    return (files("edgekit.flashing") / "card" / name).read_text("utf-8")


def _trixie(card: Card) -> dict[str, bytes]:
    """cloud-init's three files; JSON is YAML, and quotes what a person may have typed."""
    name = str(card.settings["id"])
    lines = [
        "#cloud-config",
        "# Written by edgekit sdcard.",
        f"hostname: {json.dumps(name)}",
        "manage_etc_hosts: true",
        "ssh_pwauth: false",
        "users:",
        f"  - name: {json.dumps(card.user)}",
        f"    groups: {json.dumps(_GROUPS)}",
        "    shell: /bin/bash",
        "    lock_passwd: true",
        '    sudo: "ALL=(ALL) NOPASSWD:ALL"',
        f"    ssh_authorized_keys: {json.dumps([card.ssh_key])}",
        "runcmd:",
        "  - [systemctl, enable, --now, ssh]",
        f"  - [sh, {BOOT}/{PAYLOAD}/begin.sh, start]",
    ]
    digest = hashlib.sha256("\n".join([*lines, card.token]).encode()).hexdigest()
    made = {
        "user-data": ("\n".join(lines) + "\n").encode(),
        # Another instance is configured anew; the same one is left alone.
        "meta-data": f"instance-id: edgekit-{name}-{digest[:12]}\nlocal-hostname: {name}\n".encode(),
    }
    if card.wifi:
        point = {card.wifi[0]: {"password": card.wifi[1]}}
        made["network-config"] = (
            "version: 2\nwifis:\n  wlan0:\n    dhcp4: true\n    optional: true\n"
            f"    regulatory-domain: {json.dumps(card.country)}\n    access-points: {json.dumps(point)}\n"
        ).encode()
    return made


def _bookworm(card: Card) -> dict[str, bytes]:
    """The script that Raspberry Pi Imager's own mechanism runs once, with what the system brings for it."""
    custom = "/usr/lib/raspberrypi-sys-mods/imager_custom"
    lines = [
        "#!/bin/sh",
        "# Written by edgekit sdcard; removes itself. What fails must not keep the board from booting.",
        "set +e",
        f"{custom} set_hostname {shlex.quote(str(card.settings['id']))}",
        f"{custom} enable_ssh -k {shlex.quote(card.ssh_key)}",
        f"/usr/lib/userconf-pi/userconf {shlex.quote(card.user)} '*'",
    ]
    if card.wifi:
        words = " ".join(shlex.quote(word) for word in (*card.wifi, card.country))
        lines.append(f"{custom} set_wlan {words}")
    lines += [
        f"sh {BOOT}/{PAYLOAD}/begin.sh later",
        f"rm -f {BOOT}/firstrun.sh",
        f"sed -i 's| systemd\\.[^ ]*||g' {BOOT}/cmdline.txt",
        "sync",
        "exit 0",
    ]
    return {"firstrun.sh": ("\n".join(lines) + "\n").encode(), "cmdline-add.txt": f"{_FIRSTRUN}\n".encode()}
