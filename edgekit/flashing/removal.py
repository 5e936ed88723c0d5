"""Taking everything away again, membership included: `edgekit flash --remove`."""

from __future__ import annotations

import asyncio
from functools import partial

from edgekit.flashing import service
from edgekit.flashing.announcement import PATH as ANNOUNCED
from edgekit.flashing.board import BOARD_USER, ETC, HOME, INCOMING, STATE, Board
from edgekit.flashing.facts import ask
from edgekit.flashing.libedgetpu import RULE
from edgekit.flashing.plans import Membership
from edgekit.flashing.runtime_plan import BASES
from edgekit.flashing.ssh import failure
from edgekit.flashing.steps import Step, held_settings
from edgekit_device.contract.errors import SettingsError

# The folder that says who the board is goes last: a removal that was cut off can still revoke.
_PLACES = (HOME, BASES, INCOMING, "/run/edgekit", RULE, ANNOUNCED, STATE, ETC)


async def plan_removal(board: Board, fleet: Membership | None) -> list[Step]:
    """List what there is to take away; nothing is a fine answer.

    Args:
        board: Where.
        fleet: Which revokes it; None leaves its account alone.
    """
    steps: list[Step] = []
    if not board.is_folder:
        steps += await _service_steps(board)
    name = await _name(board)
    if fleet is not None and name is not None:
        revoke = partial(asyncio.to_thread, fleet.revoke, *name)
        steps.append(Step("revoke", f"revoke {'.'.join(name)} at {fleet.broker}", revoke))
    for path in _PLACES:
        if await board.entry(path) is not None:
            steps.append(Step("remove", f"remove {board.shown(path)}", partial(board.remove, path)))
    if not board.is_folder and (await board.run(["id", "-u", BOARD_USER])).status == 0:
        steps.append(Step("user", f"remove the user {BOARD_USER}", partial(_remove_user, board)))
    return steps


async def _service_steps(board: Board) -> list[Step]:
    unit = service.Service.of(await ask(board))
    if await board.entry(unit.path) is None:
        return []

    async def end() -> None:
        if await board.entry(f"{HOME}/venv") is not None:
            await unit.act(board, "stop")
        await unit.disable(board)

    return [Step("service", f"stop the service and remove {unit.path}", end)]


async def _name(board: Board) -> tuple[str, str] | None:
    """Site and id that the board goes by."""
    try:
        held = await held_settings(board)
    except SettingsError:
        return None
    if not held or "id" not in held:
        return None
    return str(held.get("site", "home")), str(held["id"])


async def _remove_user(board: Board) -> None:
    ran = await board.run(["userdel", BOARD_USER])
    if ran.status != 0:
        raise failure(board.name, f"remove the user {BOARD_USER}", ran)
