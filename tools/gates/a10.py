"""A10, clocks: a board that starts in 1970, 2001, 2038, 2106 or thirty days off takes nothing that has expired.

It judges by a floor, and takes what is good at the latest once its clock is right again.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from edgekit.publishing.keys import UpdateKeys
from edgekit.publishing.repository import Repository
from edgekit_device.contract.errors import EdgeKitError
from edgekit_device.ota.metadata import Metadata, Now
from edgekit_device.ota.transport import Transport
from edgekit_device.trusted_time import BUILD_S, TrustedTime
from tests.worlds.repositories import Server
from tools.ota_page import write_section

TRUE = datetime.fromtimestamp(BUILD_S, UTC) + timedelta(days=400)
CLOCKS = {
    "1970": datetime(1970, 1, 1, tzinfo=UTC),
    "2001": datetime(2001, 9, 9, tzinfo=UTC),
    "2038-01-19": datetime(2038, 1, 19, 3, 14, 8, tzinfo=UTC),
    "2106": datetime(2106, 2, 7, tzinfo=UTC),
    "+30 days": TRUE + timedelta(days=30),
    "-30 days": TRUE - timedelta(days=30),
    "right": TRUE,
}
STATES = ("synced", "unsynced", "unknown")


def run(_: Sequence[str]) -> dict[str, Any]:
    """Every clock, whatever it says of itself, before a fresh and an expired repository, then with a right clock."""
    rows = ["| clock | says of itself | fresh repository | expired one | fresh, clock right again |"]
    rows.append("|---|---|---|---|---|")
    bad: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        made = Repository(base / "fresh", UpdateKeys(base / "keys"))
        made.create(TRUE - timedelta(days=200))
        made.resign(TRUE - timedelta(days=100), force=True)
        shutil.copytree(base / "fresh", base / "expired")
        made.resign(TRUE, force=True)
        with Server(base / "fresh").running() as fresh, Server(base / "expired").running() as expired:
            number = 0
            for name, wall in CLOCKS.items():
                for state in STATES:
                    number += 1
                    board, other = base / f"a{number}", base / f"b{number}"
                    first = visit(fresh, board, wall, state, TRUE - timedelta(days=200))
                    old = visit(expired, other, wall, state, TRUE - timedelta(days=60))
                    again = visit(fresh, board, TRUE, "synced", None)
                    rows.append(f"| {name} | {state} | {short(first)} | {short(old)} | {short(again)} |")
                    bad += [f"{name}, {state}: expired metadata was taken"] if old is None else []
                    bad += [f"{name}, {state}: refused for ever: {again}"] if again is not None else []
                    if first is not None and "clock" not in first:
                        bad.append(f"{name}, {state}: nothing is said of the clock: {first}")
    count = len(rows) - 2
    figure = (
        f"{count} clocks: {count - len(bad)} as they should; no expired metadata taken, no good update refused for ever"
    )
    write_section("Clocks (gate A10)", "\n".join([f"{figure}." if not bad else "**Failed.**", "", *rows, *bad]))
    return {"gate": "A10", "passed": not bad, "figure": figure, "detail": "\n".join(bad)}


def visit(server: Server, folder: Path, wall: datetime, state: str, floor: datetime | None) -> str | None:
    """One visit of a board; the refusal in words, None if the repository was believed.

    Args:
        server: Of the repository.
        folder: The board's own.
        wall: What its clock says.
        state: What the clock says of itself.
        floor: The last time that it saw anything signed offline; None for what it has kept.
    """
    place = folder / "last-signed"
    folder.mkdir(exist_ok=True)
    if floor is not None:
        place.write_text(f"{int(floor.timestamp())}\n")
    times = TrustedTime(place, lambda: state, wall.timestamp)
    root = (server.folder / "metadata" / "1.root.json").read_bytes()
    urls = (f"{server.url}metadata/", f"{server.url}targets/")
    try:
        metadata = Metadata(urls, folder / "metadata", Transport(), Now(times.now(), state == "synced"), root)
        metadata.refresh()
    except EdgeKitError as refusal:
        return f"{type(refusal).__name__}: {refusal}"
    if metadata.signed_at_s is not None:
        times.saw(metadata.signed_at_s)
    return None


def short(words: str | None) -> str:
    """The error's name."""
    return "taken" if words is None else words.partition(":")[0]
