"""What one batch means for the tables, before the database says what of it is new."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from edgekit.fleet.batch import Batch, BoardKey, dropped_by, event_row, reading_row
from edgekit.fleet.keys import BootKey
from edgekit.fleet.rollups import Sample, is_ahead, is_delayed, is_late, roll
from edgekit_device.contract.ack import Range
from edgekit_device.contract.telemetry import Reading


@dataclass
class Arrivals:
    """Rows of a batch by table; a message that came twice is here once.

    Attributes:
        messages: How many came, twice ones counted twice.
        numbers: Sequence numbers per boot.
        dropped: Ranges that boards say they dropped, per boot.
    """

    messages: int = 0
    readings: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    numbers: dict[BootKey, set[int]] = field(default_factory=dict)
    dropped: dict[BootKey, list[Range]] = field(default_factory=dict)

    def rolled(self, new: Collection[tuple[int, int]], span_ms: int) -> list[dict[str, int]]:
        """Rows to merge into a roll-up table, in the order of its key.

        Args:
            new: (boot, seq) of the messages that were not stored before.
            span_ms: Length of a bucket.
        """
        samples = (_sample(row) for row in self.readings if (row["boot"], row["seq"]) in new and _timely(row))
        return [rollup.row(bucket) for bucket, rollup in sorted(roll(samples, span_ms).items())]

    def counted(self, new: Collection[tuple[int, int]]) -> list[dict[str, int]]:
        """Rows to add to `arrivals`, in the order of its key."""
        found: dict[int, dict[str, int]] = {}
        for row in (*self.readings, *self.events):
            at, received = row["at"], row["received"]
            if (row["boot"], row["seq"]) not in new or not (is_delayed(at, received) or is_ahead(at, received)):
                continue
            count = found.setdefault(row["board"], {"board": row["board"], "delayed": 0, "late": 0, "ahead": 0})
            name = "late" if is_late(at, received) else "ahead" if is_ahead(at, received) else "delayed"
            count[name] += 1
        return [found[board] for board in sorted(found)]

    def count_by_board(self, new: Collection[tuple[int, int]]) -> dict[int, int]:
        """How many messages are new, per board."""
        found: dict[int, int] = {}
        for key, sequence in self.numbers.items():
            found[key.board] = found.get(key.board, 0) + sum((key.boot, number) in new for number in sequence)
        return found


def sort_in(
    batch: Batch, boards: Mapping[BoardKey, int], boots: Mapping[tuple[int, str], int], now_ms: int
) -> Arrivals:
    """Turn messages into rows.

    Args:
        batch: Valid messages.
        boards: Row ids.
        boots: Row ids.
        now_ms: The host's clock, UTC, ms since 1970.
    """
    found = Arrivals()
    for board, document, payload in batch.numbered():
        found.messages += 1
        key = BootKey(boards[board], boots[boards[board], document.boot])
        numbers = found.numbers.setdefault(key, set())
        if document.seq in numbers:
            continue
        numbers.add(document.seq)
        where = {"board": key.board, "boot": key.boot, "received": now_ms}
        if isinstance(document, Reading):
            found.readings.append({**reading_row(document, payload), **where})
        else:
            found.events.append({**event_row(document, payload), **where})
        for boot, ranges in dropped_by(document).items():
            found.dropped.setdefault(BootKey(key.board, boots[key.board, boot]), []).extend(ranges)
    return found


def _sample(row: Mapping[str, Any]) -> Sample:
    return Sample(
        row["board"],
        row["at"],
        row["fps"],
        row["inference_fps"],
        row["end_to_end_p50_ms"],
        row["end_to_end_p95_ms"],
    )


def _timely(row: Mapping[str, Any]) -> bool:
    return not is_late(row["at"], row["received"]) and not is_ahead(row["at"], row["received"])
