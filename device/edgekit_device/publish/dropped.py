"""What was given up and not yet told: kept until a message that says it is stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from edgekit_device.contract.ack import Ranges, count_of, merge_ranges, subtract_ranges
from edgekit_device.contract.dropped import MAX_TRAVELLING

if TYPE_CHECKING:
    from edgekit_device.contract.ack import Ack

_MAX_TOLD = 1000


class Dropped:
    """Ranges per boot, and which message of this boot was the first to say each state of them.

    Args:
        boot: This start of the board.
        ranges: What earlier starts dropped and could not tell.

    Attributes:
        count: Messages given up.
        changed: What is to be told differs from what the outbox knows of it; whoever writes it resets this.
    """

    def __init__(self, boot: str, ranges: Mapping[str, Ranges] | None = None) -> None:
        self.boot = boot
        self._ranges: dict[str, Ranges] = {name: merge_ranges(r) for name, r in (ranges or {}).items() if r}
        self._told: list[tuple[int, dict[str, Ranges]]] = []
        self.count = sum(count_of(r) for r in self._ranges.values())
        self.changed = False

    def add(self, boot: str, ranges: Iterable[tuple[int, int]]) -> None:
        """These are gone."""
        new = merge_ranges(ranges)
        if not new:
            return
        self.changed = True
        before = self._ranges.get(boot, ())
        self.count += count_of(subtract_ranges(new, before))
        self._ranges[boot] = merge_ranges((*before, *new))

    def to_tell(self, seq: int) -> dict[str, Ranges]:
        """What the message `seq` of this boot says; every later message says at least as much.

        Args:
            seq: Sequence numbers come in rising order.
        """
        if not self._ranges:
            return {}
        told: dict[str, Ranges] = {}
        room = MAX_TRAVELLING
        for boot, ranges in self._ranges.items():
            if room > 0:
                told[boot] = ranges[:room]
                room -= len(told[boot])
        if not self._told or self._told[-1][1] != told:
            self._told.append((seq, told))
            # Thinning only means that something is said longer than it had to be.
            if len(self._told) > _MAX_TOLD:
                del self._told[: _MAX_TOLD // 2]
        return told

    def heard(self, ack: Ack) -> bool:
        """Forget what a stored message has said; True if something was forgotten."""
        stored = ack.stored.get(self.boot, ())
        index = -1
        for number, (seq, _) in enumerate(self._told):
            until = self._told[number + 1][0] - 1 if number + 1 < len(self._told) else None
            if any(high >= seq and (until is None or low <= until) for low, high in stored):
                index = number
        if index < 0:
            return False
        for boot, ranges in self._told[index][1].items():
            left = subtract_ranges(self._ranges.get(boot, ()), ranges)
            if left:
                self._ranges[boot] = left
            else:
                self._ranges.pop(boot, None)
        del self._told[: index + 1]
        self.changed = True
        return True

    @property
    def ranges(self) -> dict[str, Ranges]:
        """What is still to be told."""
        return dict(self._ranges)
