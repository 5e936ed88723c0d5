"""A board that was off for two years, in a process whose clock is shifted: what it does when it is switched on again.

Meanwhile the host went on: it signed online, renewed what is signed offline, and replaced every key.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

from edgekit_device.contract.errors import EdgeKitError
from edgekit_device.ota import errand
from tests.worlds.repositories import World, serving, world

DAYS = 740


def shift(days: float) -> None:
    """Move this process's wall clock."""
    Path(os.environ["CLOCK_SHIFT"]).write_text(f"{int(days * 86_400)}\n")


def update(made: World, root: Path, bundle_id: str) -> str | None:
    """One update; the refusal's name."""
    try:
        errand.enter_bundle(made.order(root, bundle_id), lambda words: None, lambda bundle, data: None)
    except EdgeKitError as refusal:
        return f"{type(refusal).__name__}: {refusal}"
    return None


def main() -> None:
    """Print what happened, as JSON."""
    found: dict[str, object] = {"days": DAYS}
    shift(0)
    with tempfile.TemporaryDirectory() as folder, world(Path(folder)) as made:
        made.publish("1.1.0")
        boards = {name: made.board(name) for name in ("porch", "barn", "shed")}
        for root in boards.values():
            assert update(made, root, "toy-1.1.0") is None
        # The host that was off as well shows what has ended long ago.
        shift(DAYS)
        found["host_was_off"] = update(made, boards["shed"], "toy-1.1.0")
        found["serves_meanwhile"] = serving(boards["shed"])
        for day, action in (
            (100, lambda: made.repository.resign()),
            (300, lambda: made.repository.rotate("online")),
            (400, lambda: made.repository.rotate("targets")),
            (500, lambda: made.repository.rotate("root")),
            (650, lambda: made.repository.renew()),
            (720, lambda: made.publish("1.2.0")),
            (DAYS, lambda: made.repository.resign()),
        ):
            shift(day)
            action()
        found["roots"] = made.repository.root().signed.version
        found["after"] = update(made, boards["porch"], "toy-1.2.0") or serving(boards["porch"])
        # Another one whose clock has no battery.
        shift(-56 * 365)
        found["in_1970"] = update(made, boards["barn"], "toy-1.2.0") or serving(boards["barn"])
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
