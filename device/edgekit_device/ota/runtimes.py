"""Runtime releases as something to follow: how one stands on the board, and the errand that fetches one.

The launcher and the new runtime itself do the trial (`edgekit_device.runtimes`); here only the way is made.
"""

from __future__ import annotations

import platform
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit_device.bundle import MAX_SIGNATURE_BYTES, trusted_keys
from edgekit_device.contract.file_table import MAX_BUNDLE_BYTES
from edgekit_device.contract.runtime_manifest import file_name
from edgekit_device.diagnosis.installation import KEYS, SLOTS
from edgekit_device.disk import discard
from edgekit_device.ota.depot import RUNTIMES, Depot
from edgekit_device.ota.errors import WrongSoftwareError
from edgekit_device.ota.follower import PENDING, Standing
from edgekit_device.ota.transport import Limits
from edgekit_device.runtimes import slots
from edgekit_device.runtimes.release import open_runtime

if TYPE_CHECKING:
    from edgekit_device.contract.desired import Desired
    from edgekit_device.ota.errand import Say


class RuntimeGoal:
    """The runtime that `desired` names.

    Args:
        home: Usually /opt/edgekit.
        running: Id of the release that runs; empty for the one that flash made.
    """

    kind = "runtime"

    def __init__(self, home: Path, running: str) -> None:
        self._home, self._running = home, running

    def wanted(self, desired: Desired) -> str | None:
        """What is asked for."""
        return desired.runtime

    def standing(self, name: str) -> Standing:
        """How it stands here."""
        found = slots.standing(self._home)
        verdict = found["verdicts"].get(name, {"state": PENDING, "reason": None})
        return Standing(
            verdict["state"],
            verdict["reason"],
            found["wanted"] == name,
            self._running == name,
            name in found["held"],
        )


def enter_runtime(order: dict[str, Any], say: Say) -> None:
    """Fetch the release for this Python and machine, build it, and make it the one that should run.

    Args:
        order: ``root``, ``url``, ``name``, and what `Limits` holds as ``limits``; ``force`` tries what was rejected,
            ``held`` only switches to what the board has.
        say: Told how far it is.

    Raises:
        EdgeKitError: Its class says why not; what ran still does.
    """
    from edgekit_device.ota.errand import lay_out, meter  # The supervisor needs the goal only.

    root, name = Path(order["root"]), order["name"]
    if order.get("held"):
        # What passed here before may always be entered again, whoever can be reached.
        slots.switch(root / SLOTS, name)
        return
    keys = trusted_keys(None, board_keys=root / KEYS)
    depot = Depot(root, order["url"], Limits(**order.get("limits") or {}))
    depot.refresh()
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    path = f"{RUNTIMES}/{file_name(name, python, platform.machine())}"
    wanted, signature = depot.find(path, MAX_BUNDLE_BYTES), depot.find(f"{path}.minisig", MAX_SIGNATURE_BYTES)
    depot.parts.tidy(keep=(wanted, signature))
    paths = depot.fetch(wanted, meter(say, wanted.length)), depot.fetch(signature)
    say({"state": "verifying", "progress": 1.0})
    ready = depot.state / "ready-runtime" / wanted.name
    try:
        lay_out(ready, *paths)
        release = open_runtime(ready, keys).manifest
        if release.release_id != name:
            raise WrongSoftwareError(ready.name, f"holds {release.release_id}, signed though it is")
        slots.install(root / SLOTS, ready, keys, force=bool(order.get("force")))
    finally:
        with suppress(OSError):
            discard(ready.parent)
    depot.parts.tidy()
