"""TFLite metadata: what the input means and what the scores are called, inside the model file itself.

Readers such as MediaPipe Tasks and Netron look for a buffer called TFLITE_METADATA (a flatbuffer of its own, identifier
M001) and for the labels in a zip behind the model. Schema: tensorflow/tflite-support, metadata_schema.fbs 1.5.

The model's own bytes are not rewritten: a new root table stands in front of them. Every offset of a flatbuffer is
relative, so the old part stays valid where it is moved to, and because it is moved by a multiple of 16 bytes its
constants keep the alignment that kernels ask for. (Packing the model again with the generated Python classes loses it.)
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edgekit.errors import ConversionError
from edgekit_device.contract.preprocess import Preprocess
from edgekit_device.infer.flatbuffer import IDENTIFIER, read_model

ENTRY = "TFLITE_METADATA"
LABELS_FILE = "labels.txt"
_METADATA_IDENTIFIER = b"M001"
# The first parser that knows everything written here.
_MIN_PARSER_VERSION = "1.0.0"
_ALIGNMENT = 16
# The root table of schema 3: version, operator_codes, subgraphs, description, buffers, metadata_buffer, metadata,
# signature_defs. All but the first are offsets.
_ROOT_FIELDS, _BUFFERS, _METADATA = 8, 4, 6
# Place of the field `offset` in the vtable of a Buffer.
_BUFFER_OFFSET = 4 + 2 * 1
# Numbers of the schema's enumerations and unions.
_RGB, _GRAYSCALE, _UNKNOWN_COLOR = 1, 2, 0
_FEATURE_PROPERTIES, _IMAGE_PROPERTIES, _NORMALIZATION, _AXIS_LABELS = 1, 2, 1, 2


@dataclass(frozen=True)
class Facts:
    """What the metadata says beyond the tensors.

    Attributes:
        name: Of the model.
        description: A sentence.
        preprocess: How pixels become the input.
        labels: One per class, in the order of the scores; empty if they are not known.
        author: Who trained it; may be empty.
        licence: Of the weights; may be empty.
    """

    name: str
    description: str
    preprocess: Preprocess
    labels: Sequence[str] = ()
    author: str = ""
    licence: str = ""


def with_metadata(model: bytes, facts: Facts) -> bytes:
    """The same model with metadata in it and its labels behind it; the same bytes from the same arguments.

    Args:
        model: A .tflite file without metadata.
        facts: What to write.

    Raises:
        ModelFormatError: Not a TFLite file.
        ConversionError: It has metadata already, or its root table is of a newer schema.
    """
    made = _with_buffer(model, ENTRY, metadata(facts))
    if not facts.labels:
        return made
    packed = io.BytesIO(made)
    # Stored, not deflated: readers map the file and look the labels up in place.
    with zipfile.ZipFile(packed, "a", zipfile.ZIP_STORED) as archive:
        entry = zipfile.ZipInfo(LABELS_FILE, (1980, 1, 1, 0, 0, 0))
        entry.create_system, entry.external_attr = 3, 0o644 << 16
        archive.writestr(entry, "".join(f"{label}\n" for label in facts.labels).encode("utf-8"))
    return packed.getvalue()


def read_packed_labels(model: bytes) -> tuple[str, ...]:
    """The labels behind a model; empty if there are none."""
    try:
        with zipfile.ZipFile(io.BytesIO(model)) as archive:
            return tuple(archive.read(LABELS_FILE).decode("utf-8").splitlines())
    except (zipfile.BadZipFile, KeyError, UnicodeDecodeError):
        return ()


def metadata(facts: Facts) -> bytes:
    """The metadata flatbuffer alone."""
    import flatbuffers

    build = flatbuffers.Builder(1024)
    spec = facts.preprocess
    color = {"RGB": _RGB, "GRAY": _GRAYSCALE}.get(spec.color, _UNKNOWN_COLOR)
    size = _table(build, [(0, "uint32", spec.width), (1, "uint32", spec.height)], 2)
    image = _table(build, [(0, "int8", color), (1, "offset", size)], 2)
    options = [(0, "offset", _floats(build, spec.mean)), (1, "offset", _floats(build, spec.std))]
    unit = _table(build, [(0, "uint8", _NORMALIZATION), (1, "offset", _table(build, options, 2))], 2)
    ends = [[(level - m) / s for m, s in zip(spec.mean, spec.std, strict=True)] for level in (255.0, 0.0)]
    stats = _table(build, [(place, "offset", _floats(build, values)) for place, values in enumerate(ends)], 2)
    first = _tensor(
        build,
        "image",
        f"{spec.color}, {spec.width} x {spec.height}, (pixel - mean) / std",
        _table(build, [(0, "uint8", _IMAGE_PROPERTIES), (1, "offset", image)], 3),
        [(4, "offset", _tables(build, [unit])), (5, "offset", stats)],
    )
    files = []
    if facts.labels:
        parts = [(0, "offset", build.CreateString(LABELS_FILE)), (1, "offset", build.CreateString("One label a class"))]
        files = [(6, "offset", _tables(build, [_table(build, [*parts, (2, "int8", _AXIS_LABELS)], 5)]))]
    features = _table(build, [], 0)
    content = _table(build, [(0, "uint8", _FEATURE_PROPERTIES), (1, "offset", features)], 3)
    last = _tensor(build, "probability", "One score a class", content, files)
    graph = _table(build, [(2, "offset", _tables(build, [first])), (3, "offset", _tables(build, [last]))], 10)
    texts = ((0, facts.name), (1, facts.description), (4, facts.author), (5, facts.licence), (7, _MIN_PARSER_VERSION))
    fields = [(place, "offset", build.CreateString(text)) for place, text in texts if text]
    build.Finish(_table(build, [*fields, (3, "offset", _tables(build, [graph]))], 8), _METADATA_IDENTIFIER)
    return bytes(build.Output())


def _tensor(build: Any, name: str, description: str, content: int, more: list[tuple[int, str, Any]]) -> int:
    texts = [(0, "offset", build.CreateString(name)), (1, "offset", build.CreateString(description))]
    return _table(build, [*texts, (3, "offset", content), *more], 7)


def _table(build: Any, fields: Sequence[tuple[int, str, Any]], slots: int) -> int:
    """One table; `fields` are (place in the schema, type, value)."""
    adders: dict[str, Callable[..., None]] = {
        "offset": build.PrependUOffsetTRelativeSlot,
        "uint32": build.PrependUint32Slot,
        "uint8": build.PrependUint8Slot,
        "int8": build.PrependInt8Slot,
    }
    build.StartObject(slots)
    for place, kind, value in fields:
        adders[kind](place, value, 0)
    done: int = build.EndObject()
    return done


def _tables(build: Any, offsets: Sequence[int]) -> int:
    build.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        build.PrependUOffsetTRelative(offset)
    done: int = build.EndVector()
    return done


def _floats(build: Any, values: Sequence[float]) -> int:
    build.StartVector(4, len(values), 4)
    for value in reversed(values):
        build.PrependFloat32(value)
    done: int = build.EndVector()
    return done


def _with_buffer(model: bytes, name: str, content: bytes) -> bytes:
    """Put a new root table, one more buffer and one more metadata entry in front of a model."""
    if name in read_model(model).metadata:
        raise ConversionError("metadata", f"the model has {name} already", "start from a model without metadata")
    fields = _root_fields(model)
    buffers, entries = _vector(model, fields[_BUFFERS]), _vector(model, fields[_METADATA])
    text = name.encode("ascii")
    # Place of every part, then the parts: a forward offset counts from where it stands.
    root = 8 + 20
    vector = root + 4 + 4 * _ROOT_FIELDS
    listing = vector + 4 + 4 * (len(buffers) + 1)
    entry = listing + 4 + 4 * (len(entries) + 1) + 8
    string = entry + 12
    buffer = string + 4 + (len(text) + 1 + 3) // 4 * 4 + 8
    data = (buffer + 8 + 4 + _ALIGNMENT - 1) // _ALIGNMENT * _ALIGNMENT
    shift = (data + len(content) + _ALIGNMENT - 1) // _ALIGNMENT * _ALIGNMENT
    out = bytearray(shift)
    struct.pack_into("<I4s", out, 0, root, IDENTIFIER)
    struct.pack_into("<HH8H", out, 8, 20, 4 + 4 * _ROOT_FIELDS, *(_slot(fields, i) for i in range(_ROOT_FIELDS)))
    struct.pack_into("<i", out, root, 20)
    struct.pack_into("<I", out, root + 4, struct.unpack_from("<I", model, fields[0])[0] if fields[0] else 0)
    for place in range(1, _ROOT_FIELDS):
        at = root + 4 + 4 * place
        target = {_BUFFERS: vector, _METADATA: listing}.get(place)
        if target is None and fields[place]:
            target = shift + _follow(model, fields[place])
        struct.pack_into("<I", out, at, target - at if target else 0)
    _put_vector(out, vector, [*(shift + at for at in buffers), buffer])
    _put_vector(out, listing, [*(shift + at for at in entries), entry])
    struct.pack_into("<HHHH", out, entry - 8, 8, 12, 4, 8)
    struct.pack_into("<iII", out, entry, 8, string - (entry + 4), len(buffers))
    struct.pack_into(f"<I{len(text)}s", out, string, len(text), text)
    struct.pack_into("<HHH", out, buffer - 6, 6, 8, 4)
    struct.pack_into("<iI", out, buffer, 6, data - 4 - (buffer + 4))
    struct.pack_into("<I", out, data - 4, len(content))
    out[data : data + len(content)] = content
    return bytes(out) + _shifted(model, buffers, shift)


def _shifted(model: bytes, buffers: Sequence[int], shift: int) -> bytes:
    """The model with buffers that lie behind the flatbuffer, as litert-quantizer writes them, found again.

    Their offset counts from the start of the file, not from where it stands; 1 is a place not decided yet.
    """
    moved = bytearray(model)
    for at in buffers:
        vtable = at - struct.unpack_from("<i", model, at)[0]
        if struct.unpack_from("<H", model, vtable)[0] < _BUFFER_OFFSET + 2:
            continue
        slot = struct.unpack_from("<H", model, vtable + _BUFFER_OFFSET)[0]
        offset = struct.unpack_from("<Q", model, at + slot)[0] if slot else 0
        if offset > 1:
            struct.pack_into("<Q", moved, at + slot, offset + shift)
    return bytes(moved)


def _root_fields(model: bytes) -> list[int]:
    """Where each field of the root table stands in the file; 0 for one that is left out."""
    root = struct.unpack_from("<I", model, 0)[0]
    vtable = root - struct.unpack_from("<i", model, root)[0]
    size = struct.unpack_from("<H", model, vtable)[0]
    slots = struct.unpack_from(f"<{size // 2 - 2}H", model, vtable + 4)
    if any(slots[_ROOT_FIELDS:]):
        raise ConversionError("metadata", "the file is of a newer schema than 3", "upgrade edgekit")
    padded = [*slots, *[0] * _ROOT_FIELDS][:_ROOT_FIELDS]
    return [root + slot if slot else 0 for slot in padded]


def _slot(fields: Sequence[int], place: int) -> int:
    """What the new vtable says of a field: its place in the new root, 0 for one that the old root lacks."""
    present = fields[place] or place in (_BUFFERS, _METADATA)
    return 4 + 4 * place if present else 0


def _follow(model: bytes, at: int) -> int:
    target: int = at + struct.unpack_from("<I", model, at)[0]
    return target


def _vector(model: bytes, at: int) -> list[int]:
    """Places of the tables that a vector of offsets points at."""
    if not at:
        return []
    start = _follow(model, at)
    count = struct.unpack_from("<I", model, start)[0]
    return [_follow(model, start + 4 + 4 * i) for i in range(count)]


def _put_vector(out: bytearray, start: int, targets: Sequence[int]) -> None:
    places = range(start + 4, start + 4 + 4 * len(targets), 4)
    offsets = (target - at for target, at in zip(targets, places, strict=True))
    struct.pack_into(f"<I{len(targets)}I", out, start, len(targets), *offsets)
