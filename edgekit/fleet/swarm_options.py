"""How simulated boards send, and what a run of them came to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SwarmOptions:
    """How the boards of one run send.

    Attributes:
        seconds: How long they make messages.
        wait_s: How long to wait for acks after that.
        patience_s: A message without an ack is sent again after so long.
        backlog_hz: Most old messages that one board sends in a second, so that news never waits for them.
        first_delay_s: Upper bound of the first, random, wait before connecting again; it doubles up to `delay_cap_s`.
    """

    seconds: float = 60.0
    wait_s: float = 180.0
    patience_s: float = 60.0
    backlog_hz: int = 20
    first_delay_s: float = 10.0
    delay_cap_s: float = 60.0


@dataclass
class SwarmResult:
    """What a run came to.

    Attributes:
        boards: How many took part.
        made: Messages made.
        sent: Of these, accepted by the broker at least once.
        acked: Of these, covered by an ack.
        resent: Times that a message was sent again.
        refused: Times that the broker refused one.
        connections: Times that a board connected.
        waited_s: From the last message made until the last ack.
        fetched_bytes: Fetched from a repository, by boards that follow updates.
    """

    boards: int
    made: int = 0
    sent: int = 0
    acked: int = 0
    resent: int = 0
    refused: int = 0
    connections: int = 0
    waited_s: float = 0.0
    fetched_bytes: int = 0
    problem: str | None = None
