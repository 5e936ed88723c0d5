"""The verbs `install` and `rollback`: the slots, with a self-test before each switch.

A runtime release goes through slots of its own: `edgekit_device.runtimes`.
"""

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
from edgekit_device.runtimes.release import is_runtime
from edgekit_device.runtimes.verb import install_runtime, roll_back_runtime
from edgekit_device.selftest import self_test
from edgekit_device.status_file import look_up
from edgekit_device.verdicts import COMMITTED, PENDING, REJECTED, read_verdicts

if TYPE_CHECKING:
    from edgekit_device.bundle import Bundle


WORDS = {PENDING: "on trial", COMMITTED: "committed", REJECTED: "rejected"}


class _Trial:
    """Keeps what the self-test said, to be printed."""

    def __init__(self) -> None:
        self.found: dict[str, Any] | None = None

    def __call__(self, bundle: Bundle, data: bytes) -> None:
        self.found = self_test(bundle, data)


def install(args: argparse.Namespace) -> int:
    """Check a bundle, prove it in a child, and make it current; the same for a runtime release.

    Returns:
        0.

    Raises:
        EdgeKitError: Named by its class; what was current still is.
    """
    if is_runtime(Path(args.bundle)):
        return install_runtime(args, _place(args), _keys(args))
    trial = _Trial()
    slot = slots.install(_place(args), Path(args.bundle), _keys(args), trial=trial, force=args.force)
    return _say(args, slot, trial.found)


def rollback(args: argparse.Namespace) -> int:
    """Prove the release that served before, and make it current again.

    Returns:
        0.

    Raises:
        EdgeKitError: Named by its class; what was current still is.
    """
    if args.runtime:
        return roll_back_runtime(args, _place(args))
    trial = _Trial()
    slot = slots.rollback(_place(args), keys=_keys(args), trial=trial, force=args.force)
    return _say(args, slot, trial.found)


def installed(root: Path) -> dict[str, Any]:
    """What the slots hold and what became of each release, for `status`; read only.

    Args:
        root: Folder that stands for the board's root.
    """
    place = root / SLOTS
    try:
        serving, before, problem = slots.current(place), slots.previous(place), None
    except DanglingSlotError as error:
        serving, before, problem = None, None, str(error)
    return {
        "verdicts": {
            name: {key: getattr(verdict, key) for key in ("state", "attempts", "reason", "forced", "at")}
            for name, verdict in read_verdicts(place).items()
        },
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
    words = []
    for name in found["held"]:
        verdict = found["verdicts"].get(name, {"state": PENDING})
        said = [roles[name]] if name in roles else []
        words.append(f"{name} ({', '.join([*said, WORDS[verdict['state']]])})")
    lines = [f"releases: {', '.join(words)}; security epoch {found['security_epoch']}"]
    for name, verdict in found["verdicts"].items():
        if verdict["state"] == REJECTED:
            lines.append(f"rejected {verdict['at']}: {name}: {verdict['reason']}")
    return "\n".join(lines)


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
    if look_up(Path(args.root)).alive:
        print(
            f"next: edgekit-device status --root {args.root}   # the service tries it now, and goes back if it is worse"
        )
    else:
        print(f"next: edgekit-device run --root {args.root}")
    return 0


def _after(args: argparse.Namespace) -> dict[str, Any]:
    found = installed(Path(args.root))
    return {"previous": found["previous"], "held": found["held"], "security_epoch": found["security_epoch"]}
