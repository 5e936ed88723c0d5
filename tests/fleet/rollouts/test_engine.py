"""The engine on real databases: it writes before it speaks, one at a time, and whoever comes after it goes on."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.errors import UsageError
from edgekit.fleet import audit
from edgekit.fleet.batch import BoardKey
from edgekit.fleet.database import sqlite_url
from edgekit.fleet.rollouts import orders, records
from edgekit.fleet.rollouts.engine import Engine
from edgekit.fleet.rollouts.errors import LeaseLostError, RolloutOverlapError, RolloutStateError
from edgekit.fleet.rollouts.plan import Plan
from edgekit.fleet.rollouts.state import DONE, NEW, OLD, RUNNING, STOPPED, Rollout
from edgekit.fleet.store import Store
from edgekit_device.contract.desired import Desired
from tests.worlds.rollout_fleet import BAD, CRASHES, GOOD, HANGS, NEW_RELEASE, OLD_RELEASE, SLOW, Board
from tests.worlds.rollout_rows import SITE, Retained, RowBoards, a_life, lines_of_step, step_and_die
from tests.worlds.services import PostgreSQL

QUICK = Plan(waves=("1", "50%", "100%"), board_timeout_s=600, readings=2)
BEGAN_S = 1_790_000_000.0


class Fleet:
    """A store with boards, and one engine that they hear."""

    def __init__(self, store: Store, boards: list[Board], owner: str = "one") -> None:
        self.store = store
        self.rows = RowBoards(store, boards, BEGAN_S)
        self.engine = self.another(owner)

    def another(self, owner: str) -> Engine:
        return Engine(self.store, self.rows.hear, now=lambda: self.rows.now_s, owner=owner)

    def start(self, plan: Plan = QUICK, **more: object) -> Rollout:
        return orders.start(self.store, NEW_RELEASE, plan, "ann", now_ms=int(self.rows.now_s * 1000), **more)  # type: ignore[arg-type]

    def run(self, steps: int = 120) -> None:
        for _ in range(steps):
            if not self.open:
                return
            self.engine.step()
            self.rows.live()

    @property
    def open(self) -> list[Rollout]:
        with self.store.reading() as connection:
            return records.read_rollouts(connection, only_open=True)

    def on_new(self) -> int:
        return sum(board.release == NEW_RELEASE for board in self.rows.boards.values())

    def log(self) -> list[str]:
        return [f"{e.who}: {e.what} {e.target} {e.outcome}" for e in reversed(audit.entries(self.store, limit=500))]


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "sqlite":
        url = sqlite_url(tmp_path / "fleet.db")
    else:
        server: PostgreSQL = request.getfixturevalue("postgres")
        url = server.fresh("rollouts")
    with Store(url) as opened:
        yield opened


def boards(count: int, kind: str = GOOD) -> list[Board]:
    return [Board(number, kind) for number in range(count)]


def test_a_release_goes_out_in_waves_and_every_step_is_in_the_audit_log(store: Store) -> None:
    fleet = Fleet(store, boards(6))
    begun = fleet.start()
    fleet.run()
    assert (orders.find(store, begun.number).state, fleet.on_new()) == (DONE, 6)
    log = fleet.log()
    assert log[0].startswith("ann: rollout started rollout 1, lite0-1.1.0 6 boards, waves 1,50%,100%")
    assert sum("board told to update" in line for line in log) == 6
    assert any("wave 2 of 3" in line for line in log)
    assert log[-1].endswith("done: 6 of 6 boards run lite0-1.1.0")


@pytest.mark.parametrize("kind", [BAD, SLOW, CRASHES, HANGS])
def test_a_release_that_does_worse_in_the_rows_is_stopped_and_taken_back(tmp_path: Path, kind: str) -> None:
    with Store(sqlite_url(tmp_path / "fleet.db")) as store:
        fleet = Fleet(store, boards(10, kind))
        begun = fleet.start(Plan(waves=("20%", "100%"), board_timeout_s=300, readings=2))
        fleet.run()
        ended = orders.find(store, begun.number)
        assert (ended.state, fleet.on_new()) == (STOPPED, 0)
        told = [key for key, heard in fleet.rows.heard.items() if heard]
        assert len(told) == 2
        expected = {BAD: "golden", SLOW: "slower: 12.0 FPS", CRASHES: "worker_died", HANGS: "it sent 0 of 2"}
        assert expected[kind] in str(ended.reason)
        assert any("stopped by itself" in line for line in fleet.log())


def test_what_a_board_should_do_otherwise_stays_in_its_document(store: Store) -> None:
    fleet = Fleet(store, boards(1))
    key = BoardKey(SITE, "b0")
    store.desire(key, Desired(interval_s=5.0, region=(0.1, 0.1, 0.5, 0.5)).to_bytes())
    fleet.start(Plan(max_bytes_per_s=50_000, jitter_s=9.0, force=True, readings=2))
    fleet.engine.step()
    told = Desired.from_bytes(store.desired()[key])
    assert told == Desired(
        NEW_RELEASE,
        force="rollout-1",
        max_bytes_per_s=50_000,
        jitter_s=9.0,
        interval_s=5.0,
        region=(0.1, 0.1, 0.5, 0.5),
    )
    orders.abort(store, 1, "ann")
    fleet.engine.step()
    assert Desired.from_bytes(store.desired()[key]) == Desired(OLD_RELEASE, interval_s=5.0, region=(0.1, 0.1, 0.5, 0.5))


def test_pause_resume_abort_say_who_and_refuse_what_makes_no_sense(store: Store) -> None:
    fleet = Fleet(store, boards(6))
    number = fleet.start().number
    fleet.engine.step()
    orders.pause(store, number, "ben")
    for _ in range(20):
        fleet.engine.step()
        fleet.rows.live()
    assert fleet.on_new() == 1
    with pytest.raises(RolloutStateError, match="is paused and cannot be paused"):
        orders.pause(store, number, "ben")
    orders.resume(store, number, "ben")
    while fleet.on_new() < 3:
        fleet.engine.step()
        fleet.rows.live()
    orders.abort(store, number, "cat")
    fleet.run()
    ended = orders.find(store, number)
    assert (ended.state, ended.reason, fleet.on_new()) == (STOPPED, "aborted by cat", 0)
    with pytest.raises(RolloutStateError, match="is stopped"):
        orders.resume(store, number, "cat")
    with pytest.raises(UsageError, match="there is no rollout 99"):
        orders.abort(store, 99, "cat")
    log = fleet.log()
    assert [line for line in log if line.startswith(("ben", "cat"))] == [
        "ben: rollout paused rollout 1, lite0-1.1.0 done",
        "ben: rollout resumed rollout 1, lite0-1.1.0 done",
        "cat: rollout aborted rollout 1, lite0-1.1.0 done",
    ]


def test_one_engine_at_a_time_and_the_next_goes_on_when_the_first_is_silent(store: Store) -> None:
    fleet = Fleet(store, boards(6))
    fleet.start()
    other = fleet.another("two")
    assert fleet.engine.step() == 1
    assert other.step() == 0
    fleet.rows.now_s += 60
    assert other.step() == 0  # Nothing moved, but it holds the lease now.
    fleet.rows.live()
    assert fleet.engine.step() == 0
    fleet.engine = other
    fleet.run()
    assert fleet.on_new() == 6


def test_an_engine_that_slept_through_its_lease_writes_nothing(store: Store) -> None:
    fleet = Fleet(store, boards(6))
    fleet.start()
    slow = fleet.engine
    assert slow._hold()
    fleet.rows.now_s += 60
    assert fleet.another("two").step() == 1
    # It believes it still holds the lease, as after a long sleep in the middle of a step.
    slow._held_until_s = fleet.rows.now_s + 60
    before = {key: list(heard) for key, heard in fleet.rows.heard.items()}
    assert slow.step() == 0
    assert fleet.rows.heard == before


def test_what_somebody_asked_meanwhile_is_not_written_over(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet(store, boards(6))
    number = fleet.start().number
    original = fleet.engine._write

    def late(*arguments: object) -> None:
        orders.abort(store, number, "ann")
        original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(fleet.engine, "_write", late)
    assert fleet.engine.step() == 0
    assert not any(fleet.rows.heard.values())
    monkeypatch.undo()
    fleet.engine.step()
    assert orders.find(store, number).state == STOPPED


def test_a_board_that_could_not_be_told_is_told_when_the_broker_is_back(tmp_path: Path) -> None:
    with Store(sqlite_url(tmp_path / "fleet.db")) as store:
        fleet = Fleet(store, boards(2))
        fleet.start(Plan(waves=("100%",), readings=2))
        heard: list[BoardKey] = []
        there = False

        def say(board: BoardKey, document: bytes) -> bool:
            if there:
                heard.append(board)
            return there

        engine = Engine(store, say, now=lambda: fleet.rows.now_s)
        engine.step()
        assert not heard
        there = True
        engine.step()
        assert len(heard) == 2


def test_a_second_rollout_waits_for_the_first_or_takes_over_what_it_only_waits_for(store: Store) -> None:
    some = boards(6)
    some[5].online = False
    fleet = Fleet(store, some)
    some[5].online = True
    fleet.rows.speak()
    some[5].online = False
    fleet.rows.speak()
    first = fleet.start().number
    fleet.engine.step()
    with pytest.raises(RolloutOverlapError, match="belong to rollout 1"):
        fleet.start()
    fleet.run(80)
    assert fleet.on_new() == 5
    assert orders.find(store, first).state == RUNNING
    second = orders.start(store, NEW_RELEASE, QUICK, "ann", now_ms=int(fleet.rows.now_s * 1000))
    assert orders.find(store, first).state == DONE
    some[5].online = True
    fleet.run()
    assert (orders.find(store, second.number).state, fleet.on_new()) == (DONE, 6)


def test_pinned_boards_keep_their_release_and_boards_are_chosen_by_what_they_say(store: Store) -> None:
    fleet = Fleet(store, boards(4))
    orders.pin(store, BoardKey(SITE, "b1"), "ann", "demo on Friday")
    begun = fleet.start(Plan(where="kind=pi5 and not device=b2", readings=2))
    with store.reading() as connection:
        members = records.read_members(connection, begun.number)
    assert {m.board.device for m in members} == {"b0", "b3"}
    with pytest.raises(UsageError, match="chooses no board"):
        fleet.start(Plan(where="kind=pi4"))
    with pytest.raises(UsageError, match="is not pinned"):
        orders.unpin(store, BoardKey(SITE, "b0"), "ann")
    with pytest.raises(UsageError, match=r"there is no board home\.nobody"):
        orders.pin(store, BoardKey(SITE, "nobody"), "ann")
    orders.unpin(store, BoardKey(SITE, "b1"), "ann")
    fleet.run()
    assert fleet.on_new() == 2
    assert any(line.startswith("ann: board pinned home.b1 demo on Friday") for line in fleet.log())


def test_somebody_bound_to_sites_starts_nothing_elsewhere(store: Store) -> None:
    fleet = Fleet(store, boards(2))
    with pytest.raises(UsageError):
        fleet.start(sites=("harbour",))


@pytest.mark.parametrize("kind", [GOOD, BAD])
def test_killed_again_and_again_it_skips_no_board_and_tells_none_two_things(tmp_path: Path, kind: str) -> None:
    some = [Board(n, kind if n % 2 else GOOD) for n in range(8)]
    url = sqlite_url(tmp_path / "fleet.db")
    _check_a_life(url, tmp_path, some, kind, 0.7)


def test_the_same_on_postgresql(postgres: PostgreSQL, tmp_path: Path) -> None:
    _check_a_life(postgres.fresh("rollout_kills"), tmp_path, boards(8), GOOD, 0.6)


def _check_a_life(url: str, folder: Path, some: list[Board], kind: str, share: float) -> None:
    def begin(store: Store, now_ms: int) -> None:
        orders.start(store, NEW_RELEASE, replace(QUICK, waves=("4", "100%")), "ann", now_ms=now_ms)

    rows, killed = a_life(url, folder, some, begin, random.Random(5), share)
    assert killed >= (3 if kind == GOOD else 1)
    with Store(url) as store:
        ended = orders.find(store, 1)
    assert ended.ended_ms is not None
    for board in rows.boards.values():
        assert board.told in ([], [NEW], [NEW, OLD])
    on_new = [board for board in rows.boards.values() if board.release == NEW_RELEASE]
    assert (ended.state, len(on_new)) == ((DONE, 8) if kind == GOOD else (STOPPED, 0))


@pytest.mark.parametrize("stage", ["tell", "take back"])
def test_killed_at_each_part_of_one_step_the_next_engine_ends_as_if_nothing_had_happened(
    tmp_path: Path, stage: str
) -> None:
    base = tmp_path / "base.db"
    with Store(sqlite_url(base)) as store:
        rows = RowBoards(store, boards(4), BEGAN_S)
        orders.start(store, NEW_RELEASE, Plan(waves=("3", "100%"), readings=2), "ann", now_ms=int(rows.now_s * 1000))
        if stage == "take back":
            engine = Engine(store, rows.hear, now=lambda: rows.now_s)
            engine.step()
            engine.release()
            rows.live()
            orders.abort(store, 1, "ann")
        wishes = {key: list(board.told) for key, board in rows.boards.items()}
    rows.now_s += 60
    lines = lines_of_step(_copied(base, tmp_path / "count.db"), Retained(tmp_path / "count"), rows.now_s)
    assert lines > 50
    killed = 0
    for at_line in range(0, lines + 8, max(1, lines // 40)):
        url = _copied(base, tmp_path / f"{at_line}.db")
        retained = Retained(tmp_path / f"retained-{at_line}")
        killed += step_and_die(url, retained, rows.now_s, at_line)
        with Store(url) as store:
            engine = Engine(store, retained.say, now=lambda: rows.now_s + 60)
            engine.step()
            engine.step()
            told = {BoardKey(SITE, line.split(b" ")[0].decode()): _wish(line) for line in _lines(retained)}
            heard = [*wishes.items()] and {key: [*wishes[key], *words] for key, words in _sequences(retained).items()}
            assert all(_collapsed(words) in ([NEW], [NEW, OLD]) for words in heard.values()), at_line
            with store.reading() as connection:
                members = records.read_members(connection, 1)
        expected = {m.board: m.wish for m in members if m.touched}
        assert len(expected) == 3
        assert told == expected, at_line
    assert killed > 20


def _copied(base: Path, path: Path) -> str:
    shutil.copy(base, path)
    return sqlite_url(path)


def _lines(retained: Retained) -> list[bytes]:
    return retained.path.read_bytes().splitlines()


def _wish(line: bytes) -> str:
    return NEW if Desired.from_bytes(line.partition(b" ")[2]).bundle == NEW_RELEASE else OLD


def _sequences(retained: Retained) -> dict[BoardKey, list[str]]:
    found: dict[BoardKey, list[str]] = {}
    for line in _lines(retained):
        found.setdefault(BoardKey(SITE, line.split(b" ")[0].decode()), []).append(_wish(line))
    return found


def _collapsed(words: list[str]) -> list[str]:
    return [word for place, word in enumerate(words) if place == 0 or words[place - 1] != word]


def test_a_lost_lease_has_a_name() -> None:
    assert "moved on meanwhile" in str(LeaseLostError(3))
