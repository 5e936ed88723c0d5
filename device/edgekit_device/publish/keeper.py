"""The disk's side of delivery: spools what is due, deletes what is stored, survives a disk that does not work."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit_device.contract.errors import OutboxCorruptError, OutboxDiskError, OutboxError
from edgekit_device.publish.envelope import corrected
from edgekit_device.publish.outbox import NAME, Outbox, set_aside

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable

    from edgekit_device.publish.clockwork import Clockwork
    from edgekit_device.publish.delivery import Delivery
    from edgekit_device.publish.dropped import Dropped

RETRY_S = 10.0
_BATCH_MESSAGES = 256
_DELETE_EVERY_S = 5.0


class Keeper:
    """Used by one thread; takes `lock` for decisions and never while the disk works.

    Args:
        folder: Where the outbox lies.
        delivery: What to spool, to send and to forget.
        dropped: Where what is given up is noted.
        lock: Guards `delivery` and `dropped`.
        clock: When the wall clock became right.
        note: Called with (kind, reason, detail) when the board should say something.
    """

    def __init__(
        self,
        folder: Path,
        delivery: Delivery,
        dropped: Dropped,
        lock: threading.RLock,
        clock: Clockwork,
        note: Callable[..., None],
    ) -> None:
        self._folder, self._delivery, self._dropped = folder, delivery, dropped
        self._lock, self._clock, self._note = lock, clock, note
        self._outbox: Outbox | None = None
        self._known = False
        self._trouble_s: float | None = None
        self._retry_s = 0.0
        self._to_delete: set[int] = set()
        self._changed_s = 0.0

    def turn(self, now_s: float, *, everything: bool = False) -> None:
        """Do what the disk has to do now; never raises for what a disk does.

        Args:
            now_s: Monotonic.
            everything: The board stops; nothing may stay in memory only.
        """
        if now_s < self._retry_s and not everything:
            return
        try:
            self._keep(now_s, everything=everything)
        except OutboxCorruptError as error:
            self._begin_anew(error)
        except OutboxDiskError as error:
            self._fail(error)

    def forget(self, numbers: Iterable[int]) -> None:
        """These batches are stored; deleting them can wait a little."""
        self._to_delete.update(numbers)

    def close(self) -> None:
        """Close the outbox."""
        if self._outbox is not None:
            self._outbox.close()
            self._outbox = None

    def _keep(self, now_s: float, *, everything: bool) -> None:
        outbox = self._open()
        self._spool(outbox, now_s, everything=everything)
        with self._lock:
            remove = self._delivery.backlog.to_drop(time.time() if self._clock.right else None)
            for number in remove:
                self._give_up(number)
        self._change(outbox, now_s, at_once=everything or bool(remove))
        self._load(outbox, now_s)
        if self._trouble_s is not None:
            self._note("outbox_restored", None, seconds=round(now_s - self._trouble_s, 1))
            self._trouble_s = None

    def _open(self) -> Outbox:
        if self._outbox is not None:
            return self._outbox
        outbox = self._outbox = Outbox(self._folder)
        batches, dropped = outbox.index()
        with self._lock:
            backlog = self._delivery.backlog
            there = {batch.number for batch in batches}
            if not self._known:
                self._to_delete.update(self._delivery.adopt(batches))
                for boot, ranges in dropped.items():
                    self._dropped.add(boot, ranges)
            else:
                self._to_delete |= there - backlog.batches.keys()
                for number in backlog.batches.keys() - there:
                    self._give_up(number)
            self._known = True
        return outbox

    def _spool(self, outbox: Outbox, now_s: float, *, everything: bool) -> None:
        with self._lock:
            groups = self._delivery.to_spool(now_s, everything=everything)
        offset_s = self._clock.offset_s
        parts = [group[at : at + _BATCH_MESSAGES] for group in groups for at in range(0, len(group), _BATCH_MESSAGES)]
        timed = [(part, None if offset_s is None else part[0].made_s + offset_s) for part in parts]
        if not timed:
            return
        written = outbox.write(timed)
        with self._lock:
            for (part, made_at), (number, size_bytes) in zip(timed, written, strict=True):
                self._delivery.spooled(number, part, size_bytes, made_at)

    def _change(self, outbox: Outbox, now_s: float, *, at_once: bool) -> None:
        with self._lock:
            remove, self._to_delete = self._to_delete, set()
            delivered = set(self._delivery.backlog.newly_delivered)
            dropped = self._dropped.ranges if self._dropped.changed else None
            waits = not at_once and now_s - self._changed_s < _DELETE_EVERY_S
            if waits or not (remove or delivered or self._dropped.changed):
                self._to_delete |= remove
                return
            self._dropped.changed = False
            self._delivery.backlog.newly_delivered.clear()
            empty = not self._delivery.backlog.batches
        try:
            outbox.change(remove, dropped, delivered)
        except OutboxError:
            with self._lock:
                self._to_delete |= remove
                self._dropped.changed |= dropped is not None
                self._delivery.backlog.newly_delivered |= delivered
            raise
        self._changed_s = now_s
        if empty:
            outbox.shrink()

    def _load(self, outbox: Outbox, now_s: float) -> None:
        with self._lock:
            number = self._delivery.wants_batch(now_s)
            batch = self._delivery.backlog.batches.get(number) if number is not None else None
        if number is None or batch is None:
            return
        messages = outbox.read(number)
        offset_s = self._clock.offset_s
        if batch.unsure and batch.boot == self._dropped.boot and offset_s is not None:
            for message in [message for message in messages if message.unsure]:
                message.payload = corrected(message.payload, message.made_s, offset_s)
                message.unsure = False
            # On disk first: another start must send the same bytes, or the host would keep the message twice.
            outbox.rewrite(number, messages)
            batch.unsure = False
        with self._lock:
            if not self._delivery.load(number, messages):
                self._give_up(number)
                self._note("outbox_batch_unreadable", f"{outbox.path}: batch {number} cannot be read; it is dropped")

    # -- trouble ---

    def _give_up(self, number: int) -> None:
        boot, ranges = self._delivery.give_up(number)
        self._to_delete.add(number)
        self._dropped.add(boot, ranges)

    def _fail(self, error: OutboxError) -> None:
        self.close()
        self._retry_s = time.monotonic() + RETRY_S
        if self._trouble_s is None:
            self._trouble_s = time.monotonic()
            self._note("outbox_unavailable", str(error))

    def _begin_anew(self, error: OutboxCorruptError) -> None:
        self.close()
        try:
            aside = set_aside(Path(error.path).with_name(NAME))
        except OutboxDiskError as refusal:
            self._fail(refusal)
            return
        # What only lay there is found missing, and counted, when the new file is opened.
        self._note("outbox_corrupt", str(error), set_aside=aside.name)
