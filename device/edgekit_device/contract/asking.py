"""What the host may ask of a board, and the board's answer: `request` and `answer`.

A request is one word of three and a number to know the answer by. It cannot name code, a path or a command.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from edgekit_device.contract.documents import SCHEMA, Fields, dump, load
from edgekit_device.contract.errors import FieldError
from edgekit_device.contract.telemetry import read_at

LOGS, DOCTOR, PICTURE = "logs", "doctor", "picture"
WHAT = (LOGS, DOCTOR, PICTURE)
DONE, REFUSED, FAILED = "done", "refused", "failed"
OUTCOMES = (DONE, REFUSED, FAILED)
# Brokers here take 256 KiB a message; a picture is a third larger as text.
MAX_ANSWER_BYTES = 200 << 10
MAX_PICTURE_BYTES = 128 << 10
MAX_LINES, MAX_LINE = 200, 400
MAX_FINDINGS = 64
_MAX_TEXT = 1000
_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_JPEG = (b"\xff\xd8\xff", b"\xff\xd9")


class Line(NamedTuple):
    """One line of a board's log.

    Attributes:
        at: UTC, as the contract writes times, by the board's clock.
        text: Without secrets.
    """

    at: str
    text: str


class Check(NamedTuple):
    """One finding of the board's doctor; `state` is ``ok``, ``warn``, ``fail`` or ``unknown``."""

    check: str
    state: str
    detail: str
    remedy: str | None


@dataclass(frozen=True)
class Request:
    """The host asks; never retained, best effort, forgotten by a board that is away.

    Attributes:
        number: 32 hex digits, random: the answer repeats it.
        what: One of `WHAT`.
    """

    number: str
    what: str
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """The MQTT payload."""
        return dump({**self.extra, "schema": SCHEMA, "id": self.number, "what": self.what})

    @classmethod
    def from_bytes(cls, data: bytes) -> Request:
        """Read a payload.

        Raises:
            FieldError: A field is missing or mistyped, or another thing is asked for.
            SchemaError: A schema this version does not read.
        """
        values = load("request", data)
        read = Fields("request", values)
        extra = {key: value for key, value in values.items() if key not in ("schema", "id", "what")}
        return cls(_number(read), read.choice("what", WHAT), extra)


@dataclass(frozen=True)
class Answer:
    """What a board says to one request.

    Attributes:
        number: Of the request.
        what: Of the request.
        at: When it was made; UTC by the board's clock.
        outcome: One of `OUTCOMES`.
        reason: Why it is not done; None if it is.
        lines: For ``logs``, oldest first.
        findings: For ``doctor``.
        picture: For ``picture``: a JPEG.
    """

    number: str
    what: str
    at: str
    outcome: str = DONE
    reason: str | None = None
    lines: tuple[Line, ...] = ()
    findings: tuple[Check, ...] = ()
    picture: bytes | None = field(default=None, repr=False)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """The MQTT payload."""
        known = {
            "schema": SCHEMA,
            "id": self.number,
            "what": self.what,
            "at": self.at,
            "outcome": self.outcome,
            "reason": self.reason,
            "lines": [list(line) for line in self.lines],
            "findings": [finding._asdict() for finding in self.findings],
            "picture": None if self.picture is None else base64.b64encode(self.picture).decode(),
        }
        return dump({**self.extra, **known})

    @classmethod
    def from_bytes(cls, data: bytes) -> Answer:
        """Read a payload.

        Raises:
            FieldError: It is too large, or a field is missing, mistyped or too long.
            SchemaError: A schema this version does not read.
        """
        if len(data) > MAX_ANSWER_BYTES:
            raise FieldError("answer", "", f"is {len(data)} bytes, over the limit of {MAX_ANSWER_BYTES}")
        values = load("answer", data)
        read = Fields("answer", values)
        known = ("schema", "id", "what", "at", "outcome", "reason", "lines", "findings", "picture")
        return cls(
            number=_number(read),
            what=read.choice("what", WHAT),
            at=read_at(read),
            outcome=read.choice("outcome", OUTCOMES),
            reason=read.text_or_none("reason", limit=_MAX_TEXT),
            lines=tuple(_line(read, pair) for pair in read.listing("lines", limit=MAX_LINES)),
            findings=tuple(_finding(read, item) for item in read.listing("findings", limit=MAX_FINDINGS)),
            picture=_picture(read),
            extra={key: value for key, value in values.items() if key not in known},
        )


def _number(read: Fields) -> str:
    found = read.text("id", limit=32)
    if not _ID.fullmatch(found):
        raise FieldError(read.name, "id", "must be 32 hex digits")
    return found


def _line(read: Fields, pair: Any) -> Line:
    if not isinstance(pair, list) or len(pair) != 2:
        raise FieldError(read.name, "lines", "must hold pairs of time and text")
    inner = Fields(f"{read.name}.lines", {"at": pair[0], "text": pair[1]})
    return Line(read_at(inner), inner.text("text", limit=MAX_LINE))


def _finding(read: Fields, item: Any) -> Check:
    if not isinstance(item, dict):
        raise FieldError(read.name, "findings", "must hold objects")
    inner = Fields(f"{read.name}.findings", item)
    return Check(
        inner.text("check", limit=64),
        inner.choice("state", ("ok", "warn", "fail", "unknown")),
        inner.text("detail", limit=_MAX_TEXT),
        inner.text_or_none("remedy", limit=_MAX_TEXT),
    )


def _picture(read: Fields) -> bytes | None:
    text = read.text_or_none("picture", limit=MAX_ANSWER_BYTES)
    if text is None:
        return None
    try:
        found = base64.b64decode(text, validate=True)
    except binascii.Error as cause:
        raise FieldError(read.name, "picture", "is not base64") from cause
    if not found.startswith(_JPEG[0]) or not found.endswith(_JPEG[1]) or len(found) > MAX_PICTURE_BYTES:
        raise FieldError(read.name, "picture", f"is no JPEG of at most {MAX_PICTURE_BYTES} bytes")
    if base64.b64encode(found).decode() != text:
        raise FieldError(read.name, "picture", "is not base64 as this contract writes it")
    return found
