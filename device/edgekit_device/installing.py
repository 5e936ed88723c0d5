"""The verbs `install` and `rollback`: the slots, with a self-test before each switch."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit_device import slots
from edgekit_device.bundle import trusted_keys
from edgekit_device.contract.errors import DanglingSlotError, UsageError
from edgekit_device.diagnosis.installation import KEYS, SLOTS
from edgekit_device.epoch import floor
from edgekit_device.selftest import self_test

if TYPE_CHECKING:
    from edgekit_device.bundle import Bundle


class _Trial:
    """Keeps what the self-test said, to be printed."""

    def __init__(self) -> None:
        self.found: dict[str, Any] | None = None

    def __call__(self, bundle: Bundle, data: bytes) -> None:
        self.found = self_test(bundle, data)


def install(args: argparse.Namespace) -> int:
    """Check a bundle, prove it in a child, and make it current.

    Returns:
        0.

    Raises:
        EdgeKitError: Named by its class; what was current still is.
    """
    trial = _Trial()
    slot = slots.install(_place(args), Path(args.bundle), _keys(args), trial=trial)
    return _say(args, slot, trial.found)


def rollback(args: argparse.Namespace) -> int:
    """Prove the release that served before, and make it current again.

    Returns:
        0.

    Raises:
        EdgeKitError: Named by its class; what was current still is.
    """
    trial = _Trial()
    slot = slots.rollback(_place(args), keys=_keys(args), trial=trial)
    return _say(args, slot, trial.found)


def installed(root: Path) -> dict[str, Any]:
    """What the slots hold, for `status`; read only.

    Args:
        root: Folder that stands for the board's root.
    """
    place = root / SLOTS
    try:
        serving, before, problem = slots.current(place), slots.previous(place), None
    except DanglingSlotError as error:
        serving, before, problem = None, None, str(error)
    return {
        "current": serving.bundle_id if serving else None,
        "previous": before.bundle_id if before else None,
        "held": [slot.bundle_id for slot in slots.list_slots(place)],
        "security_epoch": floor(place),
        "problem": problem,
    }


def installed_line(found: dict[str, Any]) -> str | None:
    """The same in words; None where nothing is installed."""
    if found["problem"]:
        return f"releases: {found['problem']}"
    if not found["held"]:
        return None
    roles = {found["previous"]: "previous", found["current"]: "current"}
    words = [f"{name} ({roles[name]})" if name in roles else str(name) for name in found["held"]]
    return f"releases: {', '.join(words)}; security epoch {found['security_epoch']}"


def _place(args: argparse.Namespace) -> Path:
    root = Path(args.root)
    if not root.is_dir():
        raise UsageError(f"--root {root}: no such folder")
    return root / SLOTS


def _keys(args: argparse.Namespace) -> Sequence[Path]:
    named = Path(args.pubkey) if args.pubkey else None
    return trusted_keys(named, board_keys=Path(args.root) / KEYS)


def _say(args: argparse.Namespace, slot: slots.Slot, tried: dict[str, Any] | None) -> int:
    if args.json:
        print(json.dumps({"schema": 1, "bundle": slot.bundle_id, "self_test": tried, **_after(args)}, sort_keys=True))
        return 0
    if tried is None:
        print(f"{slot.bundle_id} is current already; nothing was changed")
        return 0
    golden = tried["golden"]
    for rung, reason in tried["failed"].items():
        print(f"  {rung} does not work here: {reason}")
    print(
        f"{slot.bundle_id} is current; {golden['images']} golden images reproduced on {tried['rung']} "
        f"within {golden['largest_difference']:.4f} (allowed {golden['tolerance']:.4f})"
    )
    print(f"next: edgekit-device run --root {args.root}   # a service takes it up when it is restarted")
    return 0


def _after(args: argparse.Namespace) -> dict[str, Any]:
    found = installed(Path(args.root))
    return {"previous": found["previous"], "held": found["held"], "security_epoch": found["security_epoch"]}
