"""What the host wants of a board: which bundle, and the little configuration that may travel over MQTT.

Data only: nothing in these documents names code, a path or a command. Everything else needs a signed bundle or SSH.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeAlias

from edgekit_device.contract.documents import SCHEMA, Fields, dump, load
from edgekit_device.contract.errors import FieldError, UsageError
from edgekit_device.contract.ids import split_bundle_id

Region: TypeAlias = tuple[float, float, float, float]
Window: TypeAlias = tuple[str, str]

INTERVAL_S = (0.05, 86_400.0)
# Slower than this, a board would take a download for a stalled one.
MIN_BYTES_PER_S = 4096
MAX_JITTER_S = 86_400.0
WATCH_S = 60.0
WATCH_INTERVAL_S = 2.0
_WATCH_LIMITS_S = (0.5, 60.0)
_TIME_OF_DAY = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]", re.ASCII)
_WORD = re.compile(r"[A-Za-z0-9._:-]{1,64}", re.ASCII)
# The keys of smoothing.SmoothingRule, with the range of each.
THRESHOLDS = {"threshold": (0.0, 1.0), "attempts": (1.0, 100.0), "consensus": (0.0, 1.0), "history": (1.0, 100.0)}


@dataclass(frozen=True)
class Desired:
    """What should run; retained. A field that is None is not asked for, and the board's own setting stands.

    Attributes:
        bundle: ``NAME-VERSION`` of the bundle that should run.
        runtime: ``NAME-VERSION`` of the runtime release that should run it.
        force: A word, another one each time: what was rejected before is tried once more for each new word. A flag
            would try for ever, for this document is retained.
        max_bytes_per_s: A download is no faster than that.
        jitter_s: A download begins at a random moment within so many seconds, so that a fleet does not ask at once.
        window: Downloads and trials begin only between these times of day, UTC; it may span midnight.
        interval_s: Seconds between Readings.
        thresholds: Of a decision: threshold, attempts, consensus, history; keys of a later version are kept.
        region: The part of the frame that is looked at: left, top, width, height as fractions of the frame.
        extra: Fields of a newer minor version, kept as they are.
    """

    bundle: str | None = None
    runtime: str | None = None
    force: str | None = None
    max_bytes_per_s: int | None = None
    jitter_s: float | None = None
    window: Window | None = None
    interval_s: float | None = None
    thresholds: Mapping[str, Any] | None = None
    region: Region | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """The MQTT payload."""
        known = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "extra"}
        return dump({**self.extra, "schema": SCHEMA, **known})

    @classmethod
    def from_bytes(cls, data: bytes) -> Desired:
        """Read a payload.

        Raises:
            FieldError: A field is mistyped or out of range.
            SchemaError: A schema this version does not read.
        """
        values = load("desired", data)
        read = Fields("desired", values)
        return cls(
            bundle=read_bundle(read),
            runtime=read_bundle(read, "runtime"),
            force=read_word(read, "force"),
            max_bytes_per_s=read.integer_or_none("max_bytes_per_s", low=MIN_BYTES_PER_S),
            jitter_s=_number_or_none(read, "jitter_s", 0.0, MAX_JITTER_S),
            window=read_window(read),
            interval_s=_number_or_none(read, "interval_s", *INTERVAL_S),
            thresholds=read_thresholds(read),
            region=read_region(read),
            extra=_unknown(cls, values),
        )


@dataclass(frozen=True)
class Watch:
    """Somebody looks at this board: Readings come faster for a while. Not retained; asked again while it lasts.

    Attributes:
        seconds: How long, from when the board hears it; at most a minute.
        interval_s: Seconds between Readings meanwhile.
    """

    seconds: float = WATCH_S
    interval_s: float = WATCH_INTERVAL_S
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """The MQTT payload."""
        return dump({**self.extra, "schema": SCHEMA, "seconds": self.seconds, "interval_s": self.interval_s})

    @classmethod
    def from_bytes(cls, data: bytes) -> Watch:
        """Read a payload.

        Raises:
            FieldError: A field is missing, mistyped or out of range.
            SchemaError: A schema this version does not read.
        """
        values = load("watch", data)
        read = Fields("watch", values)
        return cls(
            seconds=read.number("seconds", low=0.0, high=WATCH_S),
            interval_s=read.number("interval_s", low=_WATCH_LIMITS_S[0], high=_WATCH_LIMITS_S[1]),
            extra=_unknown(cls, values),
        )


def read_bundle(read: Fields, key: str = "bundle") -> str | None:
    """``NAME-VERSION`` or None."""
    found = read.text_or_none(key, limit=128)
    if found is not None:
        try:
            split_bundle_id(found)
        except UsageError as cause:
            raise FieldError(read.name, key, f"must look like lite0-1.0.0 ({cause})") from cause
    return found


def read_word(read: Fields, key: str) -> str | None:
    """A short word that means nothing but that it is another one, or None."""
    found = read.text_or_none(key, limit=64)
    if found is not None and not _WORD.fullmatch(found):
        raise FieldError(read.name, key, "must be 1 to 64 letters, digits, '.', '_', ':' or '-'")
    return found


def read_window(read: Fields, key: str = "window") -> Window | None:
    """Two times of day, ``["02:00", "04:30"]``, or None."""
    if read.values.get(key) is None:
        return None
    found = read.texts(key, limit=2)
    if len(found) != 2 or not all(_TIME_OF_DAY.fullmatch(time) for time in found) or found[0] == found[1]:
        raise FieldError(read.name, key, 'must be two different times of day, UTC, such as ["02:00", "04:30"]')
    return found[0], found[1]


def read_thresholds(read: Fields, key: str = "thresholds") -> dict[str, Any] | None:
    """Known thresholds checked, others kept; None where there are none."""
    if read.values.get(key) is None:
        return None
    found = read.mapping(key)
    inner = Fields(f"{read.name}.{key}", found)
    for name in THRESHOLDS.keys() & found.keys():
        inner.number(name, low=THRESHOLDS[name][0], high=THRESHOLDS[name][1])
    return found


def read_region(read: Fields, key: str = "region") -> Region | None:
    """Four fractions that lie inside the frame, or None."""
    if read.values.get(key) is None:
        return None
    numbers = read.numbers(key, limit=4)
    if len(numbers) != 4:
        raise FieldError(read.name, key, "must hold left, top, width and height")
    left, top, width, height = numbers
    if min(left, top) < 0 or min(width, height) <= 0 or left + width > 1 or top + height > 1:
        raise FieldError(read.name, key, "must lie inside the frame: fractions, left + width and top + height up to 1")
    return left, top, width, height


def _number_or_none(read: Fields, key: str, low: float, high: float) -> float | None:
    return None if read.values.get(key) is None else read.number(key, low=low, high=high)


def _unknown(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    known = {"schema", *(f.name for f in fields(cls))}
    return {key: value for key, value in values.items() if key not in known}
