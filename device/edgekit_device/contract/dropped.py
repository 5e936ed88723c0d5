"""Which messages a board gave up: exact ranges that travel in its later Readings and events.

A message of the same boot says them in ``dropped_ranges``; those of earlier boots stand in ``dropped_earlier``, an
object of boot to ranges that is there only when it is needed. A range says that the board holds these messages no
more; what reached the store on another way is stored all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgekit_device.contract.ack import Ranges, merge_ranges
from edgekit_device.contract.documents import Fields
from edgekit_device.contract.errors import FieldError
from edgekit_device.contract.telemetry import MAX_SEQUENCE

OWN, EARLIER = "dropped_ranges", "dropped_earlier"
# A Reading with this many stays far below what collectors take; the rest travels in the next one.
MAX_TRAVELLING = 500
_MAX_READ = 10_000


def stamp(document: Mapping[str, Any], dropped: Mapping[str, Ranges]) -> dict[str, Any]:
    """A Reading or event that says what was dropped.

    Args:
        document: Parsed; its own ``boot`` decides where the ranges go.
        dropped: Merged ranges per boot, at most MAX_TRAVELLING together.
    """
    boot = str(document["boot"])
    listed = {name: [list(pair) for pair in ranges] for name, ranges in dropped.items() if ranges}
    stamped = {**document, OWN: listed.pop(boot, [])}
    return {**stamped, EARLIER: listed} if listed else stamped


def read_dropped(document: Mapping[str, Any]) -> dict[str, Ranges]:
    """The dropped ranges that a parsed Reading or event states, per boot.

    Raises:
        FieldError: They are not ranges.
    """
    found: dict[str, Ranges] = {}
    read = Fields("dropped", document)
    if document.get(OWN):
        found[read.text("boot", limit=32)] = _ranges(read, OWN)
    if document.get(EARLIER):
        earlier = read.mapping(EARLIER)
        inner = Fields(f"dropped.{EARLIER}", earlier)
        found |= {boot[:32]: _ranges(inner, boot) for boot in earlier}
    return found


def _ranges(read: Fields, key: str) -> Ranges:
    pairs = []
    for pair in read.listing(key, limit=_MAX_READ):
        if not isinstance(pair, list) or len(pair) != 2:
            raise FieldError(read.name, key, "must hold pairs [from, to]")
        inner = Fields(f"{read.name}.{key}", {"from": pair[0], "to": pair[1]})
        low = inner.integer("from", high=MAX_SEQUENCE)
        pairs.append((low, inner.integer("to", low=low, high=MAX_SEQUENCE)))
    return merge_ranges(pairs)
