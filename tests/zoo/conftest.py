"""Files as torch writes them, made by hand so that no test needs torch."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # TensorFlow's own imports warn on some Pythons; ours are not involved
    import keras  # noqa: F401

MAGIC = 0x1950A86A20F9469CFC6C
KINDS = {"f4": "FloatStorage", "f2": "HalfStorage", "f8": "DoubleStorage", "i8": "LongStorage", "i4": "IntStorage"}


def text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def number(value: int) -> bytes:
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def tupled(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def storage(kind: str, key: str, count: int) -> bytes:
    return tupled(text("storage"), b"ctorch\n" + kind.encode() + b"\n", text(key), text("cpu"), number(count)) + b"Q"


def tensor(stored: bytes, size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> bytes:
    arguments = tupled(
        stored,
        number(offset),
        tupled(*map(number, size)),
        tupled(*map(number, stride)),
        b"\x89",
        b"ccollections\nOrderedDict\n)R",
    )
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"R"


def contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(np.prod(shape[axis + 1 :])) for axis in range(len(shape)))


def pickled(body: bytes) -> bytes:
    return b"\x80\x02" + body + b"."


def state_dict(arrays: Mapping[str, np.ndarray[Any, Any]], kinds: Mapping[str, str]) -> bytes:
    items = b"".join(
        text(name) + tensor(storage(kinds[name], str(n), array.size), array.shape, contiguous(array.shape))
        for n, (name, array) in enumerate(arrays.items())
    )
    return pickled(b"ccollections\nOrderedDict\n)R(" + items + b"u")


class TorchFiles:
    """Writes both formats of torch.save, and wraps any pickle in them."""

    text, number, tupled, storage, tensor, pickled = map(staticmethod, (text, number, tupled, storage, tensor, pickled))

    @staticmethod
    def legacy(arrays: Mapping[str, np.ndarray[Any, Any]], table: bytes | None = None) -> bytes:
        kinds = {name: KINDS[array.dtype.str[1:]] for name, array in arrays.items()}
        keys = b"](" + b"".join(text(str(n)) for n in range(len(arrays))) + b"e"
        system = b"}(" + text("little_endian") + b"\x88u"
        head = pickled(number(MAGIC)) + pickled(number(1001)) + pickled(system)
        body = state_dict(arrays, kinds) if table is None else table
        raw = b"".join(struct.pack("<q", array.size) + array.tobytes() for array in arrays.values())
        return head + body + pickled(keys) + raw

    @staticmethod
    def zipped(
        arrays: Mapping[str, np.ndarray[Any, Any]],
        table: bytes | None = None,
        kinds: Mapping[str, str] | None = None,
        extra: Mapping[str, bytes] | None = None,
        compression: int = zipfile.ZIP_STORED,
    ) -> bytes:
        kinds = kinds or {name: KINDS[array.dtype.str[1:]] for name, array in arrays.items()}
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", compression) as archive:
            archive.writestr("model/data.pkl", state_dict(arrays, kinds) if table is None else table)
            archive.writestr("model/byteorder", b"little")
            for n, array in enumerate(arrays.values()):
                archive.writestr(f"model/data/{n}", array.tobytes())
            for name, data in (extra or {}).items():
                archive.writestr(name, data)
        return out.getvalue()


@pytest.fixture
def torch_files() -> type[TorchFiles]:
    return TorchFiles
