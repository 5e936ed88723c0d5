"""Readings per minute and hour, as whole numbers: pure functions, the same whatever order messages arrive in.

A float sum depends on its order; thousandths as integers do not. So what the store keeps up to date message by
message equals, to the last digit, what `roll` makes of the raw rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
LATE_MS = 7 * DAY_MS
AHEAD_MS = DAY_MS
DELAYED_MS = 2 * MINUTE_MS
# No camera and no model comes near; a sum of a billion such values still fits 64 bits.
_MOST = 10**9


class Sample(NamedTuple):
    """The part of a Reading that is rolled up.

    Attributes:
        board: Row id.
        at_ms: When the board says the window ended, UTC, ms since 1970.
        fps: New frames per second.
        inference_fps: Inferences per second.
        p50_ms: Median latency end to end; None if unknown.
        p95_ms: 95th percentile of the same.
    """

    board: int
    at_ms: int
    fps: float
    inference_fps: float
    p50_ms: float | None
    p95_ms: float | None


class Bucket(NamedTuple):
    """One board in one minute, or one hour.

    Attributes:
        number: Minutes or hours since 1970.
    """

    board: int
    number: int


@dataclass(slots=True)
class Rollup:
    """What one bucket holds; names as in the tables.

    Attributes:
        readings: Readings in it.
        timed: Readings that know their latency; p50_us_sum is over these.
    """

    readings: int = 0
    fps_milli_sum: int = 0
    fps_milli_min: int = _MOST
    fps_milli_max: int = 0
    inference_milli_sum: int = 0
    timed: int = 0
    p50_us_sum: int = 0
    p95_us_max: int = 0

    def add(self, sample: Sample) -> None:
        """Count one Reading in."""
        fps = _thousandths(sample.fps)
        self.readings += 1
        self.fps_milli_sum += fps
        self.fps_milli_min = min(self.fps_milli_min, fps)
        self.fps_milli_max = max(self.fps_milli_max, fps)
        self.inference_milli_sum += _thousandths(sample.inference_fps)
        if sample.p50_ms is not None:
            self.timed += 1
            self.p50_us_sum += _thousandths(sample.p50_ms)
        if sample.p95_ms is not None:
            self.p95_us_max = max(self.p95_us_max, _thousandths(sample.p95_ms))

    def merge(self, other: Rollup) -> None:
        """Count a whole bucket in."""
        self.readings += other.readings
        self.fps_milli_sum += other.fps_milli_sum
        self.fps_milli_min = min(self.fps_milli_min, other.fps_milli_min)
        self.fps_milli_max = max(self.fps_milli_max, other.fps_milli_max)
        self.inference_milli_sum += other.inference_milli_sum
        self.timed += other.timed
        self.p50_us_sum += other.p50_us_sum
        self.p95_us_max = max(self.p95_us_max, other.p95_us_max)

    def values(self, bucket: Bucket) -> tuple[int, ...]:
        """Its row, in the order of ROW_COLUMNS."""
        return (
            bucket.board, bucket.number, self.readings, self.fps_milli_sum, self.fps_milli_min, self.fps_milli_max,
            self.inference_milli_sum, self.timed, self.p50_us_sum, self.p95_us_max,
        )  # fmt: skip

    def row(self, bucket: Bucket) -> dict[str, int]:
        """The columns of its row by name."""
        return dict(zip(ROW_COLUMNS, self.values(bucket), strict=True))


ROW_COLUMNS = ("board", "bucket", *Rollup.__slots__)


def regroup(rollups: Mapping[Bucket, Rollup], of: int) -> dict[Bucket, Rollup]:
    """The same in buckets that are so many times as long: whole numbers add up to what `roll` would give."""
    found: dict[Bucket, Rollup] = {}
    for bucket, rollup in rollups.items():
        longer = Bucket(bucket.board, bucket.number // of)
        whole = found.get(longer)
        if whole is None:
            whole = found[longer] = Rollup()
        whole.merge(rollup)
    return found


def roll(samples: Iterable[Sample], span_ms: int) -> dict[Bucket, Rollup]:
    """Group Readings into buckets.

    Args:
        samples: In any order; none that `is_late` or `is_ahead`.
        span_ms: MINUTE_MS or HOUR_MS.
    """
    found: dict[Bucket, Rollup] = {}
    for sample in samples:
        bucket = Bucket(sample.board, sample.at_ms // span_ms)
        rollup = found.get(bucket)
        if rollup is None:
            rollup = found[bucket] = Rollup()
        rollup.add(sample)
    return found


def is_late(at_ms: int, received_ms: int) -> bool:
    """Whether a message came too late for the roll-ups: more than seven days."""
    return received_ms - at_ms > LATE_MS


def is_ahead(at_ms: int, received_ms: int) -> bool:
    """Whether a message claims to be made more than a day in the future: a clock that is wrong."""
    return at_ms - received_ms > AHEAD_MS


def is_delayed(at_ms: int, received_ms: int) -> bool:
    """Whether a message is backlog rather than news."""
    return received_ms - at_ms > DELAYED_MS


def _thousandths(value: float) -> int:
    return min(round(value * 1000), _MOST) if value < _MOST else _MOST
