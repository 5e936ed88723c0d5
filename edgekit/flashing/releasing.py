"""The bundle on its way into a board's slots: the board's own installer judges it, here only the way is made."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any

from edgekit.flashing.board import BOARD_USER, HOME, INCOMING, Board, Ran, Sent, device_command
from edgekit.flashing.errors import BoardBusyError, RefusedByBoardError
from edgekit.flashing.folder import FolderBoard
from edgekit.flashing.ssh import failure
from edgekit.flashing.steps import Step
from edgekit_device import slots
from edgekit_device.bundle import Bundle
from edgekit_device.contract.errors import DanglingSlotError, SlotConflictError
from edgekit_device.releases import BUNDLE, CURRENT, RELEASES, SIGNATURE, slot_of

# Golden proof in a child on the slowest board, with its disk.
_INSTALL_S = 600.0
_BUSY = "SlotBusyError"


def folder_steps(board: FolderBoard, path: Path, bundle: Bundle, data: bytes, key: Path) -> list[Step]:
    """Install the release into a folder and make it current, unless it is.

    Raises:
        SlotConflictError: It holds another bundle under this name and version.
    """
    place, name = board.place(HOME), bundle.manifest.bundle_id
    slot = slot_of(place, name)
    try:
        serving = slots.current(place)
    except DanglingSlotError:
        serving = None
    if slots.holds(slot, data, [key]) and serving == slot:
        return []
    before = f" instead of {serving.bundle_id}" if serving and serving != slot else ""
    describe = f"install {name} ({len(data)} bytes) into {slot.folder} and make it current{before}"

    async def apply() -> None:
        await asyncio.to_thread(slots.install, place, path, [key])

    return [Step("bundle", describe, apply)]


async def serving(board: Board) -> str:
    """The bundle that is current on the board; empty without."""
    entry = await board.entry(f"{HOME}/{CURRENT}")
    return entry.target.rpartition("/")[2] if entry is not None and entry.kind == "link" else ""


async def board_steps(board: Board, path: Path, bundle: Bundle, data: bytes, on_sent: Sent | None) -> list[Step]:
    """Send the bundle and let the board install it, unless it is current there.

    Raises:
        SlotConflictError: The board holds another bundle under this name and version.
    """
    name = bundle.manifest.bundle_id
    folder = f"{HOME}/{RELEASES}/{name}"
    before, held = await serving(board), await board.digest(f"{folder}/{BUNDLE}")
    if held is not None and held != hashlib.sha256(data).hexdigest():
        raise SlotConflictError(name)
    if held is not None and before == name and await board.entry(f"{folder}/{SIGNATURE}") is not None:
        return []
    there = f"{INCOMING}/{name}.edgekit"
    signature = path.with_name(path.name + ".minisig").read_bytes()

    async def send() -> None:
        await board.make_folder(INCOMING)
        await board.put(path, there, on_sent=on_sent)
        await board.write(f"{there}.minisig", signature)

    async def install() -> None:
        command = device_command("install", there, "--json")
        ran = await board.run(command, deadline_s=_INSTALL_S, user=BOARD_USER)
        if ran.status != 0:
            raise refusal(board, name, ran)
        for left in (there, f"{there}.minisig"):
            await board.remove(left)

    async def go_back() -> None:
        if await serving(board) != name:
            return  # The board's own trial was faster.
        if before:
            command = device_command("rollback", "--force", "--json")
            ran = await board.run(command, deadline_s=_INSTALL_S, user=BOARD_USER)
            if ran.status != 0 and await serving(board) != before:
                raise failure(board.name, f"go back to {before}", ran)
        else:
            await board.remove(f"{HOME}/{CURRENT}")

    instead = f" instead of {before}" if before and before != name else ""
    return [
        Step("send", f"send {name} ({len(data)} bytes; what is there already is not sent again)", send),
        Step("bundle", f"install {name} into {folder} and make it current{instead}", install, go_back),
    ]


def refusal(board: Board, name: str, ran: Ran) -> Exception:
    """The board's own words, when it did not install what it was given."""
    try:
        said: dict[str, Any] = json.loads(ran.text.splitlines()[-1])
        kind, message = str(said["error"]), str(said["message"])
    except (ValueError, KeyError, IndexError, TypeError):
        return failure(board.name, f"install {name}", ran)
    if kind == _BUSY:
        return BoardBusyError(board.name, message, "wait for it to end, then run this again")
    return RefusedByBoardError(board.name, name, kind, message)
