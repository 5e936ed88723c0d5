"""What is installed on the board, whether it is as signed, and whether it runs."""

from __future__ import annotations

from pathlib import Path

from edgekit_device import releases
from edgekit_device.bundle import open_bundle, trusted_keys
from edgekit_device.contract.errors import DanglingSlotError, EdgeKitError, NoTrustedKeyError, SettingsError
from edgekit_device.diagnosis.finding import FAIL, OK, WARN, Finding
from edgekit_device.housekeeping import in_words
from edgekit_device.settings import DeviceSettings, load_settings
from edgekit_device.status_file import Found
from edgekit_device.units import NAME as UNIT

SLOTS, KEYS, SETTINGS = "opt/edgekit", "etc/edgekit/keys", "etc/edgekit/device.toml"
_FLASH = "edgekit flash BUNDLE TARGET   # from the host"
_RECOVER = "edgekit-device run   # mends it at its start"


def settings(root: Path) -> tuple[Finding, DeviceSettings | None]:
    """Whether device.toml can be read; and what it says."""
    path = root / SETTINGS
    try:
        found = load_settings(path)
    except SettingsError as error:
        return Finding("settings", FAIL, str(error), f"edgekit flash BUNDLE TARGET   # or: sudoedit {path}"), None
    if not path.exists():
        return Finding("settings", OK, f"no {path}: defaults"), found
    return Finding("settings", OK, f"{path}: {found.site}/{found.id}, source {found.source}"), found


def bundle(root: Path) -> Finding:
    """Whether the current release is as it was signed, by a key that is trusted here."""
    place = root / SLOTS
    try:
        slot = releases.current(place)
        if slot is None:
            return Finding("bundle", WARN, f"nothing is installed under {place}", _FLASH)
        opened, _ = open_bundle(slot.bundle_path, trusted_keys(board_keys=root / KEYS))
    except DanglingSlotError as error:
        return Finding("bundle", FAIL, str(error), _RECOVER)
    except NoTrustedKeyError as error:
        return Finding("bundle", FAIL, str(error), _FLASH)
    except (EdgeKitError, OSError) as error:
        return Finding("bundle", FAIL, str(error), "edgekit-device rollback   # or flash again")
    if opened.manifest.bundle_id != slot.bundle_id:
        detail = f"{slot.folder.name} holds the bundle {opened.manifest.bundle_id}"
        return Finding("bundle", FAIL, detail, _FLASH)
    return Finding("bundle", OK, f"{slot.bundle_id}, signed with key {opened.key_id}")


def slots(root: Path) -> Finding:
    """What may be gone back to."""
    place = root / SLOTS
    held = [slot.bundle_id for slot in releases.list_slots(place)]
    if not held:
        return Finding("slots", OK, "no release yet")
    try:
        before = releases.previous(place)
    except DanglingSlotError as error:
        return Finding("slots", FAIL, str(error), _RECOVER)
    back = f"rollback would enter {before.bundle_id}" if before else "nothing to go back to"
    left = sorted(path.name for path in place.rglob(".new-*"))
    if left:
        return Finding("slots", WARN, f"{', '.join(held)}; an install was cut off ({left[0]})", _RECOVER)
    return Finding("slots", OK, f"{', '.join(held)}; {back}")


def service(found: Found, root: Path = Path("/")) -> Finding:
    """Whether a supervisor runs, and what it says."""
    start = f"sudo systemctl start --no-block {UNIT}" if _has_unit(root) else f"edgekit-device run --root {root}"
    if found.path is None:
        return Finding("service", WARN, "no supervisor has run here", start)
    if not found.alive:
        state = (found.document.get("status") or {}).get("state")
        if state == "stopped":
            return Finding("service", WARN, "stopped", start)
        detail = f"the supervisor (pid {found.document.get('pid')}) ended without a goodbye"
        return Finding("service", FAIL, detail, f"journalctl -u {UNIT} -n 50; {start}" if _has_unit(root) else start)
    words = f"pid {found.document.get('pid')}: {in_words(found.document, found.age_s)}"
    if not (found.document.get("status") or {}).get("delegate"):
        return Finding(
            "service", WARN, words, f"journalctl -u {UNIT} -n 50" if _has_unit(root) else "edgekit-device check"
        )
    return Finding("service", OK, words)


def _has_unit(root: Path) -> bool:
    return any((root / folder / UNIT).exists() for folder in ("etc/systemd/system", "usr/lib/systemd/system"))
