"""What `install`, `rollback` and `status` do and say about the runtime."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgekit_device import __version__
from edgekit_device.contract.errors import UsageError
from edgekit_device.diagnosis.installation import SLOTS
from edgekit_device.runtimes import slots
from edgekit_device.runtimes.launcher import COMMITTED, PENDING, REJECTED, WITHIN_S
from edgekit_device.status_file import look_up

_WORDS = {PENDING: "on trial", COMMITTED: "committed", REJECTED: "rejected"}
_LEAST_S, _MOST_S = 1.0, 86_400.0
FIRST = "the one that flash made"


def install_runtime(args: argparse.Namespace, home: Path, keys: Sequence[Path]) -> int:
    """Build a runtime release beside the one that runs, and make it the one that should.

    Returns:
        0.

    Raises:
        EdgeKitError: Named by its class; what ran still does.
    """
    within_s = WITHIN_S if args.within is None else args.within
    if not _LEAST_S <= within_s <= _MOST_S:
        raise UsageError(f"--within {within_s}: name {_LEAST_S:.0f} to {_MOST_S:.0f} seconds")
    _become_owner(home)
    name = slots.install(home, Path(args.bundle), keys, force=args.force, within_s=within_s)
    return _say(args, home, name)


def roll_back_runtime(args: argparse.Namespace, home: Path) -> int:
    """Go back to the runtime that passed before.

    Returns:
        0.

    Raises:
        EdgeKitError: Named by its class; what ran still does.
    """
    _become_owner(home)
    return _say(args, home, slots.rollback(home))


def runtime_state(root: Path) -> dict[str, Any]:
    """What runs, what should, and what became of each release, for `status`; read only.

    Args:
        root: Folder that stands for the board's root.
    """
    return {"version": __version__, **slots.standing(root / SLOTS)}


def runtime_line(found: dict[str, Any]) -> str | None:
    """The same in words; None where no release was ever installed."""
    verdicts = found["verdicts"]
    if not found["held"] and not verdicts:
        return None
    words = []
    for name, version in found["held"].items():
        said = ["current"] if name == found["wanted"] else []
        said.append(_WORDS[verdicts.get(name, {"state": PENDING})["state"]])
        words.append(f"{name} with edgekit-device {version} ({', '.join(said)})")
    words.append(f"{FIRST}{'' if found['wanted'] else ' (current)'}")
    lines = [f"runtimes: {', '.join(words)}"]
    for name, verdict in verdicts.items():
        if verdict["state"] == REJECTED:
            lines.append(f"rejected {verdict['at']}: {name}: {verdict['reason']}")
    return "\n".join(lines)


def _say(args: argparse.Namespace, home: Path, name: str) -> int:
    found = slots.standing(home)
    if args.json:
        print(json.dumps({"schema": 1, "runtime": name or None, **found}, sort_keys=True))
        return 0
    state = found["verdicts"].get(name, {}).get("state")
    print(f"{name or FIRST} is to run{' on trial' if state == PENDING else ''}")
    if look_up(Path(args.root)).alive:
        print(f"next: edgekit-device status --root {args.root}   # the service starts it, and goes back if it fails")
    else:
        print("next: start the service; it is tried then")
    return 0


def _become_owner(home: Path) -> None:
    """As root, go on as the owner of the runtimes: the service must be able to write what it will have to change."""
    if os.geteuid() != 0 or not home.exists():
        return
    about = home.stat()
    if about.st_uid != 0:
        os.setgroups([])
        os.setgid(about.st_gid)
        os.setuid(about.st_uid)
