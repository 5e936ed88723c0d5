"""The steps of a flash as data: what differs on the target, in the order in which it is changed.

Planning reads and decides; only `Step.apply` writes. The bundle comes last, so that a new release never serves
with the settings or keys of the old one.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import minisign

from edgekit.errors import UsageError
from edgekit.flashing.targets import FolderTarget
from edgekit_device import disk, slots
from edgekit_device.bundle import MAX_BOARD_KEYS, Bundle, key_label
from edgekit_device.contract.errors import DanglingSlotError
from edgekit_device.releases import slot_of
from edgekit_device.selftest import self_test
from edgekit_device.settings import device_toml, read_device_toml

INTERPRETERS = ("ai_edge_litert", "tflite_runtime")


@dataclass(frozen=True)
class Step:
    """One change on the target.

    Attributes:
        name: A word for scripts, e.g. ``bundle``.
        describe: The change in words, with the path.
        apply: Makes the change; may be called again after an interruption.
    """

    name: str
    describe: str
    apply: Callable[[], object]


def folder_steps(target: FolderTarget) -> list[Step]:
    """Folders that are missing; the state is the board's own business, hence 0700."""
    wanted = ((target.slots, 0o755), (target.keys, 0o755), (target.state, 0o700))
    return [
        Step("folder", f"create {folder} (mode {mode:04o})", partial(disk.make_folders, folder, mode))
        for folder, mode in wanted
        if not folder.is_dir()
    ]


def keys_to_drop(held: Mapping[str, int], limit: int = MAX_BOARD_KEYS) -> list[str]:
    """Decide which public keys make way for one more: those installed longest ago.

    Args:
        held: When each file was installed, in ns.
        limit: How many a board may hold.
    """
    oldest_first = sorted(held, key=lambda name: (held[name], name))
    return oldest_first[: max(0, len(held) + 1 - limit)]


def key_steps(target: FolderTarget, public_key: Path) -> list[Step]:
    """Install the public key, unless the board has it.

    Raises:
        UsageError: The file is not a minisign public key.
    """
    try:
        label = key_label(minisign.PublicKey.from_file(public_key))
        content = public_key.read_bytes()
    except (minisign.Error, OSError, ValueError) as cause:
        raise UsageError(f"{public_key}: not a minisign public key ({cause})") from cause
    files = sorted(target.keys.glob("*.pub"))
    if any(_label(file) == label for file in files):
        return []
    doomed = keys_to_drop({file.name: file.stat().st_mtime_ns for file in files})
    removed = "".join(f", remove {name}" for name in doomed)
    path = target.keys / f"{label}.pub"
    describe = f"install public key {path}{removed} (a board keeps {MAX_BOARD_KEYS})"

    def apply() -> None:
        # The old one goes first: a board reads two keys, and never a third in place of the new one.
        for name in doomed:
            disk.discard(target.keys / name)
        disk.replace_file(path, content)

    return [Step("key", describe, apply)]


def settings_steps(target: FolderTarget, given: Mapping[str, object]) -> list[Step]:
    """Write device.toml: what was given, over what the board has.

    Raises:
        SettingsError: A wrong value, here or in the file that is there.
    """
    path = target.settings
    held = read_device_toml(path) if path.exists() else {}
    merged = {**held, **{key: value for key, value in given.items() if value is not None}}
    text = device_toml(merged)
    if path.exists() and merged == held:
        return []
    changes = ", ".join(f"{key} = {value}" for key, value in merged.items() if held.get(key) != value)
    describe = f"write {path} ({changes or 'all defaults'})"
    return [Step("settings", describe, partial(disk.replace_file, path, text.encode("utf-8")))]


def bundle_steps(target: FolderTarget, bundle_path: Path, bundle: Bundle, data: bytes, key: Path) -> list[Step]:
    """Install the release and make it current, unless it is.

    Raises:
        SlotConflictError: The board holds another bundle under this name and version.
    """
    name = bundle.manifest.bundle_id
    slot = slot_of(target.slots, name)
    try:
        serving = slots.current(target.slots)
    except DanglingSlotError:
        serving = None
    if slots.holds(slot, data, [key]) and serving == slot:
        return []
    before = f" instead of {serving.bundle_id}" if serving and serving != slot else ""
    describe = f"install {name} ({len(data)} bytes) into {slot.folder} and make it current{before}"
    return [Step("bundle", describe, partial(slots.install, target.slots, bundle_path, [key]))]


def proof_steps(bundle: Bundle, data: bytes) -> list[Step]:
    """Prove the golden photos in a child of this host, before anything is written; the board proves them again.

    On a host without an interpreter the board's proof is the only one.
    """
    name = bundle.manifest.bundle_id
    if not any(importlib.util.find_spec(package) for package in INTERPRETERS):
        return [Step("self-test", f"leave the golden photos of {name} to the board: no interpreter here", lambda: None)]
    return [Step("self-test", f"prove the golden photos of {name} in a child", partial(self_test, bundle, data))]


def _label(file: Path) -> str | None:
    try:
        return key_label(minisign.PublicKey.from_file(file))
    except (minisign.Error, OSError, ValueError):
        return None
