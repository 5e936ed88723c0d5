"""One board's way through a flash: opened, planned, changed step by step, awaited, or taken back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgekit.errors import EdgeKitError
from edgekit.flashing import removal, runtime, service
from edgekit.flashing.board import Board
from edgekit.flashing.device_wheel import DeviceWheel
from edgekit.flashing.errors import BoardStartError, LinkLostError
from edgekit.flashing.flashed import Flashed, Options
from edgekit.flashing.folder import FolderBoard
from edgekit.flashing.hostkeys import HostKeys
from edgekit.flashing.login import Secrets
from edgekit.flashing.plans import Plan, Wanted, plan_board, plan_folder
from edgekit.flashing.ssh import open_board
from edgekit.flashing.steps import Step
from edgekit.flashing.targets import FolderTarget, Target


class Flight:
    """One board's way through a flash.

    Attributes:
        done: What was changed so far, in words.
    """

    def __init__(
        self, target: Target, wanted: Wanted | None, options: Options, device: DeviceWheel | None, place: Path
    ) -> None:
        self._target, self._wanted, self._options = target, wanted, options
        self._device, self._place = device, place
        self.done: list[str] = []
        self._words, self._share, self._slice = "", 0.0, 0.0

    async def fly(self, keys: HostKeys, secrets: Secrets) -> Flashed:
        """Open the board, do everything, close it."""
        self._say("connecting", 0.0)
        board: Board
        if isinstance(self._target, FolderTarget):
            board = FolderBoard(self._target.root)
        else:
            board = await open_board(self._target, keys, secrets, config=self._options.ssh_config)
        try:
            if self._wanted is None or self._options.remove:
                return await self._remove(board)
            return await self._flash(board, self._wanted)
        finally:
            await board.close()

    async def _flash(self, board: Board, wanted: Wanted) -> Flashed:
        self._say("asking what it is", 0.02)
        if isinstance(board, FolderBoard):
            plan = await plan_folder(board, wanted)
        else:
            assert self._device is not None
            label = getattr(self._target, "label", "")
            plan = await plan_board(board, wanted, self._device, self._place, self._sent, label)
        name, outcome = wanted.bundle.manifest.bundle_id, ""
        if not self._options.dry_run:
            await self._take(plan.prepare, 0.05, 0.6)
            outcome = await self._enter(board, plan, wanted)
        else:
            for step in plan.steps:
                self._options.on_step(self._target.name, step)
        self._say("done", 1.0)
        changes = tuple(step.describe for step in plan.steps)
        return Flashed(
            self._target, name, changes, self._options.dry_run, tuple(plan.notes), tuple(plan.warnings), outcome
        )

    async def _enter(self, board: Board, plan: Plan, wanted: Wanted) -> str:
        """Take the steps that a service sees, and wait; or take them back. Returns what the board says."""
        taken: list[Step] = []
        unit, name = plan.service, wanted.bundle.manifest.bundle_id
        try:
            await self._take(plan.enter, 0.6, 0.8, taken)
            if unit is None or not plan.enter:
                return ""
            old = plan.old_pid if any(step.name == "start" for step in taken) else None

            def waiting(words: str) -> None:
                self._say(f"waiting for the first Reading: {words}", 0.9)

            look = await service.await_reading(board, unit, name, old, wanted.wait_s, waiting)
        except LinkLostError:
            raise  # Nobody can be told to go back; the board's own trial judges what it has.
        except EdgeKitError as error:
            await self._go_back(board, plan, taken, error)
            raise
        await runtime.drop_others(board, plan.keep)
        return look.words

    async def _go_back(self, board: Board, plan: Plan, taken: Sequence[Step], error: EdgeKitError) -> None:
        self._say("going back", 0.95)
        unit = plan.service
        fresh = plan.old_pid is None
        try:
            if unit is not None and fresh and any(step.name == "start" for step in taken):
                await unit.act(board, "stop")
            for step in reversed(taken):
                if step.undo is not None:
                    await step.undo()
            if unit is not None and not fresh and plan.restart:
                await unit.act(board, "restart")
        except EdgeKitError as cause:
            raise BoardStartError(
                board.name, f"{error}; going back failed too: {cause}", "run the same command again"
            ) from error

    async def _take(self, steps: Sequence[Step], low: float, high: float, taken: list[Step] | None = None) -> None:
        for number, step in enumerate(steps):
            self._share = low + (high - low) * number / len(steps)
            self._slice = (high - low) / len(steps)
            self._say(step.describe, self._share)
            self._options.on_step(self._target.name, step)
            if taken is not None:
                taken.append(step)
            await step.apply()
            self.done.append(step.describe)

    async def _remove(self, board: Board) -> Flashed:
        steps = await removal.plan_removal(board, self._options.leaves)
        if self._options.dry_run:
            for step in steps:
                self._options.on_step(self._target.name, step)
        else:
            await self._take(steps, 0.1, 1.0)
        self._say("removed", 1.0)
        return Flashed(self._target, "", tuple(step.describe for step in steps), self._options.dry_run)

    def _sent(self, done: int, whole: int) -> None:
        self._options.report(self._target.name, self._words, self._share + self._slice * done / max(1, whole))

    def _say(self, words: str, share: float) -> None:
        self._words = words
        self._options.report(self._target.name, words, share)
