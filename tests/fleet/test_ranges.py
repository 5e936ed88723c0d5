"""Ranges: whatever arrives in whatever order, exactly that is stored."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from edgekit.fleet.ranges import change_for, gaps, grown, holds, ranges_of
from edgekit_device.contract.ack import Ack, merge_ranges

numbers = st.sets(st.integers(0, 60), max_size=40)


def members(ranges: object) -> set[int]:
    return {n for low, high in ranges for n in range(low, high + 1)}  # type: ignore[attr-defined]


@given(numbers)
def test_ranges_hold_exactly_the_numbers_and_are_the_fewest(sequence: set[int]) -> None:
    ranges = ranges_of(sequence)
    assert members(ranges) == sequence
    assert all(low <= high for low, high in ranges)
    assert all(high + 1 < low for (_, high), (low, _) in pairwise(ranges))


@given(numbers, numbers)
def test_a_change_leads_to_the_union(stored: set[int], arrived: set[int]) -> None:
    before = ranges_of(stored)
    change = change_for(before, arrived)
    after = sorted((set(before) - set(change.remove)) | set(change.add))
    assert tuple(after) == ranges_of(stored | arrived)
    assert set(change.remove) <= set(before)
    if arrived <= stored:
        assert change == ((), ())


@given(numbers, numbers)
def test_acks_in_any_order_mean_the_same(one: set[int], other: set[int]) -> None:
    a, b = Ack({"0" * 32: ranges_of(one)}), Ack({"0" * 32: ranges_of(other)})
    assert a.union(b).stored == b.union(a).stored == b.union(a).union(a).stored
    assert {n for n in range(70) if a.union(b).covers("0" * 32, n)} == one | other


@given(numbers)
def test_gaps_and_ranges_tile_the_sequence(sequence: set[int]) -> None:
    ranges = ranges_of(sequence)
    missing = members(gaps(ranges))
    assert missing == set(range(max(sequence, default=-1) + 1)) - sequence
    assert merge_ranges((*ranges, *gaps(ranges))) == (((0, max(sequence)),) if sequence else ())


@given(st.sets(st.integers(0, 30)), st.sets(st.integers(0, 40), min_size=1), st.booleans())
def test_the_quick_way_to_grow_is_the_general_one(before: set[int], arrived: set[int], follows: bool) -> None:
    stored = ranges_of(range(max(before, default=0) + 1)) if follows else ranges_of(before)
    fresh = sorted(number for number in arrived if not holds(stored, number))
    if fresh:
        assert grown(stored, fresh) == change_for(stored, fresh)
