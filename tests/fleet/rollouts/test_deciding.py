"""What a rollout does next is decided from values alone, and some things hold whatever boards do."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from edgekit.fleet.rollouts.deciding import decide, follows_only, is_open, open_ms
from edgekit.fleet.rollouts.plan import Limits, Plan
from edgekit.fleet.rollouts.state import DONE, NEW, OLD, PAUSED, RUNNING, SILENT, STOPPED, STOPPING, Seen
from edgekit_device.contract.reported import Update
from tests.worlds.rollout_fleet import (
    BAD,
    CRASHES,
    DAWN_MS,
    GOOD,
    HANGS,
    KINDS,
    NEW_RELEASE,
    OLD_RELEASE,
    REFUSES,
    SLOW,
    STEP_MS,
    Board,
    World,
)

HOUR_MS = 3_600_000
QUICK = Plan(board_timeout_s=300)


def fleet(count: int, kind: str = GOOD) -> list[Board]:
    return [Board(number, kind) for number in range(count)]


def test_a_good_release_reaches_every_board_in_four_waves() -> None:
    world = World(fleet(50), QUICK).run()
    assert world.rollout.state == DONE
    assert len(world.on_new()) == 50
    assert [note.split(":")[0] for note in world.notes] == ["wave 2 of 4", "wave 3 of 4", "wave 4 of 4", "done"]


def test_a_wave_touches_no_more_boards_than_it_says() -> None:
    world = World(fleet(50), QUICK)
    most: dict[int, int] = {}
    while world.rollout.ended_ms is None:
        world.step()
        most[world.rollout.wave] = len(world.touched)
    assert most == {0: 1, 1: 5, 2: 25, 3: 50}


@pytest.mark.parametrize("kind", [BAD, REFUSES, SLOW, CRASHES, HANGS])
def test_a_bad_release_stops_in_its_canary_and_every_board_is_back(kind: str) -> None:
    world = World(fleet(50, kind), replace(QUICK, waves=("10%", "100%"))).run()
    assert world.rollout.state == STOPPED
    assert len(world.touched) == 5
    assert world.on_new() == []
    assert "boards failed, more than 20%" in str(world.rollout.reason)


def test_one_failure_in_five_is_tolerated_at_twenty_percent_and_two_are_not() -> None:
    for bad, state in ((1, DONE), (2, STOPPED)):
        boards = [Board(n, BAD if n < bad else GOOD) for n in range(5)]
        world = World(boards, replace(QUICK, waves=("100%",))).run()
        assert world.rollout.state == state, bad


def test_a_board_that_failed_is_told_its_release_from_before_and_the_others_go_on() -> None:
    world = World([Board(n, BAD if n == 7 else GOOD) for n in range(20)], QUICK).run()
    assert world.rollout.state == DONE
    assert world.boards[7].told == [NEW, OLD]
    assert len(world.on_new()) == 19


def test_offline_boards_hold_nobody_up_and_follow_when_they_are_back() -> None:
    boards = fleet(20)
    for board in boards[10:]:
        board.online = False
    world = World(boards, QUICK)
    for _ in range(60):
        world.step()
    assert world.rollout.state == RUNNING
    assert len(world.on_new()) == 10
    seen = {n: b.seen() for n, b in world.boards.items()}
    assert follows_only(world.rollout, list(world.members.values()), seen)
    for board in boards[10:]:
        board.online = True
    world.run()
    assert world.rollout.state == DONE
    assert len(world.on_new()) == 20


def test_boards_that_come_back_all_at_once_are_told_in_waves_too() -> None:
    boards = fleet(100)
    for board in boards[1:]:
        board.online = False
    world = World(boards, QUICK)
    for _ in range(30):
        world.step()
    for board in boards:
        board.online = True
    world.step()
    assert len(world.touched) <= 10


def test_boards_that_follow_later_are_not_told_once_the_release_has_stopped() -> None:
    boards = [Board(n, BAD) for n in range(20)]
    for board in boards[10:]:
        board.online = False
    world = World(boards, QUICK).run()
    for board in boards:
        board.online = True
    world.run(20)
    assert not any(board.told for board in boards[10:])


def test_paused_means_no_new_board_and_those_on_their_way_are_still_judged() -> None:
    world = World(fleet(20), replace(QUICK, waves=("2", "100%")))
    world.step()
    world.rollout = replace(world.rollout, state=PAUSED)
    for _ in range(30):
        world.step()
    assert (world.rollout.state, len(world.touched), len(world.on_new())) == (PAUSED, 2, 2)
    world.rollout = replace(world.rollout, state=RUNNING)
    assert len(world.run().on_new()) == 20


def test_a_paused_rollout_whose_boards_fail_still_stops() -> None:
    world = World(fleet(20, BAD), replace(QUICK, waves=("5", "100%")))
    world.step()
    world.rollout = replace(world.rollout, state=PAUSED)
    world.run()
    assert (world.rollout.state, len(world.touched)) == (STOPPED, 5)


def test_abort_takes_every_touched_board_back_to_its_own_release() -> None:
    world = World(fleet(20), QUICK)
    while len(world.on_new()) < 5:
        world.step()
    before = {board.number for board in world.touched}
    world.rollout = replace(world.rollout, state=STOPPING)
    world.run()
    assert (world.rollout.state, world.on_new()) == (STOPPED, [])
    assert {board.number for board in world.touched} == before


def test_a_board_that_is_away_while_everybody_goes_back_hears_it_when_it_returns() -> None:
    world = World(fleet(5), replace(QUICK, waves=("100%",)))
    while len(world.on_new()) < 5:
        world.step()
    world.boards[3].online = False
    world.rollout = replace(world.rollout, state=STOPPING)
    world.run(20)
    assert (world.rollout.state, world.on_new()) == (STOPPING, [3])
    world.boards[3].online = True
    world.run()
    assert (world.rollout.state, world.on_new()) == (STOPPED, [])


def test_a_board_that_goes_away_after_it_was_told_has_failed_when_its_time_is_over() -> None:
    world = World(fleet(1), replace(QUICK, max_failures="100%"))
    world.step()
    world.boards[0].online = False
    world.run(50)
    assert world.members[0].verdict == SILENT
    assert "went away" in str(world.members[0].reason)


def test_a_board_whose_release_nobody_knows_is_never_told() -> None:
    world = World(fleet(2), QUICK)
    seen = {0: Seen(online=True), 1: Seen(online=True, release=OLD_RELEASE)}
    decision = decide(world.rollout, list(world.members.values()), seen, DAWN_MS)
    assert [member.number for member in decision.changed] == [1]
    assert decision.changed[0].before == OLD_RELEASE


def test_pinned_boards_and_those_that_run_it_already_are_left_out() -> None:
    world = World(fleet(3), QUICK)
    seen = {0: Seen(True, OLD_RELEASE, pinned=True), 1: Seen(True, NEW_RELEASE), 2: Seen(True, OLD_RELEASE)}
    decision = decide(world.rollout, list(world.members.values()), seen, DAWN_MS)
    assert {m.number: (m.wish, m.left_out) for m in decision.changed} == {
        0: (None, "pinned"), 1: (None, "runs it already"), 2: (NEW, None),
    }  # fmt: skip


def test_a_wave_waits_for_its_least_number_of_reports() -> None:
    boards = fleet(20)
    plan = replace(QUICK, waves=("3", "100%"), min_reports=3, max_failures="50%")
    boards[1].kind = HANGS  # It times out: a failure, and no report.
    world = World(boards, plan).run(80)
    assert (world.rollout.state, world.rollout.wave, len(world.touched)) == (RUNNING, 0, 3)
    assert len(World(fleet(20), plan).run().on_new()) == 20


def test_outside_the_window_nobody_is_told_and_no_time_runs_out() -> None:
    midnight = DAWN_MS - DAWN_MS % (24 * HOUR_MS)
    world = World(fleet(4), replace(QUICK, window=("02:00", "04:00"), waves=("100%",)))
    world.now_ms = midnight
    for _ in range(10):
        world.step()
    assert not world.touched
    world.now_ms = midnight + 4 * HOUR_MS - STEP_MS
    world.step()
    for board in world.touched:
        board.kind, board.left = HANGS, 10**6
    for _ in range(100):
        world.step()
    assert not any(member.verdict for member in world.members.values())


def test_an_answer_to_an_earlier_attempt_is_not_taken_for_this_one_when_forced() -> None:
    world = World(fleet(1), replace(QUICK, force=True))
    earlier = Update(NEW_RELEASE, "rolled_back", reason="golden", force="rollout-3")
    told = [replace(world.members[0], wish=NEW, before=OLD_RELEASE, told_ms=DAWN_MS)]
    kept = decide(world.rollout, told, {0: Seen(True, OLD_RELEASE, earlier)}, DAWN_MS)
    assert not kept.changed
    answer = replace(earlier, force=world.rollout.force)
    failed = decide(world.rollout, told, {0: Seen(True, OLD_RELEASE, answer)}, DAWN_MS)
    assert failed.changed[0].verdict == "failed"


@pytest.mark.parametrize(
    ("window", "begin_h", "end_h", "hours"),
    [
        (None, 1, 5, 4), (("02:00", "04:00"), 1, 5, 2), (("02:00", "04:00"), 3, 3.5, 0.5),
        (("22:00", "02:00"), 23, 25, 2), (("22:00", "02:00"), 1, 3, 1), (("22:00", "02:00"), 3, 21, 0),
        (("02:00", "04:00"), 0, 72, 6), (("00:00", "23:59"), 0, 24, 24 - 1 / 60),
    ],
)  # fmt: skip
def test_time_counts_inside_the_window_only(window, begin_h: float, end_h: float, hours: float) -> None:
    day = DAWN_MS - DAWN_MS % (24 * HOUR_MS)
    begin, end = (day + int(hour * HOUR_MS) for hour in (begin_h, end_h))
    assert open_ms(window, begin, end) == pytest.approx(hours * HOUR_MS)
    assert is_open(window, begin) == (open_ms(window, begin, begin + 1) > 0)


# A world has too many parts to be shrunk in a minute; the seed is printed.
@settings(deadline=None, max_examples=120, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=30),
    waves=st.lists(st.sampled_from(["1", "2", "5", "10%", "25%", "50%", "100%"]), min_size=1, max_size=5),
    failures=st.sampled_from(["0", "2", "10%", "20%", "100%"]),
    seed=st.randoms(use_true_random=False),
)
def test_whatever_boards_and_people_do_the_promises_hold(kinds, waves, failures, seed) -> None:
    boards = [Board(number, kind) for number, kind in enumerate(kinds)]
    plan = Plan(tuple(waves), failures, board_timeout_s=100, readings=2, limits=Limits())
    world = World(boards, plan)
    for _ in range(60):
        for board in boards:
            if seed.random() < 0.1:
                board.online = not board.online
        if world.rollout.state in (RUNNING, PAUSED) and seed.random() < 0.1:
            state = seed.choice([RUNNING, PAUSED, STOPPING])
            world.rollout = replace(world.rollout, state=state)
        before = {board.number for board in world.touched}
        entered = world.rollout.state
        world.step()
        new = {board.number for board in world.touched} - before
        # Never more than the wave allows; never anybody while paused or stopping.
        assert len(world.touched) <= world.rollout.allowed
        assert not new or entered == RUNNING
        # Each board hears the new release once, then perhaps the old one; never the other way round.
        assert all(board.told in ([], [NEW], [NEW, OLD]) for board in boards)
        if world.rollout.state in (STOPPING, STOPPED):
            assert all(board.told in ([], [NEW, OLD]) for board in boards)
    for board in boards:
        board.online = True
    if world.rollout.state == PAUSED:
        world.rollout = replace(world.rollout, state=RUNNING)
    world.run(400)
    assert world.rollout.state in (DONE, STOPPED)
    if world.rollout.state == STOPPED:
        assert world.on_new() == []
    else:
        # Nobody is left on a release that failed on it.
        assert all(world.boards[n].kind == GOOD for n in world.on_new())
