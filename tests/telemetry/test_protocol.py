"""The protocol under every interleaving that Hypothesis finds: a board, a broker that forgets, two collectors.

Everything but the decisions is a model here, and the decisions are the board's own: `Delivery` and `Dropped`. The
outbox survives a crash of the board, memory does not; the database survives everything; the broker forgets at will.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edgekit_device.contract.ack import Ack, merge_ranges
from edgekit_device.publish.delivery import Delivery
from edgekit_device.publish.dropped import Dropped
from edgekit_device.publish.messages import Batch, Key, Limits, Message

SIZE = 10
LIMITS = Limits(window=4, settle_s=1.0, memory_messages=30, outbox_bytes=SIZE * 40, outbox_age_s=1e9)


class Board:
    """One start of the board, on the outbox that the one before left."""

    def __init__(
        self, boot: str, disk: dict[int, list[Message]], told: dict, now_s: float, numbers: Callable[[], int]
    ) -> None:
        self.boot, self.disk, self.seq = boot, disk, 0
        batches = [
            Batch(number, kept[0].key.boot, merge_ranges((m.key.seq, m.key.seq) for m in kept), SIZE * len(kept))
            for number, kept in sorted(disk.items())
        ]
        self.delivery = Delivery(LIMITS, batches)
        self.dropped = Dropped(boot, told)
        self.now_s = now_s
        self.numbers = numbers

    def make(self) -> Key:
        key = Key(self.boot, self.seq)
        self.seq += 1
        told = self.dropped.to_tell(key.seq)
        self.delivery.make(Message(key, "telemetry", repr((key, told)).encode(), self.now_s))
        return key

    def keep(self, *, disk_works: bool, everything: bool = False) -> None:
        """What the keeper does in one turn."""
        if disk_works:
            for group in self.delivery.to_spool(self.now_s, everything=everything):
                number = self.numbers()
                self.disk[number] = [Message(m.key, m.kind, m.payload, m.made_s) for m in group]
                self.delivery.spooled(number, group, SIZE * len(group))
            for number in self.delivery.backlog.to_drop(None):
                self.dropped.add(*self.delivery.give_up(number))
                self.disk.pop(number, None)
            number = self.delivery.wants_batch(self.now_s)
            if number is not None:
                kept = [Message(m.key, m.kind, m.payload, m.made_s) for m in self.disk[number]]
                assert self.delivery.load(number, kept)
        for boot, ranges in self.delivery.drop_from_memory().items():
            self.dropped.add(boot, ranges)

    def hear(self, ack: Ack) -> None:
        for number in self.delivery.acknowledge(ack, self.now_s):
            self.disk.pop(number, None)
        self.dropped.heard(ack)

    def holds(self) -> set[Key]:
        return {*self.delivery.memory, *(m.key for kept in self.disk.values() for m in kept)}


class Protocol(RuleBasedStateMachine):
    """Rules are what the world does; invariants are what EdgeKit promises."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 1000.0
        self.boots = 0
        self.numbers = itertools.count(1).__next__  # Never given twice, as AUTOINCREMENT in the outbox.
        self.made: set[Key] = set()
        self.disk: dict[int, list[Message]] = {}
        self.told: dict = {}
        self.board = self.start()
        # The broker: a queue per collector session, one retained ack, and PUBACKs under way.
        self.queue: list[list[tuple[Key, bytes]]] = [[], []]
        self.turn = 0
        self.retained: Ack | None = None
        self.pubacks: list[Key] = []
        # The collectors: what they took and did not commit; the database; boards that are due an ack.
        self.taken: list[list[tuple[Key, bytes]]] = [[], []]
        self.alive = [True, True]
        self.rows: Counter[Key] = Counter()
        self.payloads: dict[Key, bytes] = {}
        self.promised: set[Key] = set()
        self.given_up: set[Key] = set()
        self.lost_in_memory: set[Key] = set()
        self.disk_works = True

    def start(self) -> Board:
        self.boots += 1
        return Board(f"{self.boots:032x}", self.disk, self.told, self.now_s, self.numbers)

    # -- the board -------------------------------------------------------------------------------------------

    @rule(count=st.integers(1, 8))
    def the_board_makes_messages(self, count: int) -> None:
        for _ in range(count):
            self.made.add(self.board.make())

    @rule(seconds=st.sampled_from([0.5, 5.0, 45.0, 130.0]))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds
        self.board.now_s = self.now_s
        self.board.delivery.tick(self.now_s)
        self.keep()

    def keep(self, *, everything: bool = False) -> None:
        before = self.board.holds()
        self.board.keep(disk_works=self.disk_works, everything=everything)
        self.given_up |= before - self.board.holds()
        self.told = self.board.dropped.ranges

    @rule()
    def the_board_sends(self) -> None:
        while (message := self.board.delivery.next(self.now_s)) is not None:
            self.arrive(message)
        self.keep()

    def arrive(self, message: Message) -> None:
        self.turn ^= 1
        self.queue[self.turn].append((message.key, message.payload))
        self.pubacks.append(message.key)

    @rule(count=st.sampled_from([1, 3, 100]))
    def pubacks_reach_the_board(self, count: int) -> None:
        for key in self.pubacks[:count]:
            self.board.delivery.deliver(key, self.now_s)
        del self.pubacks[:count]

    @rule(acknowledged=st.integers(0, 9))
    def a_while_online(self, acknowledged: int) -> None:
        """The common course of things, so that rare ones meet boards that are well under way."""
        if not self.board.delivery.connected:
            self.the_board_connects()
        for _ in range(3):
            self.the_board_makes_messages(2)
            self.time_passes(45.0)
            self.the_board_sends()
            self.pubacks_reach_the_board(acknowledged)

    @precondition(lambda self: self.pubacks)
    @rule()
    def the_broker_refuses_one(self) -> None:
        # Its rules changed; the message never was queued.
        key = self.pubacks.pop()
        for queue in self.queue:
            queue[:] = [item for item in queue if item[0] != key]
        self.board.delivery.refuse(key, self.now_s)

    @precondition(lambda self: not self.board.delivery.connected)
    @rule()
    def the_board_connects(self) -> None:
        self.board.delivery.connect(self.now_s)
        if self.retained:
            self.board.hear(self.retained)

    @rule()
    def the_link_breaks(self) -> None:
        self.board.delivery.disconnect()
        self.pubacks.clear()

    @rule()
    def the_board_is_killed(self) -> None:
        self.lost_in_memory |= {*self.board.delivery.memory} - {m.key for kept in self.disk.values() for m in kept}
        self.pubacks.clear()
        self.board = self.start()

    @rule()
    def the_board_stops_and_starts(self) -> None:
        self.disk_works = True
        self.keep(everything=True)
        self.pubacks.clear()
        self.board = self.start()

    @rule()
    def the_disk_breaks_or_mends(self) -> None:
        self.disk_works = not self.disk_works

    # -- the broker ------------------------------------------------------------------------------------------

    @rule()
    def the_broker_is_killed_and_forgets(self) -> None:
        self.queue = [[], []]
        self.retained = None
        self.pubacks.clear()
        self.board.delivery.disconnect()

    @rule(which=st.integers(0, 1))
    def the_broker_delivers_twice(self, which: int) -> None:
        self.queue[which] += self.queue[which][:3]

    # -- the collectors --------------------------------------------------------------------------------------

    @rule(which=st.integers(0, 1), count=st.integers(1, 10))
    def a_collector_takes(self, which: int, count: int) -> None:
        if self.alive[which]:
            self.taken[which] += self.queue[which][:count]
            del self.queue[which][:count]

    @rule(which=st.integers(0, 1))
    def a_collector_commits(self, which: int) -> None:
        for key, payload in self.taken[which]:
            assert self.payloads.setdefault(key, payload) == payload, "the bytes of a message changed"
            self.rows[key] = 1  # INSERT ... ON CONFLICT DO NOTHING
        self.taken[which] = []

    @rule()
    def an_ack_is_published(self) -> None:
        stored: dict[str, list[tuple[int, int]]] = {}
        for boot, seq in self.rows:
            stored.setdefault(boot, []).append((seq, seq))
        self.retained = Ack({boot: merge_ranges(pairs) for boot, pairs in stored.items()})
        self.promised |= set(self.rows)
        if self.board.delivery.connected:
            self.board.hear(self.retained)

    @rule(which=st.integers(0, 1))
    def a_collector_is_killed(self, which: int) -> None:
        # What it took and did not commit was not acknowledged to the broker: the session keeps it.
        self.queue[which] = self.taken[which] + self.queue[which]
        self.taken[which] = []
        self.alive[which] = not self.alive[which]

    # -- the promises ----------------------------------------------------------------------------------------

    @invariant()
    def nothing_that_an_ack_names_is_lost_or_doubled(self) -> None:
        assert self.promised <= set(self.rows)
        assert set(self.rows.values()) <= {1}

    @invariant()
    def the_board_forgets_only_what_is_stored_or_given_up(self) -> None:
        forgotten = self.made - self.board.holds() - self.lost_in_memory
        assert forgotten <= set(self.rows) | self.given_up

    @invariant()
    def memory_and_disk_keep_their_bounds(self) -> None:
        # A turn of the keeper comes after at most one burst.
        assert len(self.board.delivery.memory) <= LIMITS.memory_messages + 8 * 60

    def teardown(self) -> None:
        """From any state, once everything works for a while, everything that is still held is stored."""
        self.disk_works, self.alive = True, [True, True]
        for _ in range(400):
            if not self.board.holds() - set(self.rows) and not self.board.holds():
                break
            if not self.board.delivery.connected:
                self.the_board_connects()
            self.time_passes(5.0)
            for _ in range(10):
                self.the_board_sends()
                self.pubacks_reach_the_board(100)
            for which in (0, 1):
                self.a_collector_takes(which, 1000)
                self.a_collector_commits(which)
            self.an_ack_is_published()
        assert not self.board.holds(), "something is held for ever"
        assert self.made <= set(self.rows) | self.given_up | self.lost_in_memory
        # What was given up is told: by what is stored, or it will be by the next message.
        stored_said = b" ".join(self.payloads.values()).decode()
        for boot, _ in self.given_up - set(self.rows):
            assert boot in stored_said or boot in self.board.dropped.ranges


Protocol.TestCase.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestProtocol = Protocol.TestCase


@pytest.mark.parametrize("seconds", [45.0, 130.0], ids=["in memory", "in the outbox"])
def test_what_a_forgetful_broker_lost_is_noticed_by_the_next_ack(seconds: float) -> None:
    """The rule of holes, step by step: delivered, forgotten, and found because something later is stored."""
    world = Protocol()
    world.the_board_connects()
    world.the_board_makes_messages(3)
    world.the_board_sends()
    world.pubacks_reach_the_board(3)
    world.queue = [[], []]  # Acknowledged by the broker, and gone.
    world.now_s += 1
    world.board.now_s = world.now_s
    world.the_board_makes_messages(1)
    world.the_board_sends()
    world.pubacks_reach_the_board(1)
    world.a_collector_takes(0, 10)
    world.a_collector_takes(1, 10)
    world.a_collector_commits(0)
    world.a_collector_commits(1)
    world.an_ack_is_published()
    assert len(world.rows) == 1
    world.time_passes(seconds)
    for _ in range(3):  # The outbox is read first, and backlog has a share of the window only.
        world.the_board_sends()
        world.pubacks_reach_the_board(10)
    for which in (0, 1):
        world.a_collector_takes(which, 10)
        world.a_collector_commits(which)
    world.an_ack_is_published()
    assert set(world.rows) == world.made
    assert not world.board.holds()
