"""From MQTT message to rows: decode with the contract, or keep aside with the reason. No database here."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

from edgekit_device.contract.ack import Ranges
from edgekit_device.contract.dropped import EARLIER, OWN, read_dropped
from edgekit_device.contract.errors import ContractError, FieldError
from edgekit_device.contract.reported import Reported
from edgekit_device.contract.telemetry import Event, Reading, Result, Status
from edgekit_device.contract.topics import EVENT, REPORTED, RESULT, STATUS, TELEMETRY, parse

MAX_PAYLOAD_BYTES = 64 << 10
KEPT_BYTES = 4096
LATENCY_COLUMNS = {
    f"{step}_{quantile}_ms": (step, quantile)
    for step in ("preprocess", "invoke", "end_to_end")
    for quantile in ("p50", "p95")
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_MS = 86_400_000
_UNKNOWN: Mapping[str, float | None] = {"p50": None, "p95": None}
_BOOT = re.compile(r"[0-9a-f]{32}", re.ASCII)

Document: TypeAlias = Reading | Event | Status | Reported | Result


class BoardKey(NamedTuple):
    """Which board."""

    site: str
    device: str


class Received(NamedTuple):
    """One valid message."""

    board: BoardKey
    document: Document
    payload: bytes


class Numbered(NamedTuple):
    """One valid message of a board's sequence."""

    board: BoardKey
    document: Reading | Event
    payload: bytes


class ReadingRow(NamedTuple):
    """A row of `readings`; named and ordered as its columns."""

    board: int
    boot: int
    day: int
    seq: int
    at: int
    received: int
    fps: float
    capture_fps: float
    inference_fps: float
    preprocess_p50_ms: float | None
    preprocess_p95_ms: float | None
    invoke_p50_ms: float | None
    invoke_p95_ms: float | None
    end_to_end_p50_ms: float | None
    end_to_end_p95_ms: float | None
    label: str | None
    score: float | None
    delegate: str | None
    bundle: str | None
    payload: bytes


class EventRow(NamedTuple):
    """A row of `events`."""

    board: int
    boot: int
    day: int
    seq: int
    at: int
    received: int
    kind: str
    reason: str | None
    payload: bytes


class Rejected(NamedTuple):
    """One message that breaks the contract, kept aside.

    Attributes:
        board: ``site/device`` of the topic, or ``?`` where the topic is not ours.
        error: What is wrong with it.
        payload: Its first bytes.
    """

    board: str
    error: str
    payload: bytes


@dataclass
class Batch:
    """What is written in one transaction."""

    received: list[Received] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)

    def numbered(self) -> Iterator[Numbered]:
        """The messages that have a place in their board's sequence."""
        for board, document, payload in self.received:
            if isinstance(document, Reading | Event):
                yield Numbered(board, document, payload)

    def boots(self) -> Iterator[tuple[BoardKey, str]]:
        """Every boot that a numbered message is of, or speaks of."""
        for board, document, _ in self.numbered():
            yield board, document.boot
            yield from ((board, boot) for boot in dropped_by(document))

    def add(self, topic: str, payload: bytes) -> Received | Rejected:
        """Decode one message into the batch; never raises for what a board sent."""
        message = decode(topic, payload)
        if isinstance(message, Rejected):
            self.rejected.append(message)
        else:
            self.received.append(message)
        return message

    def __len__(self) -> int:
        return len(self.received) + len(self.rejected)


def decode(topic: str, payload: bytes) -> Received | Rejected:
    """Read one message by the contract.

    Args:
        topic: As the broker delivered it.
        payload: At most MAX_PAYLOAD_BYTES.
    """
    address = _addressed(topic)
    if address is None:
        return Rejected("?", f"topic {topic[:100]!r} is not one of ours", payload[:KEPT_BYTES])
    board, kind = address
    try:
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise FieldError(kind, "", f"is {len(payload)} bytes, over {MAX_PAYLOAD_BYTES}")
        document = _READERS.get(kind, _not_for_the_host)(payload)
        if isinstance(document, Reading) and (document.site, document.device) != board:
            found = f"{document.site}/{document.device}"
            raise FieldError("reading", "device", f"says {found[:130]}, the topic says {'/'.join(board)}")
        if isinstance(document, Reading | Event):
            at_ms(document.at)
            dropped_by(document)
    except ContractError as cause:
        # The message may quote what a board sent: one line, and what every database stores.
        error = str(cause).encode("utf-8", "replace").decode("utf-8").replace("\0", " ")
        return Rejected("/".join(board), " ".join(error.split())[:500], payload[:KEPT_BYTES])
    return Received(board, document, payload)


@lru_cache(maxsize=1 << 16)
def _addressed(topic: str) -> tuple[BoardKey, str] | None:
    address = parse(topic)
    return None if address is None else (BoardKey(address.site, address.device), address.kind.name)


def _not_for_the_host(payload: bytes) -> Document:
    raise FieldError("message", "topic", "is not one that boards send to the collector")


_READERS: Mapping[str, Any] = {
    REPORTED.name: Reported.from_bytes,
    TELEMETRY.name: Reading.from_bytes,
    EVENT.name: Event.from_bytes,
    STATUS.name: Status.from_bytes,
    RESULT.name: Result.from_bytes,
}


def at_ms(at: str) -> int:
    """A contract time as ms since 1970.

    Raises:
        FieldError: It looks right and is no date, e.g. the 31st of February.
    """
    try:
        return (datetime.fromisoformat(at) - _EPOCH) // timedelta(milliseconds=1)
    except ValueError as cause:
        raise FieldError("message", "at", f"is no date ({cause})") from cause


def dropped_by(document: Reading | Event) -> Mapping[str, Ranges]:
    """What a message says its board holds no more, per boot.

    Raises:
        FieldError: It does not say so in ranges of boots.
    """
    own = document.dropped_ranges if isinstance(document, Reading) else document.extra.get(OWN)
    earlier = document.extra.get(EARLIER)
    if not own and not earlier:
        return {}
    listed = [list(pair) if isinstance(pair, tuple) else pair for pair in own] if isinstance(own, tuple) else own
    found = read_dropped({"boot": document.boot, OWN: listed, EARLIER: earlier})
    for boot in found:
        if not _BOOT.fullmatch(boot):
            raise FieldError("dropped", EARLIER, f"names {boot!r}, which is not 32 hex digits")
    return found


def reading_row(key: tuple[int, int], received: int, reading: Reading, payload: bytes) -> ReadingRow:
    """The row of a Reading.

    Args:
        key: Row ids of board and boot.
        received: The host's clock, UTC, ms since 1970.
        reading: Decoded.
        payload: The same as it came.
    """
    at = at_ms(reading.at)
    latency = reading.latency_ms
    preprocess, invoke, whole = (latency.get(step, _UNKNOWN) for step in ("preprocess", "invoke", "end_to_end"))
    return ReadingRow(
        *key, at // _DAY_MS, reading.seq, at, received, reading.fps, reading.capture_fps, reading.inference_fps,
        preprocess["p50"], preprocess["p95"], invoke["p50"], invoke["p95"], whole["p50"], whole["p95"],
        reading.label, reading.score, reading.delegate, reading.bundle, zlib.compress(payload),
    )  # fmt: skip


def event_row(key: tuple[int, int], received: int, event: Event, payload: bytes) -> EventRow:
    """The row of an event; arguments as in `reading_row`."""
    at = at_ms(event.at)
    return EventRow(
        *key, at // _DAY_MS, event.seq, at, received, event.kind, event.reason, zlib.compress(payload)
    )  # fmt: skip


class Standing(NamedTuple):
    """Whose status is known: which start of the board, and which of its connections."""

    boot: str | None = None
    session: int | None = None


def supersedes(new: Status, known: Standing) -> bool:
    """Whether a status replaces the one that is known.

    A Last Will can arrive after the board is back, with another boot or on another connection; it speaks of what
    ended.

    Args:
        new: The status that arrived.
        known: Whose status is known.
    """
    if known.boot is None:
        return True
    if new.boot != known.boot:
        return new.state == "online"
    return new.session is None or known.session is None or new.session >= known.session
