"""What the host asks for changes how often a board speaks, and the board says what it follows."""

from __future__ import annotations

from edgekit_device.contract.desired import Desired, Watch
from edgekit_device.contract.reported import Reported
from edgekit_device.publish.wishes import Wishes

BOOT = "9f" * 16


def test_a_watched_board_speaks_every_two_seconds_for_a_minute_at_a_time() -> None:
    wishes = Wishes(30.0)
    assert wishes.interval_s(0.0) == 30.0
    wishes.hear(Watch(), 100.0)
    assert wishes.interval_s(100.0) == wishes.interval_s(159.9) == 2.0
    assert wishes.interval_s(160.0) == 30.0
    wishes.hear(Watch(), 150.0)
    wishes.hear(Watch(), 190.0)
    assert wishes.interval_s(249.0) == 2.0


def test_watching_never_makes_a_fast_board_slower() -> None:
    wishes = Wishes(1.0)
    wishes.hear(Watch(), 0.0)
    assert wishes.interval_s(1.0) == 1.0


def test_a_wish_holds_until_another_and_its_absence_gives_the_own_setting_back() -> None:
    wishes = Wishes(30.0)
    wishes.hear(Desired(interval_s=5.0), 0.0)
    assert wishes.interval_s(1e6) == wishes.reported(BOOT, None, None, None).interval_s == 5.0
    wishes.hear(Watch(interval_s=2.0), 0.0)
    assert wishes.reported(BOOT, None, None, None).interval_s == 5.0
    wishes.hear(Desired(), 0.0)
    assert wishes.interval_s(1e6) == 30.0


def test_what_is_not_followed_is_said_with_the_reason() -> None:
    wishes = Wishes(30.0)
    wishes.hear(Desired(bundle="lite0-2.0.0", region=(0, 0, 0.5, 0.5), thresholds={"threshold": 0.5}), 0.0)
    said = Reported.from_bytes(wishes.reported(BOOT, "lite0-1.0.0", "xnnpack", None).to_bytes())
    assert set(said.refused) == {"bundle", "region", "thresholds"}
    assert said.health == "serving"
    wishes.hear(Desired(bundle="lite0-1.0.0"), 0.0)
    assert not wishes.refused("lite0-1.0.0")


def test_what_a_later_host_asks_for_is_refused_by_name_too() -> None:
    wishes = Wishes(30.0)
    wishes.hear(Desired.from_bytes(b'{"schema":1,"interval_s":5.0,"colour":"red"}'), 0.0)
    said = wishes.reported(BOOT, None, "xnnpack", None)
    assert (said.interval_s, set(said.refused)) == (5.0, {"colour"})
    wishes.hear(Desired(extra={f"key{n:04d}": n for n in range(1000)}), 0.0)
    assert len(Reported.from_bytes(wishes.reported(BOOT, None, None, None).to_bytes()).refused) == 32


def test_health_says_whether_something_serves() -> None:
    wishes = Wishes(30.0)
    assert wishes.reported(BOOT, None, None, None).health == "starting"
    assert wishes.reported(BOOT, None, None, "worker_died: x").health == "trouble"
