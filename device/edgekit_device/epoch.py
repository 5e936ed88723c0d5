"""The highest security epoch that a board has entered: the only floor against downgrade.

Written after the switch that entered it, and again by the recovery that every change of the slots begins with, so that
a power cut between the two forgets nothing: ``current`` cannot move on before its epoch is remembered.
"""

from __future__ import annotations

from pathlib import Path

from edgekit_device.bundle import read_file
from edgekit_device.contract.archive import read_archive
from edgekit_device.contract.errors import ContractError, SecurityEpochError
from edgekit_device.contract.file_table import MAX_BUNDLE_BYTES
from edgekit_device.contract.manifest import MAX_ENTRIES, NAME, Manifest
from edgekit_device.disk import Disk, replace_file
from edgekit_device.releases import EPOCH, Slot, current, list_slots

_MAX_DIGITS = 19


def epoch_of(slot: Slot) -> int:
    """The security epoch of a release; 0 when it is damaged, for then it cannot serve either."""
    try:
        entries = read_archive(
            read_file(slot.bundle_path, MAX_BUNDLE_BYTES), str(slot.bundle_path), max_entries=MAX_ENTRIES
        )
        return Manifest.from_bytes(bytes(entries.get(NAME, b""))).security_epoch
    except ContractError:
        return 0


def floor(root: Path) -> int:
    """The lowest security epoch that may be installed below a root; 0 before anything was."""
    path = root / EPOCH
    if not path.is_file():
        return 0
    text = path.read_bytes()[: _MAX_DIGITS + 1].strip()
    if text.isdigit() and len(text) <= _MAX_DIGITS:
        return int(text)
    # Damaged on the card: what the board still holds is what is left to go by.
    return max((epoch_of(slot) for slot in list_slots(root)), default=0)


def remember(root: Path, disk: Disk) -> None:
    """Make durable what the current release's epoch raises the floor to."""
    serving = current(root)
    reached = epoch_of(serving) if serving else 0
    if reached > floor(root):
        replace_file(root / EPOCH, b"%d\n" % reached, disk=disk)


def check_epoch(root: Path, manifest: Manifest) -> None:
    """Refuse what lies below the floor.

    Raises:
        SecurityEpochError: It does.
    """
    least = floor(root)
    if manifest.security_epoch < least:
        raise SecurityEpochError(manifest.bundle_id, manifest.security_epoch, least)
