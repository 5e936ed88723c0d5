"""Answers for every numbered message until it is stored: the protocol, the outbox, and a thread that writes.

The thread that makes Readings and the thread of the link never wait for the disk; only the courier's own does.
"""

from __future__ import annotations

import collections
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit_device import health
from edgekit_device.contract.ack import Ack
from edgekit_device.contract.documents import dump
from edgekit_device.contract.dropped import stamp
from edgekit_device.publish.clockwork import Clockwork
from edgekit_device.publish.delivery import Delivery
from edgekit_device.publish.dropped import Dropped
from edgekit_device.publish.envelope import corrected
from edgekit_device.publish.keeper import Keeper
from edgekit_device.publish.messages import Key, Limits, Message
from edgekit_device.publish.outlet import Notice

if TYPE_CHECKING:
    from edgekit_device.contract.ack import Ranges
    from edgekit_device.contract.topics import Kind

_TICK_S = 0.5
_JOIN_S = 5.0


class Courier:
    """Safe for several threads.

    Args:
        boot: This start of the board.
        folder: Where the outbox lies; None keeps everything in memory.
        limits: How much, and when.
        clock: Says ``synced``, ``unsynced`` or ``unknown``.
    """

    def __init__(
        self,
        boot: str,
        folder: Path | None = None,
        limits: Limits | None = None,
        clock: Callable[[], str] = health.clock,
    ) -> None:
        self._lock = threading.RLock()
        self._clock = Clockwork(clock)
        self._delivery = Delivery(limits)
        self._dropped = Dropped(boot)
        self._boot, self._stored = boot, Ack({})
        self._notices: collections.deque[Notice] = collections.deque(maxlen=100)
        self._keeper = (
            Keeper(folder, self._delivery, self._dropped, self._lock, self._clock, self.note) if folder else None
        )
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="courier", daemon=True)
        self.on_work: Callable[[], None] = lambda: None

    # -- the board's side ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to keep the outbox."""
        self._note_clock()
        self._thread.start()

    def take(self, kind: Kind, payload: bytes) -> None:
        """Answer for a Reading or an event from now on.

        Args:
            kind: Of its topic.
            payload: A document with ``boot`` and ``seq``.
        """
        document = json.loads(payload)
        key = Key(document["boot"], document["seq"])
        unsure = self._clock.offset_s is None and not self._clock.right
        with self._lock:
            told = self._dropped.to_tell(key.seq)
            if told:
                payload = dump(stamp(document, told))
            self._delivery.make(Message(key, kind.name, payload, time.monotonic(), unsure))
        self.on_work()

    def notices(self) -> list[Notice]:
        """What the board should say as events."""
        found = []
        while self._notices:
            found.append(self._notices.popleft())
        return found

    def counts(self) -> tuple[int, int, int]:
        """(acknowledged by the broker, waiting, lost)."""
        with self._lock:
            return self._delivery.sent, self._delivery.waiting, self._dropped.count

    @property
    def stored(self) -> Ranges:
        """Numbers of this start's messages that collectors have committed."""
        with self._lock:
            return self._stored.stored.get(self._boot, ())

    @property
    def pressing(self) -> bool:
        """Whether messages wait for their turn on the link."""
        with self._lock:
            return self._delivery.pressing

    @property
    def unsent(self) -> int:
        """Messages in memory that the broker does not have."""
        with self._lock:
            return sum(message.delivered_s is None for message in self._delivery.memory.values())

    @property
    def loss_window_s(self) -> float | None:
        """How much a power cut can take; None while nothing goes to disk at all."""
        return None if self._keeper is None else self._delivery.limits.spool_after_s

    def close(self) -> None:
        """Put on disk what nobody has stored; what a stuck disk does not take in time is lost with the process."""
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(_JOIN_S)

    # -- the link's side -------------------------------------------------------------------------------------

    def connected(self, window: int | None = None) -> None:
        """There is a link, with room for `window` messages in flight."""
        with self._lock:
            self._delivery.connect(time.monotonic(), window)
        self._wake.set()

    def disconnected(self) -> None:
        """The link is gone."""
        with self._lock:
            self._delivery.disconnect()

    def next(self) -> Message | None:
        """The message to send now."""
        with self._lock:
            message = self._delivery.next(time.monotonic())
            hungry = message is None and self._delivery.wants_batch(time.monotonic()) is not None
        if hungry:
            self._wake.set()
        return message

    def delivered(self, key: Key) -> None:
        """The broker has it."""
        with self._lock:
            self._delivery.deliver(key, time.monotonic())

    def refused(self, key: Key) -> None:
        """The broker refuses it."""
        with self._lock:
            self._delivery.refuse(key, time.monotonic())

    def acknowledge(self, ack: Ack) -> None:
        """Collectors have stored what it names."""
        with self._lock:
            self._stored = self._stored.union(Ack({b: r for b, r in ack.stored.items() if b == self._boot}))
            finished = self._delivery.acknowledge(ack, time.monotonic())
            self._dropped.heard(ack)
            if self._keeper is not None:
                self._keeper.forget(finished)
        self._wake.set()

    def note(self, kind: str, reason: str | None, **detail: object) -> None:
        """Have something said as an event."""
        self._notices.append(Notice(kind, reason, detail))

    # -- the thread ------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop.is_set():
            self._turn()
            self._wake.wait(_TICK_S)
            self._wake.clear()
        self._turn(everything=True)
        if self._keeper is not None:
            self._keeper.close()

    def _turn(self, *, everything: bool = False) -> None:
        now_s = time.monotonic()
        self._note_clock()
        with self._lock:
            self._delivery.tick(now_s)
        if self._keeper is not None:
            self._keeper.turn(now_s, everything=everything)
        with self._lock:
            for boot, ranges in self._delivery.drop_from_memory().items():
                self._dropped.add(boot, ranges)
        self.on_work()

    def _note_clock(self) -> None:
        with self._lock:
            if not self._clock.look():
                return
            offset_s = self._clock.offset_s or 0.0
            self._delivery.clock_known = True
            for message in [m for m in self._delivery.memory.values() if m.unsure]:
                self._delivery.mend(message.key, corrected(message.payload, message.made_s, offset_s))
