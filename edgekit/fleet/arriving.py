"""What one batch means for the tables, before the database says what of it is new."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from edgekit.fleet.batch import Batch, BoardKey, EventRow, ReadingRow, dropped_by, event_row, reading_row
from edgekit.fleet.keys import BootKey
from edgekit.fleet.rollups import MINUTE_MS, Bucket, Rollup, Sample, is_ahead, is_delayed, is_late, roll
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
    readings: list[ReadingRow] = field(default_factory=list)
    events: list[EventRow] = field(default_factory=list)
    numbers: dict[BootKey, set[int]] = field(default_factory=dict)
    dropped: dict[BootKey, list[Range]] = field(default_factory=dict)

    def only(self, new: Collection[tuple[int, int]]) -> None:
        """Leave out the rows of what was stored before.

        Args:
            new: (boot, seq) of the messages that were not.
        """
        if len(new) < len(self.readings) + len(self.events):
            self.readings = [row for row in self.readings if (row.boot, row.seq) in new]
            self.events = [row for row in self.events if (row.boot, row.seq) in new]

    def rolled(self) -> dict[Bucket, Rollup]:
        """What to merge into the roll-ups by minute."""
        return roll((_sample(row) for row in self.readings if _timely(row)), MINUTE_MS)

    def counted(self) -> list[tuple[int, int, int, int]]:
        """(board, delayed, late, ahead) to add to `arrivals`, in the order of its key."""
        found: dict[int, list[int]] = {}
        times = [(row.board, row.at, row.received) for row in self.readings]
        times += [(row.board, row.at, row.received) for row in self.events]
        for board, at, received in times:
            if is_delayed(at, received) or is_ahead(at, received):
                place = 1 if is_late(at, received) else 2 if is_ahead(at, received) else 0
                found.setdefault(board, [0, 0, 0])[place] += 1
        return [(board, *found[board]) for board in sorted(found)]  # type: ignore[misc]

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
        if isinstance(document, Reading):
            found.readings.append(reading_row(key, now_ms, document, payload))
        else:
            found.events.append(event_row(key, now_ms, document, payload))
        for boot, ranges in dropped_by(document).items():
            found.dropped.setdefault(BootKey(key.board, boots[key.board, boot]), []).extend(ranges)
    return found


def _sample(row: ReadingRow) -> Sample:
    return Sample(
        row.board, row.at, row.fps, row.inference_fps, row.end_to_end_p50_ms, row.end_to_end_p95_ms
    )  # fmt: skip


def _timely(row: ReadingRow) -> bool:
    return not is_late(row.at, row.received) and not is_ahead(row.at, row.received)
