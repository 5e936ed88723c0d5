"""What the host has stored, as ranges of sequence numbers per boot; retained, and merged by union."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from edgekit_device.contract.documents import SCHEMA, Fields, dump, load
from edgekit_device.contract.errors import FieldError
from edgekit_device.contract.telemetry import MAX_SEQUENCE

Range: TypeAlias = tuple[int, int]
Ranges: TypeAlias = tuple[Range, ...]

MAX_BOOTS = 256
MAX_RANGES = 10_000
_BOOT = re.compile(r"[0-9a-f]{32}", re.ASCII)


def merge_ranges(ranges: Iterable[Range]) -> Ranges:
    """The union of closed ranges: sorted, disjoint, and never two that touch.

    Args:
        ranges: Pairs (from, to) with from <= to, in any order.
    """
    merged: list[Range] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    return tuple(merged)


def subtract_ranges(ranges: Iterable[Range], taken: Iterable[Range]) -> Ranges:
    """What is in `ranges` and not in `taken`.

    Args:
        ranges: Merged ranges.
        taken: Merged ranges.
    """
    left: list[Range] = []
    holes = list(taken)
    at = 0
    for low, high in ranges:
        # Both lists are sorted, so a hole that lies before this range lies before every later one.
        while at < len(holes) and holes[at][1] < low:
            at += 1
        for hole_low, hole_high in holes[at:]:
            if hole_low > high or low > high:
                break
            if hole_low > low:
                left.append((low, hole_low - 1))
            low = max(low, hole_high + 1)
        if low <= high:
            left.append((low, high))
    return tuple(left)


def count_of(ranges: Iterable[Range]) -> int:
    """How many numbers disjoint ranges hold."""
    return sum(high - low + 1 for low, high in ranges)


@dataclass(frozen=True)
class Ack:
    """Which messages of one board are in committed rows.

    Attributes:
        stored: Merged ranges per boot.
        extra: Fields of a newer minor version, kept as they are.
    """

    stored: Mapping[str, Ranges]
    extra: Mapping[str, Any] = field(default_factory=dict)

    def covers(self, boot: str, seq: int) -> bool:
        """Whether one message is stored."""
        ranges = self.stored.get(boot, ())
        at = bisect_right(ranges, (seq, MAX_SEQUENCE)) - 1
        return at >= 0 and ranges[at][0] <= seq <= ranges[at][1]

    def union(self, other: Ack) -> Ack:
        """Both together: acks may come late, twice and from any number of collectors."""
        boots = {*self.stored, *other.stored}
        merged = {boot: merge_ranges((*self.stored.get(boot, ()), *other.stored.get(boot, ()))) for boot in boots}
        return Ack(merged, {**self.extra, **other.extra})

    def to_bytes(self) -> bytes:
        """The MQTT payload."""
        stored = {boot: [list(pair) for pair in ranges] for boot, ranges in self.stored.items()}
        return dump({**self.extra, "schema": SCHEMA, "stored": stored})

    @classmethod
    def from_bytes(cls, data: bytes) -> Ack:
        """Read a payload; ranges may come in any order and overlap.

        Raises:
            FieldError: A field is missing, mistyped or out of range.
            SchemaError: A schema this version does not read.
        """
        values = load("ack", data)
        listed = Fields("ack", values).mapping("stored")
        if len(listed) > MAX_BOOTS:
            raise FieldError("ack", "stored", f"names more than {MAX_BOOTS} boots")
        stored = {}
        for boot in listed:
            if not _BOOT.fullmatch(boot):
                raise FieldError("ack", "stored", f"names {boot[:40]!r}, which is not 32 hex digits")
            pairs = Fields("ack.stored", listed).listing(boot, limit=MAX_RANGES)
            stored[boot] = merge_ranges(_range(boot, pair) for pair in pairs)
        return cls(stored, {key: value for key, value in values.items() if key not in ("schema", "stored")})


def _range(boot: str, pair: object) -> Range:
    if not isinstance(pair, list) or len(pair) != 2:
        raise FieldError("ack.stored", boot, "must hold pairs [from, to]")
    read = Fields(f"ack.stored.{boot}", {"from": pair[0], "to": pair[1]})
    low = read.integer("from", high=MAX_SEQUENCE)
    return low, read.integer("to", low=low, high=MAX_SEQUENCE)
