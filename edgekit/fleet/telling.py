"""What the host tells boards: acks when they are due, and everything again because brokers forget."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekit.fleet.batch import BoardKey
from edgekit_device.contract.topics import ACK, DESIRED

if TYPE_CHECKING:
    from edgekit.fleet.store import Store
    from edgekit.fleet.voice import Voice

REPUBLISH_S = 600.0
# A board that was silent for longer has nothing in flight; it is told again when it sends.
REMEMBER_S = 30 * 86_400.0
_AT_ONCE = 200


@dataclass
class _Due:
    """What one board has not been told yet."""

    messages: int
    since_s: float


class Teller:
    """Publishes acks and `desired` from the database; used by one thread, except `everything_again`.

    Args:
        store: What is true.
        voice: Where to say it.
        ack_messages: An ack is due after this many messages of one board.
        ack_s: An ack is due this long after the first message that it covers.
        clock: Monotonic seconds.
    """

    def __init__(self, store: Store, voice: Voice, ack_messages: int, ack_s: float, clock: Callable[[], float]) -> None:
        self._store, self._voice, self._clock = store, voice, clock
        self._ack_messages, self._ack_s = ack_messages, ack_s
        self._due: dict[BoardKey, _Due] = {}
        self._again: deque[BoardKey] = deque()
        self._next_again_s = 0.0
        self._forgotten = True

    def owe(self, counts: Iterable[tuple[BoardKey, int]]) -> None:
        """Note how many messages of each board came; a duplicate counts: its board never heard of the first."""
        now = self._clock()
        for board, count in counts:
            self._due.setdefault(board, _Due(0, now)).messages += count

    def everything_again(self) -> None:
        """The broker forgot, or a collector starts: say all of it again, a little at a time."""
        self._forgotten = True

    def tell(self, *, everything: bool = False) -> None:
        """Publish what is due.

        Args:
            everything: Acks that are not due yet as well.

        Raises:
            StoreUnavailableError: The database does not answer.
        """
        if not self._voice.connected:
            return
        now = self._clock()
        due = [
            board
            for board, waits in self._due.items()
            if everything or waits.messages >= self._ack_messages or now - waits.since_s >= self._ack_s
        ]
        if due:
            self._acknowledge(due)
        self._repeat(now)

    def _acknowledge(self, boards: Iterable[BoardKey]) -> bool:
        for board, ack in self._store.acks(boards).items():
            if ack.stored and not self._voice.publish(board, ACK, ack.to_bytes()):
                return False
            self._due.pop(board, None)
        return True

    def _repeat(self, now: float) -> None:
        if self._forgotten or now >= self._next_again_s:
            # After a loss each collector repeats everything; every ten minutes one does it for all.
            if self._forgotten or self._store.claim("republish", REPUBLISH_S * 0.9):
                for board, document in self._store.desired().items():
                    self._voice.publish(board, DESIRED, document)
                self._again = deque(self._store.seen_since(REMEMBER_S))
            self._forgotten, self._next_again_s = False, now + REPUBLISH_S
        if self._again and not self._voice.crowded:
            some = [self._again.popleft() for _ in range(min(_AT_ONCE, len(self._again)))]
            if not self._acknowledge(some):
                self._again.extendleft(reversed(some))
