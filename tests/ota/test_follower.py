"""What a board makes of a wish: when it fetches, when it waits, and that it never runs in circles."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from edgekit_device.contract.desired import Desired
from edgekit_device.ota.depot import ROOT_JSON
from edgekit_device.ota.follower import COMMITTED, REJECTED, Follower, Standing, closed_until

NAME = "toy-1.1.0"


class Slots:
    """What the slots would say."""

    kind = "bundle"

    def __init__(self) -> None:
        self.now = Standing()

    def wanted(self, desired: Desired) -> str | None:
        return desired.bundle

    def standing(self, name: str) -> Standing:
        return self.now


class Child:
    """An errand that says what it is told to say."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.order, self.said, self.ended = order, [], False

    def heard(self) -> list[dict[str, Any]]:
        said, self.said = self.said, []
        return said

    def end(self) -> None:
        self.ended = True


class Stage:
    """A follower with time in hand."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / ROOT_JSON).parent.mkdir(parents=True, exist_ok=True)
        (root / ROOT_JSON).write_text("{}")
        self.slots, self.children, self.events, self.now_s = Slots(), [], [], 100.0
        self.begin()

    def begin(self) -> None:
        """As after a restart."""
        self.follower = Follower(
            self.slots, self.root, "http://host/updates/", lambda *said: self.events.append(said), self._start
        )

    def _start(self, order: dict[str, Any]) -> Child:
        self.children.append(Child(order))
        return self.children[-1]

    def desire(self, **wish: Any) -> None:
        self.follower.hear(Desired(**wish), self.now_s)
        self.go(0)

    def go(self, seconds: float) -> str | None:
        self.now_s += seconds
        self.follower.tick(self.now_s)
        self.follower.tick(self.now_s)
        return self.follower.update.state if self.follower.update else None

    def says(self, **words: Any) -> str | None:
        if words.get("end") == "entered":
            self.slots.now = Standing(current=True, held=True)
        self.children[-1].said.append(words)
        return self.go(0.1)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_nothing_is_done_while_nothing_is_desired(stage: Stage) -> None:
    stage.desire(interval_s=5.0)
    assert stage.go(10) is None
    assert not stage.children


def test_a_hundred_wishes_in_one_second_start_one_errand_at_a_time(stage: Stage) -> None:
    """A flood of `desired`: only the newest counts."""
    for number in range(100):
        stage.desire(bundle=f"toy-1.{number}.0")
        assert sum(not child.ended for child in stage.children) <= 1
    stage.go(5)
    assert [child.order["name"] for child in stage.children if not child.ended] == ["toy-1.99.0"]


def test_the_same_wish_again_starts_nothing_again(stage: Stage) -> None:
    for _ in range(10):
        stage.desire(bundle=NAME)
    assert len(stage.children) == 1


def test_a_wish_is_carried_out_once_over_restarts(stage: Stage) -> None:
    stage.desire(bundle=NAME)
    assert stage.says(end="entered") == "trying"
    stage.slots.now = Standing(REJECTED, "p95: slower", held=True)
    assert stage.go(2) == "rolled_back"
    for _ in range(3):
        stage.begin()
        stage.desire(bundle=NAME)
        assert stage.go(5000) == "rolled_back"
    assert len(stage.children) == 1
    stage.desire(bundle=NAME, force="x")
    assert len(stage.children) == 2
    assert stage.children[-1].order["force"]
    # The same word again is no new one.
    stage.says(end="entered")
    stage.slots.now = Standing(REJECTED, "p95: slower", held=True)
    assert stage.go(2) == "rolled_back"
    stage.begin()
    stage.desire(bundle=NAME, force="x")
    stage.go(5000)
    assert len(stage.children) == 2


def test_a_release_that_was_rejected_before_the_wish_is_not_fetched(stage: Stage) -> None:
    stage.slots.now = Standing(REJECTED, "p95: slower")
    stage.desire(bundle=NAME)
    assert stage.go(2) == "rolled_back"
    assert not stage.children


def test_a_hand_that_goes_back_afterwards_is_left_alone(stage: Stage) -> None:
    stage.desire(bundle=NAME)
    stage.says(end="entered")
    stage.slots.now = Standing(COMMITTED, current=True, serving=True, held=True)
    assert stage.go(2) == "committed"
    stage.slots.now = Standing(COMMITTED, held=True)
    assert stage.go(5000) == "committed"
    assert len(stage.children) == 1


def test_a_release_that_the_board_holds_is_entered_without_the_repository(stage: Stage) -> None:
    (stage.root / ROOT_JSON).unlink()
    stage.slots.now = Standing(COMMITTED, held=True)
    stage.desire(bundle=NAME)
    assert stage.children[-1].order["held"]


def test_trouble_that_passes_is_tried_again_later_and_later(stage: Stage) -> None:
    stage.desire(bundle=NAME)
    begun = []
    for _ in range(12):
        assert stage.says(end="refused", error="SlowRetrievalError", reason="r", passing=True) == "waiting"
        before = stage.now_s
        while stage.children[-1].ended:
            stage.go(1.0)
        begun.append(stage.now_s - before)
    assert 7 <= begun[0] <= 17
    assert max(begun) <= 3602
    assert sum(begun[-3:]) > 3 * 1700
    assert [kind for kind, _ in stage.events] == ["update_waiting"]


def test_a_refusal_that_somebody_may_be_behind_is_said_and_tried_again_much_later(stage: Stage) -> None:
    stage.desire(bundle=NAME)
    said = stage.says(end="refused", error="ForgedMetadataError", reason="r", passing=False, suspect=True)
    assert (said, stage.follower.update.error) == ("refused", "ForgedMetadataError")
    assert stage.go(140) == "refused"
    assert len(stage.children) == 1
    stage.go(200)
    assert len(stage.children) == 2


def test_the_jitter_spreads_beginnings_and_the_window_holds_them_back(stage: Stage, monkeypatch) -> None:
    from edgekit_device.ota import follower as module

    monkeypatch.setattr(module.random, "uniform", lambda low, high: high)
    stage.desire(bundle=NAME, jitter_s=60.0)
    assert stage.go(58) == "waiting"
    assert stage.go(3) == "fetching"
    at = datetime(2026, 12, 1, 3, 30, tzinfo=UTC).timestamp()
    monkeypatch.setattr(module.time, "time", lambda: at)
    stage.desire(bundle="toy-1.2.0", window=("04:00", "05:00"))
    assert stage.go(10) == "waiting"
    assert "04:00 UTC, it is 03:30" in stage.follower.update.reason
    monkeypatch.setattr(module.time, "time", lambda: at + 1860)
    assert stage.go(10) == "fetching"


@pytest.mark.parametrize(
    ("window", "time", "open_"),
    [
        (("02:00", "04:00"), "02:00", True),
        (("02:00", "04:00"), "04:00", False),
        (("22:00", "04:00"), "23:59", True),
        (("22:00", "04:00"), "03:59", True),
        (("22:00", "04:00"), "12:00", False),
    ],
)
def test_a_window_may_span_midnight(window: tuple[str, str], time: str, open_: bool) -> None:
    at = datetime.fromisoformat(f"2026-12-01T{time}:00+00:00").timestamp()
    assert (closed_until(window, at) is None) == open_


def test_a_window_waits_for_a_clock(stage: Stage) -> None:
    assert "clock is not set" in (closed_until(("02:00", "04:00"), 0.0) or "")


def test_a_memory_that_was_damaged_costs_one_more_look(stage: Stage) -> None:
    (stage.root / "var/lib/edgekit/updates").mkdir(parents=True)
    for garbage in (b"", b"[]", b'{"name": 3}', b"\xff" * 100, b'{"schema":1'):
        (stage.root / "var/lib/edgekit/updates/bundle.json").write_bytes(garbage)
        stage.begin()
        stage.desire(bundle=NAME)
        assert stage.go(1) == "fetching"
