"""A board's measures over a range of time: raw Readings, minutes or hours, whichever is at most some hundred points."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table, bindparam, func, select

from edgekit.errors import UsageError
from edgekit.fleet.keys import chunks
from edgekit.fleet.rollups import DAY_MS, HOUR_MS, MINUTE_MS
from edgekit.fleet.tables import events, hours, minutes, readings

RANGES = {"15m": 15 * MINUTE_MS, "1h": HOUR_MS, "6h": 6 * HOUR_MS, "24h": DAY_MS, "7d": 7 * DAY_MS, "30d": 30 * DAY_MS}
LONGEST_MS = 400 * DAY_MS
_MOST_RAW = 2000
_POINTS = 720
# Minutes or hours a point: what people count in.
_WIDTHS = (1, 2, 3, 5, 6, 10, 12, 15, 20, 24, 30, 60)
# Temperature and the like stand in the payload only: on long ranges so many are looked at.
_SAMPLED = 120
EVENTS = 200


class Span(NamedTuple):
    """From and to, UTC, ms since 1970; `live` when it ends now and moves along."""

    from_ms: int
    to_ms: int
    live: bool
    name: str


def span_of(range_name: str | None, from_ms: int | None, to_ms: int | None, now_ms: int) -> Span:
    """What a URL asks for: ``range=6h``, or ``from`` and ``to``.

    Raises:
        UsageError: A range that is not known, or one that ends before it begins.
    """
    if from_ms is not None and to_ms is not None:
        if not 0 <= from_ms < to_ms or to_ms - from_ms > LONGEST_MS or to_ms > now_ms + LONGEST_MS:
            raise UsageError("the range must begin before it ends, and last 400 days at most")
        return Span(from_ms, to_ms, live=False, name="")
    name = range_name or "1h"
    if name not in RANGES:
        raise UsageError(f"a range is one of {', '.join(RANGES)}")
    return Span(now_ms - RANGES[name], now_ms, live=True, name=name)


@dataclass
class Series:
    """Columns of equal length, ready for a chart; None is a hole, which a chart must not bridge.

    Attributes:
        step_ms: Between two points; 0 for single Readings.
        at: Seconds since 1970.
    """

    step_ms: int
    at: list[float] = field(default_factory=list)
    fps: list[float | None] = field(default_factory=list)
    fps_min: list[float | None] = field(default_factory=list)
    fps_max: list[float | None] = field(default_factory=list)
    p50_ms: list[float | None] = field(default_factory=list)
    p95_ms: list[float | None] = field(default_factory=list)
    temp_at: list[float] = field(default_factory=list)
    temp_c: list[float | None] = field(default_factory=list)


def series(connection: Connection, board: int, span: Span) -> Series:
    """Measures of one board.

    Args:
        connection: A reading transaction.
        board: Row id.
        span: The range; at most some hundred points come back, however long it is.
    """
    length = span.to_ms - span.from_ms
    raw = _count(connection, board, span) if length <= DAY_MS else _MOST_RAW + 1
    if raw <= _MOST_RAW:
        found = _raw(connection, board, span)
    elif length <= 14 * DAY_MS:
        found = _rolled(connection, minutes, board, span, MINUTE_MS)
    else:
        found = _rolled(connection, hours, board, span, HOUR_MS)
    return found


def _where(board: int, span: Span) -> tuple[Any, ...]:
    return readings.c.board == board, readings.c.at >= span.from_ms, readings.c.at < span.to_ms


def _count(connection: Connection, board: int, span: Span) -> int:
    some = select(readings.c.at).where(*_where(board, span)).limit(_MOST_RAW + 1).subquery()
    return int(connection.execute(select(func.count()).select_from(some)).scalar_one())


def _raw(connection: Connection, board: int, span: Span) -> Series:
    columns = readings.c
    query = select(
        columns.at, columns.fps, columns.end_to_end_p50_ms, columns.end_to_end_p95_ms, columns.payload
    ).where(*_where(board, span))
    made = Series(0)
    previous, usual = None, 0.0
    for row in connection.execute(query.order_by(columns.at)):
        values = json.loads(zlib.decompress(row.payload))
        usual = max(values["window_s"] * 1000.0, 1000.0)
        if previous is not None and row.at - previous > 3 * usual:
            _hole(made, (previous + usual) / 1000)
        previous = row.at
        made.at.append(row.at / 1000)
        made.fps.append(row.fps)
        made.fps_min.append(row.fps)
        made.fps_max.append(row.fps)
        made.p50_ms.append(row.end_to_end_p50_ms)
        made.p95_ms.append(row.end_to_end_p95_ms)
        made.temp_at.append(row.at / 1000)
        made.temp_c.append(values.get("cpu_temp_c"))
    return made


def _hole(made: Series, at_s: float) -> None:
    made.at.append(at_s)
    for column in (made.fps, made.fps_min, made.fps_max, made.p50_ms, made.p95_ms):
        column.append(None)
    made.temp_at.append(at_s)
    made.temp_c.append(None)


def _rolled(connection: Connection, table: Table, board: int, span: Span, unit_ms: int) -> Series:
    least = (span.to_ms - span.from_ms) / unit_ms / _POINTS
    wide = next((nice for nice in _WIDTHS if nice >= least), math.ceil(least))
    c = table.c
    # Whole-number division differs between databases for sums of a bucket; a parameter keeps it integral in both.
    bucket = (c.bucket - c.bucket % wide).label("slot")
    query = (
        select(
            bucket,
            func.sum(c.readings), func.sum(c.fps_milli_sum), func.min(c.fps_milli_min), func.max(c.fps_milli_max),
            func.sum(c.timed), func.sum(c.p50_us_sum), func.max(c.p95_us_max),
        )
        .where(c.board == board, c.bucket >= span.from_ms // unit_ms, c.bucket < -(-span.to_ms // unit_ms))
        .group_by(bucket)
        .order_by(bucket)
    )  # fmt: skip
    made = Series(wide * unit_ms)
    previous = None
    for slot, count, total, least, most, timed, p50, p95 in connection.execute(query):
        if previous is not None and slot - previous > wide:
            _hole_rolled(made, (previous + wide) * unit_ms / 1000)
        previous = slot
        made.at.append(int(slot) * unit_ms / 1000)
        made.fps.append(int(total) / int(count) / 1000)
        made.fps_min.append(int(least) / 1000)
        made.fps_max.append(int(most) / 1000)
        made.p50_ms.append(int(p50) / int(timed) / 1000 if timed else None)
        made.p95_ms.append(int(p95) / 1000 if timed else None)
    _sample_temperature(connection, board, span, made)
    return made


def _hole_rolled(made: Series, at_s: float) -> None:
    made.at.append(at_s)
    for column in (made.fps, made.fps_min, made.fps_max, made.p50_ms, made.p95_ms):
        column.append(None)


def _sample_temperature(connection: Connection, board: int, span: Span, made: Series) -> None:
    """The first Reading of each of some hundred slices, found by the index: what lies between is never touched."""
    step = max(1, (span.to_ms - span.from_ms) // _SAMPLED)
    columns = readings.c
    first = (
        select(columns.at, columns.payload)
        .where(columns.board == board, columns.at >= bindparam("low"), columns.at < bindparam("high"))
        .order_by(columns.at)
        .limit(1)
    )
    low, previous = span.from_ms, None
    while low < span.to_ms:
        row = connection.execute(first, {"low": low, "high": span.to_ms}).first()
        if row is None:
            break
        if previous is not None and row.at - previous > 3 * step:
            made.temp_at.append((previous + step) / 1000)
            made.temp_c.append(None)
        previous = row.at
        made.temp_at.append(row.at / 1000)
        made.temp_c.append(json.loads(zlib.decompress(row.payload)).get("cpu_temp_c"))
        # Where nothing was sent for long, the next slice begins where something was.
        low = max(low + step, span.from_ms + ((row.at - span.from_ms) // step + 1) * step)


class Happened(NamedTuple):
    """One event of a board. Kind and reason come from it."""

    at_ms: int
    kind: str
    reason: str | None


def happened(connection: Connection, board: int, span: Span, limit: int = EVENTS) -> list[Happened]:
    """Events in a range, newest first."""
    columns = events.c
    query = select(columns.at, columns.kind, columns.reason).where(
        columns.board == board,
        columns.day >= span.from_ms // DAY_MS,
        columns.day <= span.to_ms // DAY_MS,
        columns.at >= span.from_ms,
        columns.at < span.to_ms,
    )
    return [Happened(*row) for row in connection.execute(query.order_by(columns.at.desc()).limit(limit))]


class Sparks(NamedTuple):
    """A board's last half hour, minute by minute; None where nothing came."""

    fps: Sequence[float | None]
    p50_ms: Sequence[float | None]


SPARK_MINUTES = 30


def sparks(connection: Connection, numbers: Iterable[int], now_ms: int) -> Mapping[int, Sparks]:
    """The last half hour of some boards, by row id; asked for the page that is shown, not for the fleet."""
    last = now_ms // MINUTE_MS
    first = last - SPARK_MINUTES + 1
    c = minutes.c
    found: dict[int, Sparks] = {}
    for some in chunks(sorted(numbers)):
        query = select(c.board, c.bucket, c.readings, c.fps_milli_sum, c.timed, c.p50_us_sum)
        for row in connection.execute(query.where(c.board.in_(some), c.bucket >= first, c.bucket <= last)):
            empty: list[float | None] = [None] * SPARK_MINUTES
            spark = found.setdefault(row.board, Sparks(list(empty), list(empty)))
            place = row.bucket - first
            spark.fps[place] = row.fps_milli_sum / row.readings / 1000  # type: ignore[index]
            if row.timed:
                spark.p50_ms[place] = row.p50_us_sum / row.timed / 1000  # type: ignore[index]
    return found
