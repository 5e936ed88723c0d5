"""Readings out of a store, row by row, as CSV or Parquet."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, select

from edgekit.errors import MissingPackageError, UsageError
from edgekit.fleet.batch import LATENCY_COLUMNS
from edgekit.fleet.tables import boards, boots, readings

if TYPE_CHECKING:
    from edgekit.fleet.store import Store

TEXTS = ("site", "device", "boot", "label", "delegate", "bundle")
WHOLE = ("seq",)
TIMES = ("at", "received")
NUMBERS = ("fps", "capture_fps", "inference_fps", *LATENCY_COLUMNS, "score")
COLUMNS = ("site", "device", "boot", "seq", "at", "received", *NUMBERS[:-1], "label", "score", "delegate", "bundle")
_AT_ONCE = 5000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def export(
    store: Store,
    path: Path,
    kind: str = "csv",
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    site: str | None = None,
    device: str | None = None,
) -> int:
    """Write Readings to a file, in the order of board and time; memory does not grow with the table.

    Args:
        store: Where from.
        path: The file; it appears whole or not at all.
        kind: ``csv`` or ``parquet``.
        since: Leave out what was made earlier.
        until: Leave out what was made at that time or later.
        site: Only this site.
        device: Only boards of this id.

    Returns:
        Rows written.

    Raises:
        UsageError: Another kind.
        MissingPackageError: Parquet without pyarrow.
        StoreUnavailableError: The database does not answer.
    """
    if kind not in _WRITERS:
        raise UsageError(f"--format {kind}: it is one of {', '.join(_WRITERS)}")
    query = _query(since, until, site, device)
    draft = path.with_name(f".{path.name}.part")
    try:
        with store.reading() as connection:
            rows = connection.execution_options(yield_per=_AT_ONCE).execute(query)
            count = _WRITERS[kind](draft, ([list(row) for row in part] for part in rows.partitions()))
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return count


def _query(since: datetime | None, until: datetime | None, site: str | None, device: str | None) -> Select[Any]:
    named: dict[str, Any] = {"site": boards.c.site, "device": boards.c.device, "boot": boots.c.boot}
    query = (
        select(*(named[name] if name in named else readings.c[name] for name in COLUMNS))
        .join_from(readings, boards, boards.c.id == readings.c.board)
        .join(boots, boots.c.id == readings.c.boot)
        .order_by(readings.c.board, readings.c.at)
    )
    if since is not None:
        query = query.where(readings.c.at >= (since - _EPOCH) // timedelta(milliseconds=1))
    if until is not None:
        query = query.where(readings.c.at < (until - _EPOCH) // timedelta(milliseconds=1))
    if site is not None:
        query = query.where(boards.c.site == site)
    if device is not None:
        query = query.where(boards.c.device == device)
    return query


def _write_csv(path: Path, parts: Iterator[list[list[Any]]]) -> int:
    times = [COLUMNS.index(name) for name in TIMES]
    texts = [COLUMNS.index(name) for name in TEXTS]
    count = 0
    with path.open("w", newline="", encoding="utf-8") as file:
        write = csv.writer(file).writerow
        write(COLUMNS)
        for part in parts:
            for row in part:
                for at in times:
                    row[at] = (_EPOCH + timedelta(milliseconds=row[at])).isoformat(timespec="milliseconds")
                for at in texts:
                    row[at] = _harmless(row[at])
                write(row)
            count += len(part)
    return count


def _harmless(text: str | None) -> str | None:
    """A spreadsheet must not run what a board sent as a label (CWE-1236)."""
    return f"'{text}" if text and text[0] in "=+-@\t\r" else text


def _write_parquet(path: Path, parts: Iterator[list[list[Any]]]) -> int:
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError as cause:
        raise MissingPackageError("pyarrow", "--format parquet", "pip install 'edgekit[parquet]'") from cause
    kinds = {
        **dict.fromkeys(TEXTS, arrow.string()),
        **dict.fromkeys(WHOLE, arrow.int64()),
        **dict.fromkeys(TIMES, arrow.timestamp("ms", tz="UTC")),
        **dict.fromkeys(NUMBERS, arrow.float64()),
    }
    schema = arrow.schema([(name, kinds[name]) for name in COLUMNS])
    count = 0
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for part in parts:
            columns = zip(COLUMNS, zip(*part, strict=True), strict=True)
            arrays = [arrow.array(values, kinds[name]) for name, values in columns]
            writer.write_batch(arrow.record_batch(arrays, schema=schema))
            count += len(part)
    return count


_WRITERS: Mapping[str, Callable[[Path, Iterator[list[list[Any]]]], int]] = {
    "csv": _write_csv,
    "parquet": _write_parquet,
}
