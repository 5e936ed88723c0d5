"""Bundles that are almost right: a good one with something wrong in its zip, its manifest or its golden vectors."""

from __future__ import annotations

import gc
import json
import random
import time
from collections.abc import Mapping
from typing import Any

import minisign

from edgekit_device.bundle import check_signature, parse_bundle
from edgekit_device.contract.archive import write_archive
from edgekit_device.contract.errors import EdgeKitError
from edgekit_device.contract.manifest import GOLDEN_SCORES, NAME
from edgekit_device.infer.golden import Golden
from edgekit_device.requirements import check_requirements
from tests.worlds.archives import _files, manifest_of
from tests.worlds.bundles import Signer

LIMIT_MS = 100.0
_ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 2**31, 2**53, 2**63 - 1, 2**63, -(2**63), 10**400, 0.5, -0.0, 1e308, -1e308, "",
    "\0", "\ud800", "x" * 5000, "\u0663.\u0660.\u0660", "1.0.0", "01.0.0", "999999999.0.0", "9999999999.0.0", "../evil",
    "model.tflite", "0" * 64, "\uff41" * 64, [], [[]], [0] * 300, ["a"], {}, {"": 1}, {"cpu": "labels.txt"},
    {"cpu": []}, {"runtime": "9.0.0"},    {"runtime": 1}, {"schema": 2},
    {"schema": "1"}, {"a": {"b": {"c": {}}}}, "rgb", "bgr", "bilinear", "float32",
)  # fmt: skip


def _seed() -> dict[str, bytes]:
    golden = {"schema": 1, "scores": {"00.png": [0.25, 0.75]}, "tolerances": {"xnnpack": 0.01, "builtin": 0.1}}
    files = {**_files(), GOLDEN_SCORES: json.dumps(golden).encode(), "golden/00.png": b"\x89PNG" + bytes(64)}
    return {NAME: manifest_of(files), **files}


def mutation(draw: random.Random, seed: Mapping[str, bytes]) -> bytes:
    """One archive."""
    entries = dict(seed)
    kind = draw.random()
    if kind < 0.6:
        for _ in range(draw.choice((1, 1, 2, 5))):
            entries[NAME] = _document(draw, entries[NAME])
    elif kind < 0.75:
        entries[GOLDEN_SCORES] = _document(draw, entries[GOLDEN_SCORES])
        files = {name: data for name, data in entries.items() if name != NAME}
        entries[NAME] = manifest_of(files)
    whole = write_archive(entries)
    return whole if kind < 0.75 else _bytes(draw, whole)


def _document(draw: random.Random, payload: bytes) -> bytes:
    how = draw.random()
    if how < 0.2:
        return _bytes(draw, payload)
    if how < 0.25:
        depth = draw.choice((3, 50, 900, 5000, 20_000))
        inner = draw.choice((b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth, b"9" * depth))
        return payload[:-1] + b',"deep":' + inner + b"}"
    try:
        document = json.loads(payload)
    except (ValueError, RecursionError):
        return payload
    if not isinstance(document, dict) or not document:
        return payload
    where, key = document, draw.choice(sorted(document))
    while isinstance(where[key], dict) and where[key] and draw.random() < 0.7:
        where = where[key]
        key = draw.choice(sorted(where))
    if draw.random() < 0.15:
        del where[key]
    elif draw.random() < 0.15:
        where[draw.choice(("new", "", "../x", "MODEL.tflite", "cpu", "\ud800", "x" * 3000))] = draw.choice(_ODD)
    else:
        where[key] = draw.choice(_ODD)
    try:
        # A lone surrogate travels as an escape.
        return json.dumps(document, ensure_ascii=draw.random() < 0.5).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):
        return payload


def _bytes(draw: random.Random, payload: bytes) -> bytes:
    changed = bytearray(payload)
    how = draw.random()
    if how < 0.5:
        for _ in range(draw.randint(1, 8)):
            if changed:
                changed[draw.randrange(len(changed))] = draw.choice((0, 0xFF, 0x7F, draw.randrange(256)))
    elif how < 0.7:
        low, high = sorted((draw.randint(0, len(changed)), draw.randint(0, len(changed))))
        del changed[low:high]
    elif how < 0.85:
        at = draw.randint(0, len(changed))
        changed[at:at] = payload[draw.randint(0, len(payload)) :][: draw.randint(0, 400)]
    else:
        # Four bytes of a header at once: sizes, offsets, counts.
        at = draw.randrange(max(1, len(changed) - 4))
        changed[at : at + 4] = draw.choice((0, 1, 2**31 - 1, 2**31, 2**32 - 1)).to_bytes(4, "little")
    return bytes(changed)


def mutate_bundles(count: int, signer: Signer, seed: int = 0) -> dict[str, Any]:
    """Read mutated bundles as if their signature held, and mutated signature files for what they are.

    Returns:
        Counts by name of the error, `verified`, `unnamed`, `over_100_ms` and `slowest_ms`.
    """
    draw, good = random.Random(seed), _seed()
    whole = write_archive(good)
    signature = bytes(minisign.SecretKey.sign(signer.pair.secret_key, whole, prehash=True))
    names: dict[str, int] = {}
    unnamed: list[str] = []
    slow, slowest_ms, verified = 0, 0.0, 0
    gc.disable()  # A pause for the garbage of the whole process is not the bundle's.
    try:
        for number in range(count):
            forged = _bytes(draw, signature) if number % 20 == 0 else None
            data = whole if forged else mutation(draw, good)
            began = time.thread_time()
            try:
                if forged is not None:
                    check_signature(data, forged, "x.edgekit", [signer.public])
                bundle = parse_bundle(data, "x.edgekit", "")
                check_requirements(bundle.manifest)
                Golden.from_bytes(bundle.files.get(GOLDEN_SCORES, b""))
                verified += 1
            except EdgeKitError as error:
                names[type(error).__name__] = names.get(type(error).__name__, 0) + 1
            except Exception as error:
                unnamed.append(f"{type(error).__name__}: {error}"[:200])
            took_ms = (time.thread_time() - began) * 1000
            slowest_ms, slow = max(slowest_ms, took_ms), slow + (took_ms > LIMIT_MS)
            if number % 1000 == 999:
                gc.collect()
    finally:
        gc.enable()
    return {
        "bundles": count,
        "verified": verified,
        "named": dict(sorted(names.items())),
        "unnamed": unnamed,
        "over_100_ms": slow,
        "slowest_ms": round(slowest_ms, 1),
    }
