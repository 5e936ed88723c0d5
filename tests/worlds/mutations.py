"""Payloads that are almost right: golden documents with something wrong, told apart by an independent rule."""

from __future__ import annotations

import gc
import json
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgekit.fleet.batch import Batch, Received, decode
from edgekit.fleet.store import Store
from edgekit_device.contract.topics import KINDS, topic

GOLDEN = Path(__file__).parents[1] / "contract" / "golden"
_NAMES = ("reading", "event", "status", "result", "reported")
_TOPICS = {"reading": "telemetry"}
_ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**53, 2**63 - 1, 2**63, -(2**63), 10**400, 0.5, -0.0, 1e308, -1e308, "",
    "\0", "\ud800", "x" * 5000, "9f" * 16, "٣" * 32, "=cmd()", "<script>", "2026-02-31T00:00:00.000Z",
    "9999-12-31T23:59:59.999Z", "0000-01-01T00:00:00.000Z", "0001-01-01T00:00:00.000Z", [], [[]], [[1]],
    [[3, 1]], [[0, 2**53]], {}, {"": 1}, {"p50": -1}, {"٣": 1}, {"1": 2**70}, [0] * 300,
)  # fmt: skip


def _documents() -> dict[str, bytes]:
    return {
        name: (GOLDEN / f"{name}.json").read_bytes().strip() for name in _NAMES if (GOLDEN / f"{name}.json").exists()
    }


def mutation(draw: random.Random, documents: dict[str, bytes]) -> tuple[str, bytes]:
    """One topic and payload."""
    name = draw.choice(sorted(documents))
    payload = documents[name]
    for _ in range(draw.choice((1, 1, 2, 4))):
        payload = draw.choice(
            (_bytes_changed, _cut, _value_changed, _value_changed, _value_changed, _nested, _spliced)
        )(draw, payload, documents)
    kind = _TOPICS.get(name, name) if draw.random() < 0.95 else draw.choice(sorted(KINDS))
    return topic("home", "porch", KINDS[kind]), payload


def _bytes_changed(draw: random.Random, payload: bytes, _: Any) -> bytes:
    changed = bytearray(payload)
    for _ in range(draw.randint(1, 8)):
        if changed:
            changed[draw.randrange(len(changed))] = draw.randrange(256)
    return bytes(changed)


def _cut(draw: random.Random, payload: bytes, _: Any) -> bytes:
    low, high = sorted((draw.randint(0, len(payload)), draw.randint(0, len(payload))))
    return payload[:low] + payload[high:] if draw.random() < 0.5 else payload[:high]


def _value_changed(draw: random.Random, payload: bytes, _: Any) -> bytes:
    try:
        document = json.loads(payload)
    except (ValueError, RecursionError):
        return payload
    if not isinstance(document, dict) or not document:
        return payload
    where, key = document, draw.choice(sorted(document))
    while isinstance(where[key], dict) and where[key] and draw.random() < 0.5:
        where = where[key]
        key = draw.choice(sorted(where))
    action = draw.random()
    if action < 0.15:
        del where[key]
    elif action < 0.25:
        where[draw.choice(("new", "extra", "dropped_earlier", "dropped_ranges", "session", ""))] = draw.choice(_ODD)
    else:
        where[key] = draw.choice(_ODD)
    try:
        # A lone surrogate travels as an escape.
        return json.dumps(document, ensure_ascii=draw.random() < 0.5).encode("utf-8", "surrogatepass")
    except ValueError:
        return payload


def _nested(draw: random.Random, payload: bytes, _: Any) -> bytes:
    depth = draw.choice((3, 50, 900, 5000, 20_000))
    inner = draw.choice((b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth, b"9" * depth))
    return payload[:-1] + b',"deep":' + inner + b"}"


def _spliced(draw: random.Random, payload: bytes, documents: dict[str, bytes]) -> bytes:
    other = documents[draw.choice(sorted(documents))]
    return payload[: draw.randint(0, len(payload))] + other[draw.randint(0, len(other)) :]


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """A pause for the garbage of the whole process is not the payload's; it is taken between batches."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def mutate_payloads(count: int, seed: int = 0) -> dict[str, Any]:
    """Send mutations through decoding and into a store.

    Returns:
        Counts; `rows_from_invalid` is rows beyond the distinct valid messages, or messages without their row.
    """
    draw, documents = random.Random(seed), _documents()
    unnamed, slow, slowest_ms, valid, rejected = 0, 0, 0.0, 0, 0
    keys: set[tuple[str, int]] = set()
    with Store("sqlite://") as store, _without_garbage_collection():
        batch = Batch()
        for number in range(count):
            where, payload = mutation(draw, documents)
            began = time.thread_time()
            try:
                found = decode(where, payload)
            except Exception:
                unnamed += 1
                continue
            took_ms = (time.thread_time() - began) * 1000
            slowest_ms, slow = max(slowest_ms, took_ms), slow + (took_ms > 100)
            (batch.received if isinstance(found, Received) else batch.rejected).append(found)  # type: ignore[attr-defined]
            if len(batch) == 500 or number == count - 1:
                for item in batch.numbered():
                    # What was believed must be believable by a reading that shares no code with the contract's.
                    document = json.loads(item.payload)
                    assert document["schema"] == 1 and 0 <= document["seq"] < 2**53 and len(document["boot"]) == 32
                    keys.add((document["boot"], document["seq"]))
                try:
                    store.write(batch)
                except Exception:
                    unnamed += 1
                valid, rejected = valid + len(batch.received), rejected + len(batch.rejected)
                batch = Batch()
                gc.collect()
        summary = store.summary()
    return {
        "payloads": count,
        "valid": valid,
        "rejected": rejected,
        "unnamed_errors": unnamed,
        "over_100_ms": slow,
        "slowest_ms": round(slowest_ms, 1),
        "rows_from_invalid": abs(summary.rows - len(keys)) + abs(summary.rejected - rejected),
    }
