"""How a board comes to its runtime: which versions go together, and the steps that lead there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from edgekit.flashing import runtime, runtime_plan
from edgekit.flashing.board import BOARD_USER, HOME, Board, Sent
from edgekit.flashing.errors import RuntimeVersionError
from edgekit.flashing.facts import System
from edgekit.flashing.runtime_plan import RuntimePlan
from edgekit.flashing.steps import Step
from edgekit_device.contract.versions import GO, REFUSE, WARN, advise
from edgekit_device.runtimes import launcher
from edgekit_device.runtimes.holding import LAUNCH


@dataclass
class RuntimeSteps:
    """What a runtime takes.

    Attributes:
        prepare: Steps that no service sees.
        enter: Steps that change what is started next.
        notes: Reasons.
        needed_bytes: Of the board's disk.
        keep: Runtimes that may not be removed.
    """

    prepare: list[Step] = field(default_factory=list)
    enter: list[Step] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    needed_bytes: int = 0
    keep: list[str] = field(default_factory=list)


def judge_versions(board: str, here: str, there: str, wish: str, requires: Mapping[str, Any] | None = None) -> str:
    """Decide what becomes of a board's runtime, by the rules of docs/guide/versions.md.

    Args:
        board: Its name.
        here: Version of the device package on this machine.
        there: On the board; empty without.
        wish: The release that came over the air and runs there; empty for none.
        requires: The bundle's.

    Returns:
        Why it stays as it is; empty if it becomes this machine's.

    Raises:
        RuntimeVersionError: Host, board and bundle do not go together.
    """
    advice = advise(here, there or None, requires)
    reason = advice.reason or ""
    if advice.action == REFUSE:
        problem, _, remedy = reason.rpartition("; ")
        raise RuntimeVersionError(board, problem, remedy)
    if advice.action == WARN:
        return reason
    return f"its edgekit-device {there} came over the air, and stays" if advice.action == GO and wish else ""


async def held_version(board: Board, wish: str) -> str:
    """Version of edgekit-device on a board; empty without one that runs.

    Args:
        board: Which.
        wish: Where its `runtime` link points: a release that came over the air runs in place of ours.
    """
    if not await _has_user(board):
        return ""
    if not wish and (version := await runtime.marked_version(board)):
        return version
    command = f"{HOME}/{wish or 'venv'}/bin/edgekit-device"
    ran = await board.run([command, "--version"], user=BOARD_USER)
    words = ran.text.split() if ran.status == 0 else []
    return words[1] if len(words) == 2 and words[0] == "edgekit-device" else ""


async def read_wish(board: Board) -> str:
    """The runtime release that should run, relative to /opt/edgekit; empty for the one that flash makes."""
    entry = await board.entry(f"{HOME}/{launcher.LINK}")
    target = entry.target if entry is not None and entry.kind == "link" else ""
    return "" if target in ("", launcher.BASE) else target


async def launcher_steps(board: Board, wish: str) -> list[Step]:
    """What picks the runtime; and the wish for ours, where an older one that came over the air runs."""
    path, link = f"{HOME}/{LAUNCH}", f"{HOME}/{launcher.LINK}"
    text = Path(launcher.__file__).read_bytes()
    before, found = await board.read(path), []
    if before != text:
        back = partial(board.remove, path) if before is None else partial(board.write, path, before, mode=0o755)
        found.append(Step("launcher", f"write {path}", partial(board.write, path, text, mode=0o755), back))
    if wish:
        words = f"have the runtime of this flash run, instead of {wish}"
        apply, back = partial(board.link, link, launcher.BASE), partial(board.link, link, wish)
        found.append(Step("launcher", words, apply, back))
    return found


async def _has_user(board: Board) -> bool:
    return (await board.run(["id", "-u", BOARD_USER])).status == 0


async def runtime_steps(board: Board, base: RuntimePlan, system: System, on_sent: Sent | None) -> RuntimeSteps:
    """The steps from what the board has to a planned runtime."""
    held = await runtime.held_runtime(board)
    found = RuntimeSteps(keep=[base.runtime_id, *([held] if held else [])])
    if not await runtime.is_whole(board, base):
        words = runtime_plan.words_of(base)
        found.notes, found.needed_bytes = words[1:], base.needed_bytes

        async def build() -> None:
            await runtime.send(board, base, on_sent)
            await runtime.build(board, base, system)

        found.prepare.append(Step("runtime", words[0], build))
    if held != base.runtime_id:
        back = partial(board.remove, runtime_plan.VENV)
        if held:
            back = partial(board.link, runtime_plan.VENV, f"{runtime_plan.BASES}/{held}")
        enter = f"enter runtime {base.runtime_id}{f' instead of {held}' if held else ''}"
        found.enter.append(Step("runtime", enter, partial(board.link, runtime_plan.VENV, base.folder), back))
    return found
