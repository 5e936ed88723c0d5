"""The camera's state, decided from numbers; and the numbers, measured on real frames."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekit_device.camera_health import HOLD_S, CameraHealth, Look, decoder_fill
from edgekit_device.camera_state import CameraState
from edgekit_device.lookout import Lookout
from edgekit_device.sources.frame import Frame

PACE_S = 1 / 30
GREY = (128, 128, 128)


class Film:
    """A camera on a clock of its own."""

    def __init__(self) -> None:
        self.health = CameraHealth(PACE_S)
        self.now_s = 1000.0
        self.health.opened(self.now_s, PACE_S)
        self.said: list[tuple[float, str]] = []

    def play(self, seconds: float, pace_s: float = PACE_S, **look: Any) -> list[str | None]:
        words = []
        until = self.now_s + seconds
        while self.now_s < until:
            self.now_s += pace_s
            late_s = look.get("late_s", 0.0)
            given = {"shape": (480, 640, 3), "new": True, **{k: v for k, v in look.items() if k != "late_s"}}
            word, change = self.health.add(Look(self.now_s, self.now_s - late_s, **given))
            words.append(word)
            if change:
                self.said.append((self.now_s, change.word))
        return words

    @property
    def words(self) -> list[str]:
        return [word for _, word in self.said]


BROKEN = {
    "camera_frozen": {"new": False},
    "camera_black": {"mean": 0.5, "deviation": 0.7},
    "camera_torn": {"band_share": 0.5, "band": GREY},
    "camera_resized": {"shape": (240, 320, 3)},
    "camera_empty": {"shape": (0, 640, 3)},
    "camera_time_back": {"late_s": 3600.0},
    "camera_slow": {"pace_s": 4.0},
}


@pytest.mark.parametrize("word", BROKEN)
def test_each_fault_is_named_in_time_and_recovers_in_time(word: str) -> None:
    film = Film()
    film.play(5)
    began = film.now_s
    film.play(12, **BROKEN[word])
    ended = film.now_s
    film.play(5)
    assert film.words == ["ok", word, "ok"]
    assert film.said[1][0] - began <= max(10.0, HOLD_S[word])
    assert film.said[2][0] - ended <= 5.0


@pytest.mark.parametrize("word", sorted(set(BROKEN) - {"camera_slow"}))
def test_a_short_moment_is_no_trouble(word: str) -> None:
    film = Film()
    film.play(5)
    film.play(HOLD_S[word] * 0.8, **BROKEN[word])
    film.play(5)
    assert film.words == ["ok"]


def test_a_camera_that_gives_each_picture_twice_is_well_from_the_start() -> None:
    film = Film()
    for _ in range(300):
        film.play(PACE_S / 2)
        film.play(PACE_S / 2, new=False)
    assert film.words == ["ok"]


def test_silence_is_named_before_the_watchdog_ends_the_worker() -> None:
    film = Film()
    film.play(3)
    said = [film.health.silence(film.now_s + tenth / 10) for tenth in range(60)]
    first = next(i for i, state in enumerate(said) if state)
    assert 30 <= first <= 40
    assert [state.word for state in said if state] == ["camera_slow"]


def test_a_slow_camera_by_choice_is_well() -> None:
    film = Film()
    film.health.opened(film.now_s, 10.0)
    film.play(200, pace_s=10.0)
    assert film.words == ["ok"]
    assert film.health.silence(film.now_s + 12.0) is None


def test_a_letter_box_is_no_tear_and_a_black_lower_half_that_appears_is() -> None:
    film = Film()
    bar = {"band_share": 0.2, "band": (0, 0, 0)}
    film.play(5, **bar)
    assert film.words == ["ok"]
    film.play(3, band_share=0.6, band=(0, 0, 0))
    assert film.words == ["ok", "camera_torn"]


def test_a_plain_desk_below_is_no_tear() -> None:
    film = Film()
    film.play(10, band_share=0.5, band=(200, 180, 160))
    assert film.words == ["ok"]
    assert decoder_fill((0, 135, 0)) == "green"
    assert decoder_fill((255, 255, 255)) is None


def test_a_new_size_is_accepted_in_the_end() -> None:
    film = Film()
    film.play(3)
    film.play(70, shape=(240, 320, 3))
    assert film.words == ["ok", "camera_resized", "ok"]


def test_a_frozen_camera_is_opened_again_less_and_less_often() -> None:
    film = Film()
    film.play(3)
    tries = []
    for _ in range(3000):
        film.play(PACE_S * 3, new=False)
        if film.health.wants_reopening(film.now_s):
            tries.append(film.now_s)
            film.health.opened(film.now_s, PACE_S)
    gaps = np.diff(tries)
    assert len(tries) >= 3
    assert gaps[0] == pytest.approx(30, abs=3)
    assert gaps[1] == pytest.approx(60, abs=3)


def test_a_camera_that_never_came_is_missing_and_one_that_went_is_lost() -> None:
    fresh = CameraHealth(PACE_S)
    said = fresh.gone("no such camera", 1.0)
    assert said is not None
    assert said.word == "camera_missing"
    assert fresh.gone("no such camera", 2.0) is None
    film = Film()
    film.play(3)
    said = film.health.gone("unplugged", film.now_s)
    assert said is not None
    assert said.word == "camera_lost"


# -- the numbers ---------------------------------------------------------------------------------------------


def frame(raw: np.ndarray, order: str = "BGR") -> Frame:
    return Frame(raw, order, 0.0, 0)


def noise(seed: int, low: int = 0, high: int = 256, shape: tuple[int, ...] = (480, 640, 3)) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, shape).astype(np.uint8)


def test_one_pixel_between_the_sampled_rows_makes_a_picture_that_is_not_new() -> None:
    """The samples are equal; nothing but the whole comparison can tell, and it must not cry frozen."""
    lookout, still = Lookout(), noise(0)
    assert lookout.look(frame(still), 0.0).new
    assert not lookout.look(frame(still.copy()), 0.1).new
    moved = still.copy()
    moved[7, 3] ^= 1
    assert lookout.look(frame(moved), 0.2).new


def test_a_covered_lens_is_black_in_spite_of_its_noise_and_a_night_is_not() -> None:
    lookout = Lookout()
    covered = lookout.look(frame(noise(1, 0, 5)), 0.0)
    night = lookout.look(frame(noise(2, 0, 40)), 0.1)
    film = Film()
    film.play(1)
    assert film.health.judge(covered._replace(at_s=film.now_s, captured_s=film.now_s)) == "camera_black"
    assert film.health.judge(night._replace(at_s=film.now_s, captured_s=film.now_s)) is None


def test_a_cut_picture_has_a_band_below() -> None:
    torn = noise(3)
    torn[240:] = 128
    look = Lookout().look(frame(torn), 0.0)
    assert look.band_share == pytest.approx(0.5, abs=0.05)
    assert look.band == GREY


@pytest.mark.parametrize("shape", [(0, 640, 3), (0, 0, 3), (480, 0, 3), (480, 640)])
def test_frames_without_a_picture_are_measured_without_a_crash(shape: tuple[int, ...]) -> None:
    look = Lookout().look(frame(np.zeros(shape, np.uint8)), 0.0)
    assert CameraHealth(PACE_S).judge(look) == "camera_empty"


# -- what the supervisor makes of it -------------------------------------------------------------------------


def test_a_trouble_is_one_event_and_its_end_another() -> None:
    camera = CameraState()
    assert camera.hear({"state": "opened", "device_id": "usb-cam", "place": "/dev/video0"}, 0.0) is None
    assert camera.hear({"state": "ok"}, 1.0) is None
    said = camera.hear({"state": "camera_frozen", "reason": "still"}, 10.0)
    assert said == ("camera_frozen", "still", {"place": "/dev/video0"})
    assert camera.trouble == "camera_frozen: still"
    assert camera.hear({"state": "camera_frozen", "reason": "still"}, 11.0) is None
    assert camera.hear({"state": "opened", "place": "/dev/video1"}, 12.0) is None
    assert camera.device_id == "usb-cam"
    said = camera.hear({"state": "ok"}, 13.0)
    assert said is not None
    assert said.kind == "camera_recovered"
    assert said.detail == {"was": "camera_frozen", "seconds": 3.0, "place": "/dev/video1"}
    assert camera.trouble is None


def test_a_new_worker_that_has_seen_nothing_does_not_rename_a_stall() -> None:
    camera = CameraState()
    camera.hear({"state": "camera_stalled", "reason": "a read"}, 0.0)
    assert camera.hear({"state": "camera_slow", "reason": "no frame", "frames": 0}, 3.0) is None
    assert camera.hear({"state": "camera_slow", "reason": "no frame", "frames": 2}, 9.0) is not None
