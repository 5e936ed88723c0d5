"""The protocol of delivery, decided purely: what to send next, what to put on disk, what may be forgotten.

A message is in memory or in a batch of the outbox, and only an `ack` of the collector ends its life there: an
acknowledgement by the broker (PUBACK) does not mean stored. Nothing here reads a clock, a disk or a link; tests walk
these decisions with a broker that forgets and collectors that crash.

A delivered message is sent again when there is reason to think that it was lost:

- the link came back: the broker may be another one, or the same one without its memory;
- a hole: an ack covers something that was delivered later;
- silence: a collector is known, and nothing that was delivered has been covered for a while; then a few are sent
  as a probe, and the hole rule finds the rest.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable
from typing import TYPE_CHECKING

from edgekit_device.contract.ack import Ranges, merge_ranges
from edgekit_device.publish.backlog import Backlog, batch_of
from edgekit_device.publish.messages import Batch, Key, Limits, Message

if TYPE_CHECKING:
    from edgekit_device.contract.ack import Ack

_BURST = 10.0


class Delivery:
    """Every message that this board still answers for.

    Args:
        limits: How much, and when.
        batches: What the outbox holds from earlier starts, oldest first.
    """

    def __init__(self, limits: Limits | None = None, batches: Iterable[Batch] = ()) -> None:
        self.limits = limits or Limits()
        self.memory: dict[Key, Message] = {}
        self.backlog = Backlog(self.limits, batches)
        self.memory_bytes = 0
        self.connected = False
        self.sent = 0
        self.window = self.limits.window
        self._live: collections.deque[Key] = collections.deque()
        self._back: collections.deque[Key] = collections.deque()
        self._later: list[Key] = []
        self._flying: dict[Key, Message] = {}
        self._tokens, self._tokens_s = _BURST, 0.0
        self._open_s = self._connected_s = 0.0
        self._host_known = False
        self._last_ack: Ack | None = None
        self._evidence_s, self._news_s, self._probes = -1.0, 0.0, 0
        self.clock_known = False
        self._clock_given_up = False

    # -- what happens ----------------------------------------------------------------------------------------

    def make(self, message: Message) -> None:
        """The board made a message."""
        self.memory[message.key] = message
        self.memory_bytes += len(message.payload)
        (self._live if self.connected else self._back).append(message.key)

    def connect(self, now_s: float, window: int | None = None) -> None:
        """The link is there; what memory holds may have been forgotten by the broker."""
        self.connected = True
        self.window = min(self.limits.window, window or self.limits.window)
        self._connected_s, self._open_s = now_s, now_s + self.limits.settle_s
        self._live.clear()
        self._back = collections.deque(self.memory)
        for message in self.memory.values():
            message.delivered_s = None
        self._news_s, self._probes = now_s, 0
        self._tokens, self._tokens_s = _BURST, now_s
        self._later.clear()

    def disconnect(self) -> None:
        """The link is gone, and with it what was in flight."""
        self.connected = False
        self._flying.clear()
        self._back.extend(self._live)
        self._live.clear()
        self.backlog.unload()

    def deliver(self, key: Key, now_s: float) -> None:
        """The broker acknowledged a message: it has it, which does not mean that it is stored."""
        message = self._flying.pop(key, None)
        if message is None:
            return
        self.sent += 1
        message.delivered_s = now_s
        if message.batch is not None:
            self.backlog.landed(message, now_s)

    def refuse(self, key: Key, now_s: float) -> None:
        """The broker's rules refuse a message: it is kept, and tried again more and more rarely."""
        message = self._flying.pop(key, None)
        if message is None:
            return
        message.due_s = now_s + self._hold_s(message.tries)
        if message.batch is None:
            self._later.append(key)
        else:
            self.backlog.landed(message, now_s)

    def acknowledge(self, ack: Ack, now_s: float) -> list[int]:
        """Collectors have committed what `ack` names.

        Returns:
            Batches that the outbox may delete.
        """
        self._host_known, self._last_ack = True, ack
        finished, newest = self.backlog.acknowledge(ack)
        for key in [key for key in self.memory if ack.covers(*key)]:
            message = self._forget(key)
            newest = max(newest, -1.0 if message.delivered_s is None else message.delivered_s)
        self._open_s = min(self._open_s, now_s)
        if newest >= 0:
            self._evidence_s = max(self._evidence_s, newest)
            self._news_s, self._probes = now_s, 0
        return finished

    def adopt(self, batches: Iterable[Batch]) -> list[int]:
        """Answer for what an earlier start left, too; gives what the outbox may delete of it at once."""
        for batch in batches:
            self.backlog.add(batch)
        # The retained ack can be here before a slow disk is.
        return self.backlog.acknowledge(self._last_ack)[0] if self._last_ack else []

    def tick(self, now_s: float) -> None:
        """Time passed: look for holes and for silence."""
        if not self.connected:
            return
        due = [key for key in self._later if key not in self.memory or self.memory[key].due_s <= now_s]
        self._later = [key for key in self._later if key not in due]
        self._back.extend(key for key in due if key in self.memory)
        for message in self.memory.values():
            if self._lost(message, now_s):
                message.delivered_s = None
                self._back.append(message.key)
        for batch in self.backlog.batches.values():
            if self._lost(batch, now_s):
                batch.delivered_s = None
        patience_s = min(self.limits.hold_cap_s, self.limits.silence_s * 2.0 ** min(self._probes, 10))
        if self._host_known and now_s - self._news_s >= patience_s:
            self._news_s, self._probes = now_s, self._probes + 1
            self._probe()
        # A machine that had no time to offer until now is not waited for again at every connection.
        self._clock_given_up |= now_s >= self._connected_s + self.limits.clock_wait_s

    # -- what to do ------------------------------------------------------------------------------------------

    def next(self, now_s: float) -> Message | None:
        """The message to send now: live ones first, then backlog within its share and rate."""
        if not self.connected or len(self._flying) >= self.window:
            return None
        while self._live:
            message = self.memory.get(self._live.popleft())
            if message is not None and message.delivered_s is None:
                return self._fly(message)
        return self._next_of_backlog(now_s)

    def wants_batch(self, now_s: float) -> int | None:
        """The batch to read from the outbox now, so that it can be sent; answer with `load`."""
        if not self.connected or now_s < self._open_s or self._back:
            return None
        return self.backlog.wanted(now_s, clock_is_awaited=self._waits_for_clock(now_s))

    def load(self, number: int, messages: Iterable[Message]) -> bool:
        """A batch was read; False if it holds nothing of what it should."""
        return not self.connected or self.backlog.load(number, messages)

    def to_spool(self, now_s: float, *, everything: bool = False) -> list[list[Message]]:
        """What must go to the outbox now: groups of one boot, delivered ones apart from the others.

        Args:
            now_s: Monotonic.
            everything: The board stops; nothing may stay in memory only.
        """
        if not self.memory or not (everything or self._spool_is_due(now_s)):
            return []
        # While the link is there, young messages stay where sending is quick; half the time, so that messages which
        # cannot leave go to disk some at a time and not each for itself.
        aged_s = now_s - self.limits.spool_after_s / 2
        young = self.connected and not everything and len(self.memory) * 2 < self.limits.memory_messages
        delivered = [m for m in self.memory.values() if m.delivered_s is not None]
        waiting = [m for m in self.memory.values() if m.delivered_s is None and not (young and m.made_s > aged_s)]
        return [group for group in (delivered, waiting) if group]

    def spooled(self, number: int, messages: Iterable[Message], size_bytes: int, made_at: float | None = None) -> None:
        """A group is safe in the outbox; memory lets go of it."""
        group = list(messages)
        held = [m.key for m in group if m.key in self.memory]
        self.backlog.add(batch_of(number, group, (key.seq for key in held), size_bytes, made_at))
        for key in held:
            self._forget(key)

    def drop_from_memory(self) -> dict[str, Ranges]:
        """Let the oldest messages go when memory is full, which only happens while the outbox cannot be written."""
        gone: dict[str, list[int]] = {}
        while len(self.memory) > self.limits.memory_messages or self.memory_bytes > self.limits.memory_bytes:
            message = self._forget(next(iter(self.memory)))
            if self._answers_for(message):
                gone.setdefault(message.key.boot, []).append(message.key.seq)
        return {boot: merge_ranges((seq, seq) for seq in sequence) for boot, sequence in gone.items()}

    def give_up(self, number: int) -> tuple[str, Ranges]:
        """A batch is gone from the outbox, or must go; gives its boot and what that loses."""
        batch = self.backlog.remove(number)
        return (batch.boot, batch.left if self._answers_for(batch) else ()) if batch else ("", ())

    def mend(self, key: Key, payload: bytes) -> None:
        """Replace the payload of a message that was never sent."""
        message = self.memory[key]
        self.memory_bytes += len(payload) - len(message.payload)
        message.payload, message.unsure = payload, False

    @property
    def pressing(self) -> bool:
        """Whether messages wait for their turn on the link."""
        return bool(self._live or self._back or self.backlog.pressing)

    @property
    def waiting(self) -> int:
        """Messages that the broker does not have."""
        held = sum(message.delivered_s is None for message in self.memory.values())
        return held + self.backlog.waiting

    # -- parts -----------------------------------------------------------------------------------------------

    def _next_of_backlog(self, now_s: float) -> Message | None:
        flying = sum(message.backlog for message in self._flying.values())
        self._tokens = min(_BURST, self._tokens + (now_s - self._tokens_s) * self.limits.backlog_hz)
        self._tokens_s = now_s
        share = max(1, int(self.window * self.limits.backlog_share))
        if now_s < self._open_s or flying >= share or self._tokens < 1.0:
            return None
        while self._back:
            message = self.memory.get(self._back[0])
            if message is None or message.delivered_s is not None or message.key in self._flying:
                self._back.popleft()
            elif message.due_s > now_s:
                self._later.append(self._back.popleft())
            elif message.unsure and self._waits_for_clock(now_s):
                return None
            else:
                self._back.popleft()
                message.backlog = True
                self._tokens -= 1.0
                return self._fly(message)
        message = self.backlog.next(now_s)
        self._tokens -= message is not None
        return self._fly(message) if message else None

    def _fly(self, message: Message) -> Message:
        message.tries += 1
        message.unsure = False  # What has left must stay as it is: the host keys rows by the day of `at`.
        self._flying[message.key] = message
        return message

    def _answers_for(self, item: Message | Batch) -> bool:
        # Where no collector was ever heard of, the broker is the end of the way.
        return self._host_known or item.delivered_s is None

    def _hold_s(self, tries: int) -> float:
        return min(self.limits.hold_cap_s, self.limits.hold_s * 2.0 ** min(max(tries - 1, 0), 10))

    def _lost(self, item: Message | Batch, now_s: float) -> bool:
        delivered_s = item.delivered_s
        if delivered_s is None or delivered_s >= self._evidence_s:
            return False
        return now_s - delivered_s >= self._hold_s(item.tries)

    def _probe(self) -> None:
        delivered = [m for m in self.memory.values() if m.delivered_s is not None][: self.limits.probe]
        for message in delivered:
            message.delivered_s = None
            self._back.append(message.key)
        if not delivered:
            batch = next((b for b in self.backlog.batches.values() if b.delivered_s is not None), None)
            if batch is not None:
                batch.delivered_s = None

    def _waits_for_clock(self, now_s: float) -> bool:
        if self.clock_known or self._clock_given_up:
            return False
        return now_s < self._connected_s + self.limits.clock_wait_s

    def _spool_is_due(self, now_s: float) -> bool:
        oldest = next(iter(self.memory.values()))
        full = len(self.memory) * 2 >= self.limits.memory_messages or self.memory_bytes * 2 >= self.limits.memory_bytes
        return full or now_s - oldest.made_s >= self.limits.spool_after_s

    def _forget(self, key: Key) -> Message:
        message = self.memory.pop(key)
        self.memory_bytes -= len(message.payload)
        return message
