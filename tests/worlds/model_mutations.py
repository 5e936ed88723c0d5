"""Models with something wrong inside, in bundles that are signed and whole: only the child that loads one can tell."""

from __future__ import annotations

import hashlib
import random
import struct
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgekit_device.bundle import Bundle
from edgekit_device.contract.archive import write_archive
from edgekit_device.contract.manifest import NAME, FileEntry
from edgekit_device.selftest import try_rung

_WORDS = (0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFF0, 1 << 20, 1 << 28)


def mutation(draw: random.Random, model: bytes) -> bytes:
    """One model: cut, words of its tables replaced, an offset bent, or bytes changed anywhere."""
    changed, how = bytearray(model), draw.random()
    if how < 0.15:
        return bytes(changed[: draw.randrange(len(changed))])
    for _ in range(draw.choice((1, 1, 2, 4))):
        if how < 0.45:
            at = draw.randrange(0, len(changed) - 4, 4)
            struct.pack_into("<I", changed, at, draw.choice(_WORDS))
        elif how < 0.75:
            _bend(draw, changed)
        elif how < 0.9:
            changed[draw.randrange(len(changed))] = draw.randrange(256)
        else:
            low = draw.randrange(len(changed))
            del changed[low : low + draw.choice((1, 4, 32))]
    return bytes(changed)


def _bend(draw: random.Random, changed: bytearray) -> None:
    """Follow offsets of the flatbuffer from its root for some steps and change what is found there."""
    at = struct.unpack_from("<I", changed, 0)[0]
    for _ in range(draw.randint(1, 8)):
        if not 8 <= at < len(changed) - 8:
            at = draw.randrange(8, len(changed) - 8)
        table = at - struct.unpack_from("<i", changed, at)[0]
        if not 0 <= table < len(changed) - 8:
            break
        fields = max(1, min(40, (struct.unpack_from("<H", changed, table)[0] - 4) // 2))
        slot = table + 4 + 2 * draw.randrange(fields)
        if slot + 2 > len(changed):
            break
        field = at + struct.unpack_from("<H", changed, slot)[0]
        if field + 4 > len(changed):
            break
        if draw.random() < 0.4:
            struct.pack_into("<I", changed, field, draw.choice(_WORDS))
            return
        at = min(len(changed) - 9, field + struct.unpack_from("<I", changed, field)[0])
        at += 4 * draw.randrange(0, 12)
    struct.pack_into("<I", changed, min(at, len(changed) - 4), draw.choice(_WORDS))


def signed_with(bundle: Bundle, model: bytes) -> tuple[Bundle, bytes]:
    """The same bundle with another model, listed truly."""
    files = {**bundle.files, bundle.manifest.models["cpu"]: model}
    listed = {n: FileEntry(len(d), hashlib.sha256(d).hexdigest()) for n, d in files.items()}
    manifest = replace(bundle.manifest, files=listed)
    data = write_archive({**files, NAME: manifest.to_bytes()})
    return Bundle(manifest, files, hashlib.sha256(data).hexdigest(), bundle.key_id), data


def load_mutations(
    count: int, bundle: Bundle, models: Mapping[str, bytes], *, deadline_s: float, seed: int = 0
) -> Iterator[dict[str, Any]]:
    """Load `count` mutations, each in a child as an install does; what became of each.

    The bundle's golden vectors are the toy's, so a model of another shape ends at the first image: after its load and,
    where the shapes agree, after its first inference.
    """
    draw = random.Random(seed)
    names = sorted(models)
    for number in range(count):
        name = names[number % len(names)]
        forged, data = signed_with(bundle, mutation(draw, models[name]))
        began = time.monotonic()
        found = try_rung(forged, data, ("xnnpack", "builtin")[number // len(names) % 2], deadline_s)
        yield {
            "model": name,
            "s": time.monotonic() - began,
            "problem": found.get("problem"),
            "peak_bytes": found.get("peak_bytes", 0),
        }


def seeds(fixtures: Path, extra: Path | None = None) -> dict[str, bytes]:
    """The models to start from."""
    found = {path.stem: path.read_bytes() for path in sorted(fixtures.glob("*.tflite"))}
    return found | ({extra.stem: extra.read_bytes()} if extra else {})
