"""One update, fetched and entered, in a process of its own: its memory is gone when it ends, and it cannot wedge a run.

Run by `edgekit_device.ota.follower`. The order comes as one line of JSON on standard input, what happens goes out as
lines of JSON; when standard input closes, whoever asked is gone, and so is this.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from edgekit_device import slots
from edgekit_device.bundle import MAX_SIGNATURE_BYTES, open_signed, trusted_keys
from edgekit_device.contract.errors import EdgeKitError, SlotBusyError, SlotDiskError, SlotFullError
from edgekit_device.contract.file_table import MAX_BUNDLE_BYTES
from edgekit_device.diagnosis.installation import KEYS, SLOTS
from edgekit_device.disk import discard, make_folders
from edgekit_device.ota.depot import BUNDLES, STATE, Depot
from edgekit_device.ota.errors import OverTheAirError, WrongSoftwareError
from edgekit_device.ota.parts import named_failures
from edgekit_device.ota.transport import Limits
from edgekit_device.selftest import self_test

# What can be fetched and entered; each takes the order and a mouth, and says nothing more when it is done.
KINDS = {
    "bundle": "edgekit_device.ota.errand:enter_bundle",
    "runtime": "edgekit_device.ota.runtimes:enter_runtime",
}
_SAY_S = 0.5
# Beside a camera at 30 frames a second.
_NICE = 10

Say = Callable[[dict[str, Any]], None]


def enter_bundle(order: dict[str, Any], say: Say, trial: slots.Trial | None = None) -> None:
    """Fetch a bundle with its signature, prove it, and make it current; the service tries it from there on.

    Args:
        order: ``root``, ``url``, ``name``, and what `Limits` holds as ``limits``; ``force`` tries what was rejected,
            ``held`` only switches to what the board has.
        say: Told how far it is.
        trial: The proof; the golden self-test by default.

    Raises:
        EdgeKitError: Its class says why not; what served still does.
    """
    root, name = Path(order["root"]), order["name"]
    if order.get("held"):
        # What a board still holds may always be entered again, whoever can be reached.
        slots.switch(root / SLOTS, name)
        return
    with named_failures(root / STATE):
        _fetch_and_enter(root, name, order, say, trial or self_test)


def _fetch_and_enter(root: Path, name: str, order: dict[str, Any], say: Say, trial: slots.Trial) -> None:
    keys = trusted_keys(None, board_keys=root / KEYS)
    depot = Depot(root, order["url"], Limits(**order.get("limits") or {}))
    depot.refresh()
    wanted = depot.find(f"{BUNDLES}/{name}.edgekit", MAX_BUNDLE_BYTES)
    signature = depot.find(f"{BUNDLES}/{name}.edgekit.minisig", MAX_SIGNATURE_BYTES)
    depot.parts.tidy(keep=(wanted, signature))
    paths = depot.fetch(wanted, meter(say, wanted.length)), depot.fetch(signature)
    say({"state": "verifying", "progress": 1.0})
    ready = depot.state / "ready" / f"{name}.edgekit"
    try:
        lay_out(ready, *paths)
        bundle, _, _ = open_signed(ready, keys)
        if bundle.manifest.bundle_id != name:
            raise WrongSoftwareError(ready.name, f"holds {bundle.manifest.bundle_id}, signed though it is")
        slots.install(root / SLOTS, ready, keys, trial=trial, force=bool(order.get("force")))
    finally:
        with suppress(OSError):
            discard(ready.parent)
    depot.parts.tidy()


def lay_out(ready: Path, bundle: Path, signature: Path) -> None:
    """The two files beside one another under the names that the slots read, without another copy."""
    discard(ready.parent)
    make_folders(ready.parent, 0o700)
    os.link(bundle, ready)
    os.link(signature, ready.with_name(f"{ready.name}.minisig"))


def meter(say: Say, length: int) -> Callable[[int], None]:
    """What tells, twice a second, how much of a file is here."""
    due_s = 0.0

    def progress(here: int) -> None:
        nonlocal due_s
        now_s = time.monotonic()
        if now_s >= due_s:
            due_s = now_s + _SAY_S
            say({"state": "fetching", "progress": round(here / length, 4)})

    return progress


def refused(error: EdgeKitError) -> dict[str, Any]:
    """What to say of an error: its name, its words, and whether time alone may mend it or somebody is behind it."""
    own = error if isinstance(error, OverTheAirError) else None
    passing = own.passing if own else isinstance(error, SlotBusyError | SlotFullError | SlotDiskError)
    return {
        "end": "refused",
        "error": type(error).__name__,
        "reason": str(error)[:1000],
        "passing": passing,
        "suspect": own is not None and not passing,
    }


def main() -> int:
    """Do what the order says.

    Returns:
        0; what happened is in the lines.
    """
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # An interpreter's greeting is no line of ours.

    def say(words: dict[str, Any]) -> None:
        out.write(json.dumps(words) + "\n")
        out.flush()

    order = json.loads(sys.stdin.readline())
    threading.Thread(target=_leave_with_parent, name="parent", daemon=True).start()
    with suppress(OSError):
        os.nice(_NICE)
    module, _, action = KINDS[order["kind"]].partition(":")
    try:
        getattr(import_module(module), action)(order, say)
    except EdgeKitError as error:
        say(refused(error))
    except BrokenPipeError:
        return 0
    else:
        say({"end": "entered"})
    return 0


def _leave_with_parent() -> None:
    # Not the buffered reader: it must not hold a lock at exit.
    while os.read(0, 4096):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
