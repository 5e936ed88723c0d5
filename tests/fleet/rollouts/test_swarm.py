"""Simulated boards follow `desired` as boards do, and rollouts work on them through a real broker and collector."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from edgekit.fleet.rollouts.plan import Plan
from edgekit.fleet.simulated_updates import SimulatedUpdate, Updating
from edgekit.fleet.simulation import BUNDLE, CALM, SimulatedBoard
from edgekit_device.contract.desired import Desired
from edgekit_device.contract.telemetry import Reading
from tests.worlds.rollout_swarm import NEW, rolling_out
from tools.gates import a9

MORNING_S = 1_790_000_000.0


def updates(habits: Updating | None = None) -> SimulatedUpdate:
    return SimulatedUpdate(habits or Updating(download_s=20, trial_s=45), BUNDLE, random.Random(1))


def lived(board: SimulatedUpdate, until_s: int, since_s: int = 0) -> list[str]:
    """The states it passed."""
    passed: list[str] = []
    for second in range(since_s, until_s):
        board.step(second, MORNING_S + second)
        if board.update and (not passed or passed[-1] != board.update.state):
            passed.append(board.update.state)
    return passed


def test_a_board_downloads_tries_and_commits_and_takes_its_time() -> None:
    board = updates()
    board.hear(Desired(NEW), 0)
    assert lived(board, 60) == ["fetching", "trying"]
    assert board.release == BUNDLE
    assert lived(board, 80, 60) == ["trying", "committed"]
    assert board.release == NEW


def test_a_bad_release_is_rolled_back_and_not_tried_again_until_forced() -> None:
    board = updates(Updating(1, 5, bad=frozenset({NEW})))
    board.hear(Desired(NEW), 0)
    assert lived(board, 20) == ["fetching", "trying", "rolled_back"]
    assert board.release == BUNDLE
    board.hear(Desired(BUNDLE), 20)
    board.hear(Desired(NEW), 21)
    assert lived(board, 30, 21) == ["refused"]
    board.hear(Desired(NEW, force="again"), 30)
    assert "trying" in lived(board, 40, 30)


def test_a_board_turns_back_in_the_middle_and_a_release_it_holds_needs_no_download() -> None:
    board = updates()
    board.hear(Desired(NEW), 0)
    lived(board, 30)
    board.hear(Desired(BUNDLE), 30)
    lived(board, 200, 30)
    assert board.release == BUNDLE
    board.hear(Desired(NEW), 200)
    lived(board, 300, 200)
    assert board.release == NEW
    board.hear(Desired(BUNDLE), 300)
    assert lived(board, 400, 300) == ["trying", "committed"]


def test_a_board_waits_for_its_window_and_its_random_moment() -> None:
    midnight = MORNING_S - MORNING_S % 86_400
    board = updates()
    board.hear(Desired(NEW, window=("02:00", "03:00"), jitter_s=600.0), 0)
    board.step(601, midnight + 3600)
    assert board.update is not None
    assert board.update.state == "waiting"
    board.step(601, midnight + 2 * 3600)
    assert board.update.state == "fetching"


def test_readings_speak_of_the_release_that_runs_and_a_slow_one_shows() -> None:
    habits = replace(CALM, rate_hz=1.0)
    board = SimulatedBoard("board-1", habits, 1, updating=Updating(1, 1, slow=frozenset({NEW})))
    board.start(0)
    before = [Reading.from_bytes(held.payload) for held in board.step(9, MORNING_S)]
    assert board.updates is not None
    board.updates.hear(Desired(NEW), 9)
    for second in range(10, 16):
        board.updates.step(second, MORNING_S)
    after = [Reading.from_bytes(held.payload) for held in board.step(30, MORNING_S + 21)]
    assert {reading.bundle for reading in before} == {BUNDLE}
    assert {reading.bundle for reading in after} == {NEW}
    assert max(reading.fps for reading in after) < 0.5 * min(reading.fps for reading in before)


def test_a_fleet_of_a_seed_makes_the_same_readings_whether_it_follows_or_not() -> None:
    habits = replace(CALM, rate_hz=1.0)
    made = []
    for updating in (None, Updating()):
        board = SimulatedBoard("board-1", habits, 1, updating=updating)
        board.start(0)
        made.append([held.payload for held in board.step(20, MORNING_S)])
    assert made[0] == made[1]


@pytest.mark.parametrize(
    ("updating", "state", "on_new"),
    [
        (Updating(0.5, 1.0), "done", 8),
        (Updating(0.5, 1.0, slow=frozenset({NEW})), "stopped", 0),
    ],
    ids=["good", "slow"],
)
def test_a_rollout_through_broker_collector_and_rows(updating: Updating, state: str, on_new: int) -> None:
    plan = Plan(waves=("25%", "100%"), readings=2)
    with rolling_out(8, plan, updating, every_s=0.3) as scene:
        shown = scene.ended(120)
        assert (shown.rollout.state, shown.counts["updated"]) == (state, on_new), shown.rollout.reason
        assert all(words in ([NEW], [NEW, BUNDLE]) for words in scene.witness.told.values())
        if state == "stopped":
            assert len(scene.witness.told) == 2
            assert "slower" in str(shown.rollout.reason)


def test_gate_a9_on_a_small_fleet() -> None:
    found = a9.run(["--boards", "20", "--trial-s", "1"])
    assert found["passed"], found
