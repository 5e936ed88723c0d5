"""A numbered message, a batch of them on disk, and the limits of both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from edgekit_device.contract.ack import Ranges


class Key(NamedTuple):
    """What names a message for ever."""

    boot: str
    seq: int


@dataclass(slots=True)
class Message:
    """One numbered document on its way.

    Attributes:
        kind: Name of its topic kind.
        payload: As it goes over the wire; frozen from the first time it is sent.
        made_s: Monotonic.
        unsure: Its `at` is of a clock that was not right; may be mended until it is first sent.
        batch: Number of the outbox batch that it was read from.
        delivered_s: When the broker acknowledged it.
        tries: How often it was handed to the link.
        due_s: Not before that time.
        backlog: It waits behind live messages.
    """

    key: Key
    kind: str
    payload: bytes
    made_s: float
    unsure: bool = False
    batch: int | None = None
    delivered_s: float | None = None
    tries: int = 0
    due_s: float = 0.0
    backlog: bool = False


@dataclass(slots=True)
class Batch:
    """What is known of one batch in the outbox without reading it.

    Attributes:
        left: Sequence numbers in it that no ack covers.
        size_bytes: Room it takes on disk.
        unsure: Holds messages whose `at` may still be mended.
        made_at: Wall-clock seconds of the oldest; None where the clock was not right.
    """

    number: int
    boot: str
    left: Ranges
    size_bytes: int
    unsure: bool = False
    made_at: float | None = None
    delivered_s: float | None = None
    tries: int = 0
    due_s: float = 0.0


@dataclass(frozen=True)
class Limits:
    """How much, and when.

    Attributes:
        spool_after_s: Unacknowledged this long, messages go to the outbox: the declared window of loss.
        window: Messages in flight; a broker's receive maximum may make it smaller.
        backlog_share: Part of the window that backlog may take.
        backlog_hz: Backlog messages a second.
        settle_s: After connecting, backlog waits that long for the retained ack.
        clock_wait_s: After connecting, messages with a wrong clock wait that long for a right one.
        hold_s: A delivered message is not sent again sooner; doubled with each try. Longer than collectors take to
            acknowledge.
        hold_cap_s: Longest such wait.
        silence_s: No news from a known collector for that long starts a probe; doubled with each.
        probe: Messages in one probe.
        memory_messages: Most messages in memory; half of it makes spooling due at once.
        memory_bytes: The same in bytes.
        outbox_bytes: Most bytes on disk.
        outbox_age_s: Oldest messages on disk.
    """

    spool_after_s: float = 60.0
    window: int = 20
    backlog_share: float = 0.5
    backlog_hz: float = 50.0
    settle_s: float = 2.0
    clock_wait_s: float = 30.0
    hold_s: float = 40.0
    hold_cap_s: float = 600.0
    silence_s: float = 120.0
    probe: int = 20
    memory_messages: int = 4000
    memory_bytes: int = 8 << 20
    outbox_bytes: int = 64_000_000
    outbox_age_s: float = 7 * 86_400.0
