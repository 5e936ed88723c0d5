"""From the broker to the store: take messages, commit them, and only then say so.

Two threads: paho's takes messages into a bounded queue, ours writes them in batches. While the database is slow
the queue fills, the broker's receive maximum stops delivery, and messages wait where they are durable.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING

from edgekit.errors import EdgeKitError, StoreRowError, StoreUnavailableError
from edgekit.fleet.batch import Batch, BoardKey, Received, Rejected, at_ms
from edgekit.fleet.inbox import Inbox
from edgekit.fleet.link import RECEIVE_MAXIMUM, Link, LinkOptions, Message
from edgekit.fleet.snapshot import BoardSnapshot, FleetSnapshot, after
from edgekit.fleet.telling import Teller
from edgekit.fleet.voice import Voice
from edgekit_device.contract.desired import Watch
from edgekit_device.contract.topics import DESIRED, WATCH

if TYPE_CHECKING:
    from edgekit.fleet.store import Store, Written
    from edgekit_device.publish.broker_url import BrokerAddress

_LOG = logging.getLogger(__name__)
_RETRY_S = (0.2, 5.0)
_FLUSH_S = 5.0
_IDLE_S = 0.1
# Between two looks into the inbox: a wake for each message would cost more than the message.
_LOOK_S = 0.02
# Brokers let only so many messages fly unacknowledged (mosquitto 20, rumqttd 100): when as many are here as ever were
# at once and no more come, waiting for the rest of batch_s would only slow both sides. A longer lull says the same.
_LEAST_WINDOW, _WINDOW_LULL_S, _LULL_S = 15, 0.005, 0.06


@dataclass(frozen=True)
class CollectorOptions:
    """How messages are gathered and acknowledged.

    Attributes:
        client_id: Name of the MQTT session; another collector beside this one needs another.
        batch_messages: Most messages in one transaction.
        batch_s: Longest wait before a batch is written.
        ack_messages: An ack is due after this many messages of one board.
        ack_s: An ack is due this long after the first message that it covers.
        share: The group of collectors that divide the messages among them; None to get them all.
        reconnect_s: Shortest and longest wait between two tries to reach a broker that went away.
    """

    client_id: str = "edgekit-collector"
    batch_messages: int = 500
    batch_s: float = 0.5
    ack_messages: int = 20
    ack_s: float = 30.0
    share: str | None = None
    reconnect_s: tuple[int, int] = (1, 30)


class Collector:
    """A context manager: inside it, what boards send is stored and acknowledged.

    Args:
        address: The broker.
        store: Where messages go; it stays open when the collector stops.
        options: How.
        clock: Monotonic seconds.
        now: Seconds since 1970.
    """

    def __init__(
        self,
        address: BrokerAddress,
        store: Store,
        options: CollectorOptions | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._clock, self._now = store, clock, now
        self._options = options = options or CollectorOptions()
        self._inbox, self._window = Inbox(RECEIVE_MAXIMUM), _LEAST_WINDOW
        named = LinkOptions(options.client_id, options.share, options.reconnect_s)
        self._link = Link(address, named, self._take, self._forgotten)
        self._voice = Voice(address, f"{options.client_id}-acks", options.reconnect_s)
        self._teller = Teller(store, self._voice, options.ack_messages, options.ack_s, clock)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="collector", daemon=True)
        self._lock = threading.Lock()
        self._boards: dict[BoardKey, BoardSnapshot] = {}
        self._totals = FleetSnapshot()

    def __enter__(self) -> Collector:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Subscribe and begin to store.

        Raises:
            BrokerUnreachableError: Nothing answers at the broker's address.
            BrokerError: The broker refuses.
            StoreUnavailableError: The database does not answer.
        """
        for board, stored in self._store.stored_counts().items():
            self._boards[board] = BoardSnapshot(board.site, board.device, stored=stored)
        self._thread.start()
        try:
            self._link.start()
        except BaseException:
            self._stop.set()
            self._thread.join()
            raise
        self._voice.start()

    def stop(self) -> None:
        """Store and acknowledge what was taken, then leave; what waits at the broker stays there."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._voice.flush(_FLUSH_S)
        self._voice.stop()
        self._link.stop()

    def latest(self) -> FleetSnapshot:
        """How the fleet looks now."""
        with self._lock:
            boards = tuple(self._boards[key] for key in sorted(self._boards))
            stored = sum(board.stored for board in boards)
            problem = self._totals.problem or self._link.problem or self._voice.problem
            return replace(self._totals, boards=boards, stored=stored, problem=problem)

    def watch(self, board: BoardKey) -> bool:
        """Ask a board for Readings every two seconds for the next minute; False if there is no link."""
        return self._voice.publish(board, WATCH, Watch().to_bytes())

    def desire(self, board: BoardKey, document: bytes) -> bool:
        """Say what a board should run, as the database has it; False if there is no link."""
        return self._voice.publish(board, DESIRED, document)

    def _forgotten(self) -> None:
        self._teller.everything_again()

    def _take(self, messages: Sequence[Message]) -> None:
        while messages and not self._stop.is_set():
            taken = self._inbox.put(messages, timeout_s=0.5)
            messages = messages[taken:]
            if not taken:
                # The receive maximum bounds QoS 1 on one connection. What else is here is best effort, or was
                # delivered on a connection that is gone and will be delivered again: neither may stop the pings.
                messages = [message for message in messages if message.packet]
                self._inbox.keep(lambda message: message.session == self._link.session)

    def _run(self) -> None:
        while not (self._stop.is_set() and not self._inbox):
            messages = self._gather()
            try:
                if messages:
                    self._store_batch(messages)
                self._teller.tell(everything=self._stop.is_set() and not self._inbox)
            except EdgeKitError as error:
                self._tell(str(error))
            except Exception as error:
                # Unforeseen, so unacknowledged: the broker keeps the messages. Storing for the others goes on.
                _LOG.exception("a batch could not be handled")
                self._tell(f"a batch could not be handled: {error!r}")
        try:
            self._teller.tell(everything=True)
        except EdgeKitError as error:
            self._tell(str(error))

    def _gather(self) -> list[Message]:
        """At most one batch, or what came within batch_s or before a lull."""
        messages = self._inbox.take(self._options.batch_messages, min(self._options.batch_s, _IDLE_S))
        began = news_s = self._clock()
        while messages and len(messages) < self._options.batch_messages and not self._stop.is_set():
            full = len(messages) >= self._window
            left = began + self._options.batch_s - self._clock()
            if left <= 0:
                break
            time.sleep(min(left, _WINDOW_LULL_S if full else _LOOK_S))
            more = self._inbox.take(self._options.batch_messages - len(messages))
            messages += more
            if more:
                news_s = self._clock()
            elif full or (len(messages) >= _LEAST_WINDOW and self._clock() - news_s >= _LULL_S):
                break
        self._window = max(self._window, len(messages))
        return messages

    def _store_batch(self, messages: list[Message]) -> None:
        batch = Batch()
        for message in messages:
            batch.add(message.topic, message.payload)
        try:
            written = self._write(batch)
        except StoreRowError:
            # One message the database cannot hold must not hold up the others.
            for message in messages:
                self._store_alone(message)
            return
        if written is None:
            return  # Stopping without a database: nothing was acknowledged, the broker delivers it again.
        self._link.acknowledge(messages)
        self._note(batch, written)

    def _store_alone(self, message: Message) -> None:
        batch = Batch()
        batch.add(message.topic, message.payload)
        try:
            written = self._write(batch)
        except StoreRowError as error:
            board = "/".join(batch.received[0].board) if batch.received else "?"
            batch = Batch(rejected=[Rejected(board, str(error)[:500], message.payload[:4096])])
            written = self._write(batch)
        if written is not None:
            self._link.acknowledge([message])
            self._note(batch, written)

    def _write(self, batch: Batch) -> Written | None:
        """Write until it succeeds; None if told to stop while the database does not answer."""
        delay = _RETRY_S[0]
        while True:
            try:
                written = self._store.write(batch)
            except StoreUnavailableError as error:
                self._tell(str(error))
                if self._stop.wait(delay):
                    return None
                delay = min(delay * 2, _RETRY_S[1])
            else:
                self._tell(None)
                return written

    def _note(self, batch: Batch, written: Written) -> None:
        numbered = list(batch.numbered())
        self._teller.owe(Counter(item.board for item in numbered).items())
        now_ms = self._now() * 1000
        lags_ms = [now_ms - at_ms(item.document.at) for item in numbered]
        messages: dict[BoardKey, list[Received]] = {}
        for item in batch.received:
            messages.setdefault(item.board, []).append(item)
        with self._lock:
            for key, items in messages.items():
                known = self._boards.get(key) or BoardSnapshot(*key)
                self._boards[key] = after(known, items, written.new.get(key, 0))
            for rejected in batch.rejected:
                site, _, device = rejected.board.partition("/")
                key = BoardKey(site, device)
                if key in self._boards:
                    self._boards[key] = replace(self._boards[key], rejected=self._boards[key].rejected + 1)
            self._totals = replace(
                self._totals,
                received=self._totals.received + len(batch),
                duplicates=self._totals.duplicates + written.duplicates,
                rejected=self._totals.rejected + written.rejected,
                lag=self._totals.lag.plus(lags_ms),
            )

    def _tell(self, problem: str | None) -> None:
        with self._lock:
            self._totals = replace(self._totals, problem=problem)
