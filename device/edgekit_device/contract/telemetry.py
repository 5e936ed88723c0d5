"""The documents a board sends: status, Reading, event, result."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from edgekit_device.contract.documents import SCHEMA, Fields, dump, load
from edgekit_device.contract.errors import FieldError
from edgekit_device.contract.usual import usual_reading

STATES = ("online", "stopped", "offline")
# "corrected": made before the clock was right, mended before it was sent for the first time.
CLOCKS = ("synced", "unsynced", "unknown", "corrected")
DECISIONS = ("accepted", "uncertain")
STEPS = ("preprocess", "invoke", "end_to_end")
QUANTILES = ("p50", "p95", "p99")
_INT64 = 2**63
MAX_SEQUENCE = 2**53 - 1  # What JSON carries exactly everywhere.

_BOOT = re.compile(r"[0-9a-f]{32}")
_AT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)


@dataclass(frozen=True)
class Status:
    """Whether a board is there, and what serves on it; retained, and the Last Will.

    Attributes:
        session: Which connection of this boot speaks, 1 upwards; a Last Will carries the number of the connection
            that it belongs to, so one that comes late is known as such. None is not written.
        loss_window_s: At a power cut at most the messages of that many seconds are lost; None, when nothing is
            ever written to disk, is not written.
    """

    state: str
    boot: str
    bundle: str | None
    delegate: str | None
    reason: str | None = None
    session: int | None = None
    loss_window_s: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """The MQTT payload."""
        stated = {"session": self.session, "loss_window_s": self.loss_window_s}
        return dump(
            {
                **self.extra,
                "schema": SCHEMA,
                "state": self.state,
                "boot": self.boot,
                "bundle": self.bundle,
                "delegate": self.delegate,
                "reason": self.reason,
                **{key: value for key, value in stated.items() if value is not None},
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Status:
        """Read a payload.

        Raises:
            FieldError: A field is missing or mistyped.
            SchemaError: A schema this version does not read.
        """
        values = load("status", data)
        read = Fields("status", values)
        return cls(
            state=read.choice("state", STATES),
            boot=_boot(read),
            bundle=read.text_or_none("bundle"),
            delegate=read.text_or_none("delegate"),
            reason=read.text_or_none("reason"),
            session=read.integer_or_none("session", high=MAX_SEQUENCE),
            loss_window_s=read.number_or_none("loss_window_s", low=0),
            extra=_unknown(values, {"schema", *(f.name for f in fields(cls))}),
        )


@dataclass(frozen=True)
class Result:
    """One decision about what the camera shows; sent on change only."""

    label: str
    score: float
    decision: str
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """The MQTT payload."""
        known = {"schema": SCHEMA, "label": self.label, "score": self.score, "decision": self.decision}
        return dump({**self.extra, **known})

    @classmethod
    def from_bytes(cls, data: bytes) -> Result:
        """Read a payload.

        Raises:
            FieldError: A field is missing or mistyped.
            SchemaError: A schema this version does not read.
        """
        values = load("result", data)
        read = Fields("result", values)
        return cls(
            label=read.text("label"),
            score=read.number("score"),
            decision=read.choice("decision", DECISIONS),
            extra=_unknown(values, {"schema", "label", "score", "decision"}),
        )


@dataclass(frozen=True)
class Event:
    """Something that happened once; shares the Readings' sequence."""

    boot: str
    seq: int
    at: str
    kind: str
    reason: str | None
    detail: Mapping[str, Any]
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """The MQTT payload."""
        return dump(
            {
                **self.extra,
                "schema": SCHEMA,
                "boot": self.boot,
                "seq": self.seq,
                "at": self.at,
                "kind": self.kind,
                "reason": self.reason,
                "detail": dict(self.detail),
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Event:
        """Read a payload.

        Raises:
            FieldError: A field is missing or mistyped.
            SchemaError: A schema this version does not read.
        """
        values = load("event", data)
        read = Fields("event", values)
        return cls(
            boot=_boot(read),
            seq=read.integer("seq", high=MAX_SEQUENCE),
            at=read_at(read),
            kind=read.text("kind", limit=64),
            reason=read.text_or_none("reason", limit=4096),
            detail=read.mapping("detail"),
            extra=_unknown(values, {"schema", "boot", "seq", "at", "kind", "reason", "detail"}),
        )


@dataclass(frozen=True)
class Reading:
    """What one board measured in one window. Units are in the names; what is unknown is None.

    Attributes:
        boot: 128 random bits of this start of the supervisor, 32 hex digits.
        seq: Position in this boot's sequence, shared with events.
        at: When the window ended, UTC, millisecond resolution.
        window_s: Length of the window on the monotonic clock.
        fps: New frames that got a result, per second; a frozen camera reads 0.
        capture_fps: New frames the source delivered, per second.
        inference_fps: Inferences per second.
        latency_ms: Per step of STEPS the quantiles p50, p95, p99; waiting time is never included.
        class_counts: Frames per top-1 class index in the window.
        entropy_hist: Counts over 16 equal bins of entropy / ln(classes).
        margin_hist: Counts over 16 equal bins of the top-2 margin.
    """

    site: str
    device: str
    boot: str
    seq: int
    at: str
    clock: str
    window_s: float
    fps: float
    capture_fps: float
    inference_fps: float
    frames_dropped: int
    latency_ms: Mapping[str, Mapping[str, float | None]]
    source: str
    bundle: str | None
    delegate: str | None
    delegate_reason: str | None
    threads: int | None
    cpu_temp_c: float | None = None
    throttled_now: tuple[str, ...] | None = None
    throttled_since_boot: tuple[str, ...] | None = None
    rss_bytes: int | None = None
    load_1m: float | None = None
    disk_free_bytes: int | None = None
    soc_power_w: float | None = None
    energy_per_inference_mj: float | None = None
    label: str | None = None
    score: float | None = None
    class_counts: Mapping[str, int] = field(default_factory=dict)
    entropy_hist: tuple[int, ...] = ()
    margin_hist: tuple[int, ...] = ()
    dropped_ranges: tuple[tuple[int, int], ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The document, ready for `dump`."""
        known = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "extra"}
        return {**self.extra, "schema": SCHEMA, **known}

    def to_bytes(self) -> bytes:
        """The MQTT payload."""
        return dump(self.to_json())

    @classmethod
    def from_bytes(cls, data: bytes) -> Reading:
        """Read a payload.

        Raises:
            FieldError: A field is missing, mistyped or out of range.
            SchemaError: A schema this version does not read.
        """
        values = load("reading", data)
        usual = usual_reading(values, CLOCKS)
        if usual is not None:
            # As __init__ would, without thirty calls of a frozen class's setter.
            found = object.__new__(cls)
            found.__dict__.update(usual, extra={})
            return found
        return cls.from_fields(values)

    @classmethod
    def from_fields(cls, values: Mapping[str, Any]) -> Reading:
        """Read a parsed document field by field.

        Raises:
            FieldError: A field is missing, mistyped or out of range.
        """
        read = Fields("reading", values)
        return cls(
            site=read.text("site", limit=63),
            device=read.text("device", limit=63),
            boot=_boot(read),
            seq=read.integer("seq", high=MAX_SEQUENCE),
            at=read_at(read),
            clock=read.choice("clock", CLOCKS),
            window_s=read.number("window_s", low=0),
            fps=read.number("fps", low=0),
            capture_fps=read.number("capture_fps", low=0),
            inference_fps=read.number("inference_fps", low=0),
            frames_dropped=read.integer("frames_dropped"),
            latency_ms=_latency(read),
            source=read.text("source"),
            bundle=read.text_or_none("bundle"),
            delegate=read.text_or_none("delegate"),
            delegate_reason=read.text_or_none("delegate_reason", limit=4096),
            threads=read.integer_or_none("threads"),
            cpu_temp_c=read.number_or_none("cpu_temp_c"),
            throttled_now=_texts_or_none(read, "throttled_now"),
            throttled_since_boot=_texts_or_none(read, "throttled_since_boot"),
            rss_bytes=read.integer_or_none("rss_bytes"),
            load_1m=read.number_or_none("load_1m", low=0),
            disk_free_bytes=read.integer_or_none("disk_free_bytes"),
            soc_power_w=read.number_or_none("soc_power_w"),
            energy_per_inference_mj=read.number_or_none("energy_per_inference_mj"),
            label=read.text_or_none("label"),
            score=read.number_or_none("score"),
            class_counts=_counts(read),
            entropy_hist=_histogram(read, "entropy_hist"),
            margin_hist=_histogram(read, "margin_hist"),
            dropped_ranges=_ranges(read, "dropped_ranges"),
            extra=_unknown(values, _READING_FIELDS),
        )


_READING_FIELDS = {"schema", *(f.name for f in fields(Reading))}


def _boot(read: Fields) -> str:
    boot = read.text("boot")
    if not _BOOT.fullmatch(boot):
        raise FieldError(read.name, "boot", "must be 32 hex digits")
    return boot


def read_at(read: Fields) -> str:
    """The field `at`, UTC as the contract writes it."""
    at = read.text("at")
    if not _AT.fullmatch(at):
        raise FieldError(read.name, "at", "must look like 2026-11-22T10:00:05.120Z")
    return at


def _latency(read: Fields) -> dict[str, dict[str, float | None]]:
    steps = read.mapping("latency_ms")
    found: dict[str, dict[str, float | None]] = {}
    for step, values in steps.items():
        if len(step) > 64 or not isinstance(values, dict):
            raise FieldError(read.name, "latency_ms", "must hold objects of p50, p95, p99")
        quick = {quantile: values.get(quantile) for quantile in QUANTILES}
        if all(type(value) is float and 0 <= value < 1e300 for value in quick.values()):
            found[step] = quick
            continue
        inner = Fields(f"{read.name}.latency_ms", values)
        found[step] = {q: inner.number_or_none(q, low=0) for q in QUANTILES}
    return found


def _texts_or_none(read: Fields, key: str) -> tuple[str, ...] | None:
    return None if read.values.get(key) is None else read.texts(key, limit=64)


def _is_class(key: str) -> bool:
    return key.isascii() and key.isdigit() and len(key) <= 6


def _counts(read: Fields) -> dict[str, int]:
    counts = read.mapping("class_counts")
    if all(type(c) is int and 0 <= c < _INT64 for c in counts.values()) and all(map(_is_class, counts)):
        return dict(counts)
    inner = Fields(f"{read.name}.class_counts", counts)
    for key in counts:
        if not _is_class(key):
            raise FieldError(inner.name, key[:20], "is not a class index")
    return {key: inner.integer(key) for key in counts}


def _histogram(read: Fields, key: str) -> tuple[int, ...]:
    bins = read.listing(key, limit=256)
    # A collector reads thousands of these a second; the slow way is only for saying what is wrong.
    if all(type(count) is int and 0 <= count < _INT64 for count in bins):
        return tuple(bins)
    inner = Fields(f"{read.name}.{key}", {str(i): b for i, b in enumerate(bins)})
    return tuple(inner.integer(str(i)) for i in range(len(bins)))


def _ranges(read: Fields, key: str) -> tuple[tuple[int, int], ...]:
    found = []
    for pair in read.listing(key, limit=10_000):
        if not isinstance(pair, list) or len(pair) != 2:
            raise FieldError(read.name, key, "must hold pairs [from, to]")
        inner = Fields(f"{read.name}.{key}", {"from": pair[0], "to": pair[1]})
        found.append((inner.integer("from", high=MAX_SEQUENCE), inner.integer("to", high=MAX_SEQUENCE)))
    return tuple(found)


def _unknown(values: Mapping[str, Any], known: set[str]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in known}
