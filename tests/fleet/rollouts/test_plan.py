"""Waves, tolerances, gates and expressions say what they mean, or are refused with what to write."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.errors import EdgeKitError, UsageError
from edgekit.fleet.rollouts.errors import WhereError
from edgekit.fleet.rollouts.figures import Figures, complaints, distance, summarise
from edgekit.fleet.rollouts.plan import (
    Limits,
    Plan,
    check_plan,
    parse_limits,
    parse_waves,
    parse_window,
    too_many,
    wave_sizes,
)
from edgekit.fleet.rollouts.where import parse_where

PORCH = {"site": "berlin", "device": "porch", "kind": "pi5", "release": "lite0-1.0.0", "delegate": None}
OLD = Figures(20, 30.0, 14.0, 60.0, {"1": 600, "2": 400}, (0,) * 12 + (1000,) + (0,) * 3)


@pytest.mark.parametrize(
    ("boards", "sizes"),
    [(1, (1, 1, 1, 1)), (5, (1, 1, 2, 5)), (50, (1, 5, 25, 50)), (999, (1, 99, 499, 999)), (1000, (1, 100, 500, 1000))],
)
def test_waves_are_cumulative_rounded_down_and_at_least_one(boards: int, sizes: tuple[int, ...]) -> None:
    assert wave_sizes(parse_waves("1,10%,50%,100%"), boards) == sizes


def test_a_share_is_exact_where_floating_point_is_not() -> None:
    assert wave_sizes(("29%",), 100) == (29,)
    assert not too_many("29%", 29, 100)
    assert too_many("29%", 30, 100)


@given(
    st.lists(st.one_of(st.integers(1, 200).map(str), st.integers(1, 100).map("{}%".format)), min_size=1, max_size=8),
    st.integers(1, 500),
)
def test_no_wave_is_empty_smaller_than_the_one_before_or_larger_than_the_fleet(waves, boards: int) -> None:
    sizes = wave_sizes(waves, boards)
    assert all(1 <= size <= boards for size in sizes)
    assert list(sizes) == sorted(sizes)


@pytest.mark.parametrize(
    "wrong",
    [
        {"waves": ()}, {"waves": ("0",)}, {"waves": ("0%",)}, {"waves": ("101%",)}, {"waves": ("ten",)},
        {"max_failures": "-1"}, {"max_failures": "120%"}, {"min_reports": 0}, {"readings": 0},
        {"board_timeout_s": 0}, {"jitter_s": -1}, {"max_bytes_per_s": 10}, {"window": ("2:00", "04:00")},
        {"window": ("02:00", "02:00")},
    ],
    ids=str,
)  # fmt: skip
def test_a_plan_that_cannot_be_followed_is_refused_before_anything_begins(wrong) -> None:
    with pytest.raises(UsageError):
        check_plan(replace(Plan(), **wrong))


def test_a_plan_survives_its_row() -> None:
    limits = Limits(mix=None)
    plan = check_plan(Plan(("3", "100%"), "2", "kind=pi5", 2, 4, 60.0, ("22:00", "04:00"), 5000, 9.0, True, limits))
    assert Plan.from_json({**json.loads(json.dumps(plan.to_json())), "later": 1}) == plan
    assert parse_window("22:00-04:00") == plan.window


def test_gates_are_named_and_switched_off_by_name() -> None:
    assert parse_limits("fps=0.9,mix=off") == Limits(fps=0.9, mix=None)
    for wrong in ("speed=1", "fps", "fps=-1", "fps=x"):
        with pytest.raises(UsageError, match="--gates"):
            parse_limits(wrong)


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("", True), ("kind=pi5", True), ("kind=pi4", False), ("kind=pi5 and site=berlin", True),
        ("kind=pi5 and site=ham*", False), ("site=ham* or site=ber*", True), ("not kind=pi4", True),
        ("not (kind=pi5 and site=berlin)", False), ("kind!=pi4", True), ("kind=pi4 or kind=pi5 and site=oslo", False),
        ("delegate=xnnpack", False), ("delegate!=xnnpack", True), ("state=online", False),
        ("release=lite0-1.0.0 and(device=porch)", True),
    ],
)  # fmt: skip
def test_an_expression_chooses_boards(text: str, chosen: bool) -> None:
    assert parse_where(text)(PORCH) is chosen


@pytest.mark.parametrize(
    "text",
    ["kind", "kind=", "=pi5", "kind=pi5 and", "kind=pi5 site=x", "(kind=pi5", "kind=pi5)", "sight=berlin",
     "kind==pi5", "and", "(" * 30 + "kind=pi5" + ")" * 30, "kind=" + "x" * 2000],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(WhereError, match="write it like"):
        parse_where(text)


def test_a_field_that_is_nearly_right_is_named() -> None:
    with pytest.raises(WhereError, match="did you mean 'site'"):
        parse_where("sites=berlin")


@given(st.text(alphabet="kindsteor =!()*andortpi5", max_size=60))
def test_any_text_is_read_or_refused_by_name(text: str) -> None:
    try:
        parse_where(text)(PORCH)
    except EdgeKitError:
        pass


@pytest.mark.parametrize(
    ("new", "words"),
    [
        ({}, ""), ({"fps": 23.0}, "slower: 23.0 FPS are 0.77 of the 30.0"), ({"fps": 0.0}, "FPS 0"),
        ({"p95_ms": 22.0}, "slower: p95 22.0 ms is 1.57 times the 14.0 ms"), ({"p95_ms": 20.0}, ""),
        ({"mix": {"9": 1000}}, "100 % of the frames get another label"), ({"mix": {"9": 100}}, ""),
        ({"mix": {"1": 400, "2": 600}}, ""),
        ({"margins": (1000,) + (0,) * 15}, "the mean margin fell from 0.78 to 0.03"),
    ],
    ids=str,
)  # fmt: skip
def test_a_release_is_held_against_the_one_before_on_the_same_board(new, words: str) -> None:
    said = "; ".join(complaints(OLD, replace(OLD, **new), Limits()))
    assert words in said
    assert bool(words) == bool(said)


def test_a_gate_that_is_off_asks_nothing_and_a_board_without_a_past_is_held_against_nothing() -> None:
    worse = replace(OLD, fps=1.0, p95_ms=900.0, mix={"9": 1000}, margins=(1000,) + (0,) * 15)
    assert len(complaints(OLD, worse, Limits())) == 4
    assert complaints(OLD, worse, Limits(None, None, None, None)) == ()
    assert complaints(None, worse, Limits()) == ()


def test_half_a_millisecond_on_a_toy_is_no_slowness() -> None:
    toy = replace(OLD, p95_ms=0.1)
    assert complaints(toy, replace(toy, p95_ms=0.6), Limits()) == ()


def test_readings_are_summed_up() -> None:
    one = {"fps": 10.0, "latency_ms": {"end_to_end": {"p95": 5.0}}, "cpu_temp_c": 50.0, "class_counts": {"1": 3},
           "margin_hist": [0] * 15 + [3]}  # fmt: skip
    two = {"fps": 20.0, "latency_ms": {}, "class_counts": {"1": 1, "2": 4}}
    found = summarise([one, two])
    assert (found.readings, found.fps, found.p95_ms, found.temp_c, found.mix) == (2, 15.0, 5.0, 50.0, {"1": 4, "2": 4})
    assert found.margin == pytest.approx(31 / 32)
    assert Figures.from_bytes(found.to_bytes()) == found
    assert distance({"1": 1}, {}) == 0.0
