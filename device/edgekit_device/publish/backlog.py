"""The batches in the outbox, as the protocol of delivery sees them: numbers and ranges, no disk."""

from __future__ import annotations

import collections
from collections.abc import Iterable
from typing import TYPE_CHECKING

from edgekit_device.contract.ack import Ranges, count_of, merge_ranges, subtract_ranges
from edgekit_device.publish.messages import Batch, Limits, Message

if TYPE_CHECKING:
    from edgekit_device.contract.ack import Ack


class Backlog:
    """Which batches there are, which one is being sent, and which must go.

    Args:
        limits: How much.
        batches: Oldest first.

    Attributes:
        newly_delivered: Batches that the broker has got since somebody last emptied this.
    """

    def __init__(self, limits: Limits, batches: Iterable[Batch] = ()) -> None:
        self.limits = limits
        self.batches: dict[int, Batch] = {batch.number: batch for batch in batches}
        self.size_bytes = sum(batch.size_bytes for batch in self.batches.values())
        self.newly_delivered: set[int] = set()
        self._loaded: collections.deque[Message] = collections.deque()
        self._flying: dict[int, int] = {}
        self._loading: int | None = None

    def wanted(self, now_s: float, *, clock_is_awaited: bool) -> int | None:
        """The oldest batch that may be read and sent now; None while one is on its way."""
        if self._loading is not None:
            return None
        for batch in self.batches.values():
            if batch.delivered_s is None and batch.due_s <= now_s and not (batch.unsure and clock_is_awaited):
                return batch.number
        return None

    def load(self, number: int, messages: Iterable[Message]) -> bool:
        """A batch was read; only what no ack covers is sent. False if it holds nothing of what it should."""
        batch = self.batches.get(number)
        if batch is None:
            return True
        for message in messages:
            if _holds(batch.left, message.key.seq):
                message.batch, message.backlog = number, True
                self._loaded.append(message)
        if not self._loaded:
            return False
        self._loading = number
        batch.tries += 1
        return True

    def next(self, now_s: float) -> Message | None:
        """The next message of the batch that was read; it is in flight now."""
        while self._loaded:
            message = self._loaded.popleft()
            batch = self.batches[message.batch or 0]
            if _holds(batch.left, message.key.seq):
                batch.unsure = False  # What has left must stay as it is.
                self._flying[batch.number] = self._flying.get(batch.number, 0) + 1
                return message
            self._finish(batch, now_s)
        return None

    def landed(self, message: Message, now_s: float) -> None:
        """A message of a batch is not in flight any more; its `due_s` says whether it was refused."""
        number = message.batch or 0
        self._flying[number] = self._flying.get(number, 1) - 1
        batch = self.batches.get(number)
        if batch is not None:
            batch.due_s = max(batch.due_s, message.due_s)
            self._finish(batch, now_s)

    def unload(self) -> None:
        """The link is gone: what was read and not delivered will be read again."""
        self._loaded.clear()
        self._flying.clear()
        self._loading = None

    def acknowledge(self, ack: Ack) -> tuple[list[int], float]:
        """Collectors have committed what `ack` names.

        Returns:
            (batches that are covered whole, when the newest that is covered in part was delivered or -1).
        """
        newest, finished = -1.0, []
        for batch in list(self.batches.values()):
            stored = ack.stored.get(batch.boot)
            left = subtract_ranges(batch.left, stored) if stored else batch.left
            if left == batch.left:
                continue
            batch.left = left
            newest = max(newest, -1.0 if batch.delivered_s is None else batch.delivered_s)
            if not left:
                self.remove(batch.number)
                finished.append(batch.number)
        return finished, newest

    def add(self, batch: Batch) -> None:
        """A batch was written."""
        self.batches[batch.number] = batch
        self.size_bytes += batch.size_bytes

    def remove(self, number: int) -> Batch | None:
        """A batch is gone from the outbox."""
        batch = self.batches.pop(number, None)
        if batch is None:
            return None
        self.size_bytes -= batch.size_bytes
        if self._loading == number:
            self._loaded.clear()
            self._loading = None
        return batch

    def to_drop(self, now_at: float | None) -> list[int]:
        """Batches that are empty, too old, or the oldest of too many bytes.

        Args:
            now_at: Wall-clock seconds; None while the clock is not right.
        """
        found, size = [], self.size_bytes
        for batch in self.batches.values():
            age_s = now_at - batch.made_at if now_at is not None and batch.made_at is not None else 0.0
            if size > self.limits.outbox_bytes or age_s > self.limits.outbox_age_s or not batch.left:
                found.append(batch.number)
                size -= batch.size_bytes
        return found

    @property
    def pressing(self) -> bool:
        """Whether a batch that was read waits to be sent."""
        return bool(self._loaded)

    @property
    def waiting(self) -> int:
        """Messages in batches that the broker does not have."""
        return sum(count_of(batch.left) for batch in self.batches.values() if batch.delivered_s is None)

    def _finish(self, batch: Batch, now_s: float) -> None:
        if self._flying.get(batch.number) or (self._loaded and self._loading == batch.number):
            return
        self._flying.pop(batch.number, None)
        if self._loading == batch.number:
            self._loading = None
            if batch.due_s <= now_s:
                batch.delivered_s = now_s
                self.newly_delivered.add(batch.number)


def batch_of(
    number: int, messages: list[Message], held: Iterable[int], size_bytes: int, made_at: float | None
) -> Batch:
    """What is known of a batch that was just written.

    Args:
        number: In the outbox.
        messages: Of one boot, not empty.
        held: Sequence numbers that no ack has covered meanwhile.
        size_bytes: Room it takes on disk.
        made_at: Wall-clock seconds of the oldest; None while the clock is not right.
    """
    times = [message.delivered_s for message in messages]
    known = [time for time in times if time is not None]
    return Batch(
        number,
        messages[0].key.boot,
        merge_ranges((seq, seq) for seq in held),
        size_bytes,
        any(message.unsure for message in messages),
        made_at,
        max(known) if len(known) == len(times) else None,
    )


def _holds(ranges: Ranges, seq: int) -> bool:
    return any(low <= seq <= high for low, high in ranges)
