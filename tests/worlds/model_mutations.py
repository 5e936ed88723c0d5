"""Models with something wrong inside, in bundles that are signed and whole: only the child that loads one can tell."""

from __future__ import annotations

import hashlib
import random
import struct
from dataclasses import replace
from pathlib import Path

import cv2

from edgekit_device import vision
from edgekit_device.bundle import Bundle
from edgekit_device.contract.archive import write_archive
from edgekit_device.contract.file_table import table_of
from edgekit_device.contract.manifest import GOLDEN_SCORES, LABELS, NAME, Manifest
from edgekit_device.contract.preprocess import efficientnet_lite
from edgekit_device.infer.golden import Golden
from edgekit_device.infer.interpreter import Engine
from tests.worlds.bad_models import Edit

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
    listed = table_of(files)
    manifest = replace(bundle.manifest, files=listed)
    data = write_archive({**files, NAME: manifest.to_bytes()})
    return Bundle(manifest, files, hashlib.sha256(data).hexdigest(), bundle.key_id), data


def seed_bundle(name: str, model: bytes) -> bytes:
    """A bundle of a model whose golden vectors are its own scores of one photo, so that its mutations get that far."""
    from tests.worlds.trial_board import photos

    engine = Engine(model)
    spec = efficientnet_lite(engine.input.shape[1])
    if engine.input.scale:
        spec = spec.quantised(engine.input.dtype, engine.input.scale, engine.input.zero_point)
    photo_name, photo = next(iter(photos().items()))
    scores = {photo_name: engine.scores(vision.to_model_input(photo, spec))}
    files = {
        "model.tflite": model,
        LABELS: "".join(f"class {n}\n" for n in range(engine.classes)).encode(),
        GOLDEN_SCORES: Golden(scores, {"xnnpack": 2 / 256, "builtin": 16 / 256}).to_bytes(),
        f"golden/{photo_name}": cv2.imencode(".png", cv2.cvtColor(photo, cv2.COLOR_RGB2BGR))[1].tobytes(),
    }
    listed = table_of(files)
    manifest = Manifest(name, "1.0.0", listed, {"cpu": "model.tflite"}, spec, engine.classes)
    return write_archive({NAME: manifest.to_bytes(), **files})


def seeds(fixtures: Path) -> dict[str, bytes]:
    """The models to start from: float, int8, one layer, and one with a loop and a branch."""
    found = {name: (fixtures / f"{name}.tflite").read_bytes() for name in ("toy_float", "toy_int8", "colours_int8")}
    edit = Edit(found["toy_int8"])
    edit.loop(3)
    edit.trap(72, 112)
    return {name.replace("_", "-"): model for name, model in {**found, "toy_graphs": edit.done()}.items()}
