"""Which sequence numbers are stored, as ranges: pure functions on the pairs that acks carry."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from edgekit_device.contract.ack import Range, Ranges, merge_ranges
from edgekit_device.contract.telemetry import MAX_SEQUENCE


class RangeChange(NamedTuple):
    """What has to happen to stored rows so that they cover more.

    Attributes:
        remove: Rows that grow into others, as they stand.
        add: Rows that take their place.
    """

    remove: Ranges
    add: Ranges


def ranges_of(sequence: Iterable[int]) -> Ranges:
    """The fewest ranges that hold exactly these numbers."""
    return merge_ranges((number, number) for number in sequence)


def holds(ranges: Sequence[Range], number: int) -> bool:
    """Whether sorted, disjoint ranges hold a number."""
    at = bisect_right(ranges, (number, MAX_SEQUENCE)) - 1
    return at >= 0 and ranges[at][0] <= number <= ranges[at][1]


def change_for(stored: Iterable[Range], arrived: Iterable[int], spans: Iterable[Range] = ()) -> RangeChange:
    """The smallest change to stored ranges after more messages arrived.

    Args:
        stored: Disjoint ranges that do not touch; at least all that touch what arrived.
        arrived: Sequence numbers, in any order, stored before or not.
        spans: Whole ranges that arrived; those that end before they begin are left out.
    """
    before = set(stored)
    more = ((low, high) for low, high in spans if low <= high)
    after = set(merge_ranges((*before, *ranges_of(arrived), *more)))
    return RangeChange(tuple(sorted(before - after)), tuple(sorted(after - before)))


def grown(stored: Sequence[Range], fresh: Sequence[int]) -> RangeChange:
    """What `change_for` gives for new numbers; quick where they follow on the last stored one, as nearly always.

    Args:
        stored: As in `change_for`, sorted.
        fresh: At least one number, none of them stored, each once.
    """
    low, high = min(fresh), max(fresh)
    if len(stored) == 1 and stored[0][1] == low - 1 and high - low == len(fresh) - 1:
        return RangeChange((stored[0],), ((stored[0][0], high),))
    return change_for(stored, fresh)


def gaps(ranges: Iterable[Range], start: int = 0) -> Ranges:
    """What is missing between `start` and the last stored number."""
    missing = []
    at = start
    for low, high in merge_ranges(ranges):
        if low > at:
            missing.append((at, low - 1))
        at = max(at, high + 1)
    return tuple(missing)
