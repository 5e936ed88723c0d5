"""The state table of a trial: every fault at every edge of every state, what each must end in, and the try-out."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.worlds.bundles import Signer
from tests.worlds.trial_board import Board, Recipe, bad_recipes, bundle_of
from tests.worlds.trial_process import ERROR, HANG, KILL, KILL_FOR_EVER, READ_ONLY

STATES = ("baseline", "prove", "load", "shadow", "swap", "watch", "commit", "rollback")
EDGES = ("enter", "run", "leave")
FAULTS = (KILL, ERROR, HANG, KILL_FOR_EVER, READ_ONLY)
TRIAL = "window_s=1,slack_ms=10,settle_s=2,baseline_frames=5,shadow_frames=5,proof_s=15,load_s=10"
OLD, NEW = "toy-1.0.0", "toy-2.0.0"
COMMITTED, REJECTED, PENDING = "committed", "rejected", "pending"
MOST_STARTS = 5


@dataclass(frozen=True)
class Case:
    """One cell of the table.

    Attributes:
        fault: What happens.
        edge: When.
        state: Where.
        ends: What the journal must say in the end; one of several where the machine decides.
        serves: What must serve.
        says: What must be in the service's words.
        starts: How often the service is started.
    """

    fault: str
    edge: str
    state: str
    ends: tuple[str, ...]
    serves: str
    says: str
    starts: int = 1

    @property
    def name(self) -> str:
        """In words."""
        return f"{self.fault} at {self.edge} {self.state}"


def table() -> list[Case]:
    """Every case, with what is promised."""
    cases = [Case(READ_ONLY, "begin", "", (PENDING,), OLD, "update_blocked")]
    cases += [_case(fault, edge, state) for fault in FAULTS for state in STATES for edge in EDGES]
    return cases


def _case(fault: str, edge: str, state: str) -> Case:
    back, written = state == "rollback", edge == "leave" and state in ("commit", "rollback")
    good = (REJECTED,) if back else (COMMITTED,)
    serves, says = (OLD, "update_rejected") if back else (NEW, "update_committed")
    if fault == KILL:
        return Case(fault, edge, state, good, serves, says, starts=2)
    if fault == KILL_FOR_EVER and not written:
        # Three attempts are cut off; the fourth start gives the release up.
        return Case(fault, edge, state, (REJECTED,), OLD, "interrupted: its trial was cut off 3 times", starts=4)
    if fault == KILL_FOR_EVER:
        return Case(fault, edge, state, good, serves, says, starts=2)
    if fault == ERROR and state not in ("commit", "rollback"):
        return Case(fault, edge, state, (REJECTED,), OLD, f"update_rejected: {NEW}: {state}: .*Input/output error")
    if fault == HANG and ((state == "swap" and edge != "leave") or (state == "shadow" and edge == "leave")):
        # Whether the worker swapped before it was stopped is up to the machine at "run" only.
        ends = (REJECTED, COMMITTED) if edge == "run" else (REJECTED,)
        return Case(fault, edge, state, ends, "" if edge == "run" else OLD, "update_(rejected|committed)")
    if fault == READ_ONLY and not written:
        return Case(fault, edge, state, (PENDING,), serves, "update_unwritten")
    return Case(fault, edge, state, good, serves, says)


@dataclass
class Table:
    """Bundles made once, for every board.

    Attributes:
        folder: Everything lies below it.
    """

    folder: Path
    signer: Signer = field(init=False)

    def __post_init__(self) -> None:
        self.signer = Signer.make(self.folder / "keys")
        good, bad = Recipe(), bad_recipes()["half the FPS"]
        for name, data in (
            ("old", bundle_of(good, "1.0.0")), ("good", bundle_of(good, "2.0.0")), ("bad", bundle_of(bad, "2.0.0")),
        ):  # fmt: skip
            path = self.folder / f"{name}.edgekit"
            path.write_bytes(data)
            self.signer.sign(path)

    def attempt(self, case: Case) -> str | None:
        """Live through one case. Returns what is wrong; None if nothing is."""
        place = self.folder / case.name.replace(" ", "-")
        with Board(place, self.signer) as board:
            try:
                return self._attempt(case, board)
            except AssertionError as error:
                return str(error)[-1500:]
            finally:
                board.end()
                shutil.rmtree(place, ignore_errors=True)

    def _attempt(self, case: Case, board: Board) -> str | None:
        board.committed("1.0.0", self.folder / "old.edgekit")
        board.enter(self.folder / ("bad.edgekit" if case.state == "rollback" else "good.edgekit"))
        struck = board.folder / "struck"
        env = {"STRIKE": f"{case.fault}:{case.edge}:{case.state}:{struck}"}
        starts = 0
        while starts < MOST_STARTS:
            starts += 1
            board.start(trial=TRIAL, program=("-m", "tests.worlds.trial_process"), fresh=False, **env)
            if self._over(board):
                break
            board.end()
        else:
            return f"was started {starts} times and is not over: {board.said[-5:]}"
        said = "\n".join(board.said)
        if starts != case.starts:
            return f"took {starts} starts\n{said[-800:]}"
        if case.edge != "begin" and not struck.exists():
            return f"was not struck\n{said[-800:]}"
        if not any(_has(case.says, line) for line in board.said):
            return f"never said {case.says!r}\n{said[-800:]}"
        verdict = board.verdict(NEW).state
        if verdict not in case.ends:
            return f"the journal says {verdict}\n{said[-800:]}"
        serves = case.serves or {COMMITTED: NEW, REJECTED: OLD}[verdict]
        board.wait_reading(serves)
        on_disk = NEW if verdict in (COMMITTED, PENDING) else OLD
        if board.current != on_disk:
            return f"current is {board.current}"
        reported = _reported(board, serves, case)
        if reported:
            return reported
        if list(board.place.rglob(".new-*")):
            return "left temporary files"
        return None

    @staticmethod
    def _over(board: Board) -> bool:
        """Wait for the end of the trial, or of the process. Whether it is the former."""
        until = time.monotonic() + 90
        while time.monotonic() < until:
            if any(_has(r"update_(committed|rejected|blocked)", line) for line in board.said) or _settled(board):
                # A strike while the last state is left comes right after.
                time.sleep(0.3)
                return board.alive
            if not board.alive:
                return False
            time.sleep(0.02)
        return True


def _settled(board: Board) -> bool:
    """Whether a start found a verdict and serves by it."""
    state, ready = board.verdict(NEW).state, any("model_ready" in line for line in board.said)
    serves = any(f"model_ready: {board.current} " in line for line in board.said[-3:])
    return ready and state in (COMMITTED, REJECTED) and serves


def _reported(board: Board, serves: str, case: Case) -> str | None:
    """What is wrong with what `status` says, once it had time to say it."""
    until = time.monotonic() + 10
    while True:
        status = board.status()
        reason = (status.get("status") or {}).get("reason") or ""
        fits = case.says in reason or not case.says.startswith(("update_rejected", "interrupted", "update_blocked"))
        if case.fault == KILL_FOR_EVER and case.edge == "leave":
            fits = True  # A later start knows the verdict only; `status` lists it below.
        fits = fits or case.fault in (KILL,) or ".*" in case.says
        if status["alive"] and status["status"]["bundle"] == serves and fits:
            return None
        if time.monotonic() > until:
            return f"status: {status.get('status')}"


def _has(pattern: str, line: str) -> bool:
    import re

    return re.search(pattern, line) is not None


def chosen(cases: list[Case], every: int, only: str) -> Iterator[Case]:
    """Each `every`-th case whose name has the words."""
    for number, case in enumerate(case for case in cases if only in case.name):
        if number % every == 0:
            yield case


def workers() -> int:
    """How many boards at a time."""
    return max(1, min(2, len(os.sched_getaffinity(0))))
