"""How messages lie on disk: lines of several documents, compressed together. Alone a Reading takes 461 bytes so."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from typing import Any

from edgekit_device.contract.clock import utc_text
from edgekit_device.contract.documents import dump
from edgekit_device.publish.messages import Key, Message

_LEVEL = 6
_MAX_BYTES = 64 << 20
_CORRECTED = "corrected"


def pack(messages: Iterable[Message]) -> bytes:
    """Put messages into one compressed blob.

    Args:
        messages: Their payloads are JSON documents, which hold no line end.
    """
    lines = (
        b"%s %d %d %d " % (m.key.boot.encode(), m.key.seq, m.unsure, round(m.made_s * 1000))
        + m.kind.encode()
        + b" "
        + m.payload
        for m in messages
    )
    return zlib.compress(b"\n".join(lines), _LEVEL)


def unpack(blob: bytes) -> list[Message]:
    """The messages of one blob.

    Raises:
        ValueError: It is damaged.
    """
    reader = zlib.decompressobj()
    try:
        text = reader.decompress(blob, _MAX_BYTES)
    except zlib.error as cause:
        raise ValueError(f"a batch cannot be decompressed ({cause})") from cause
    if not reader.eof:
        raise ValueError("a batch is cut short")
    found = []
    for line in text.split(b"\n"):
        boot, seq, unsure, made_ms, kind, payload = line.split(b" ", 5)
        key = Key(boot.decode("ascii"), int(seq))
        found.append(Message(key, kind.decode("ascii"), payload, int(made_ms) / 1000, unsure == b"1"))
    return found


def corrected(payload: bytes, made_s: float, offset_s: float) -> bytes:
    """A document whose time was taken from a wrong clock, mended and marked.

    Args:
        payload: A Reading or an event that was never sent.
        made_s: Monotonic.
        offset_s: What to add to the monotonic clock to get seconds since 1970.
    """
    document: dict[str, Any] = json.loads(payload)
    return dump({**document, "at": utc_text(made_s + offset_s), "clock": _CORRECTED})
