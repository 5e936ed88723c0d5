"""Tensors out of torch's .pth files, both the zip format and the legacy one, without torch.

Legacy (before torch 1.6, and the ImageNet packages): five pickles one behind the other - magic, protocol, system,
the object, the storages' keys - then per storage its length and its raw bytes. Zip (torch >= 1.6): an uncompressed
archive with ``NAME/data.pkl`` and one ``NAME/data/KEY`` per storage.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.errors import WeightsFormatError
from edgekit.zoo.pickles import Call, Maker, interpret, ordered_dict

Array = npt.NDArray[Any]

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
MAX_ENTRIES = 100_000
MAX_RANK = 8

# bfloat16 has no numpy type: it is read as uint16 and widened.
STORAGES: dict[str, np.dtype[Any]] = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype("<u2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
}


@dataclass(frozen=True)
class _Storage:
    """A flat run of numbers, named by its key in the file."""

    kind: str
    key: str
    count: int


@dataclass(frozen=True)
class _Tensor:
    """A strided window on a storage; filled once the storages are read."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def read_torch(data: bytes, path: str) -> dict[str, Any]:
    """Read a file that ``torch.save`` wrote.

    Args:
        data: The whole file.
        path: Named in errors.

    Returns:
        The outermost dict with its nested dicts; tensors are read-only arrays that keep their shape and are float32,
        float64, float16, int64 or int32 (bfloat16 is widened to float32). Other values stay as they are.

    Raises:
        UnsafePickleError: The file asks for anything but tensors. Nothing was executed.
        WeightsFormatError: It is cut short, damaged, or not a torch file.
    """
    found, storages = _read_zip(data, path) if data[:4] == b"PK\x03\x04" else _read_legacy(data, path)
    if not isinstance(found, dict):
        raise WeightsFormatError(path, f"holds a {type(found).__name__} instead of a state dict")
    try:
        return _Filler(path, storages).filled(found)
    except RecursionError as cause:
        raise WeightsFormatError(path, "dicts nested too deep") from cause


class _StorageType:
    """Stand-in for a storage class of torch: it may be named in a persistent id and never called."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __call__(self, arguments: tuple[Any, ...]) -> Any:
        raise ValueError(f"a call of {self.kind}")


def _rebuild_tensor(arguments: tuple[Any, ...]) -> _Tensor:
    """Stand-in for ``torch._utils._rebuild_tensor_v2(storage, offset, size, stride, grad, hooks[, metadata])``."""
    if len(arguments) not in (6, 7):
        raise ValueError("a tensor with another number of arguments")
    storage, offset, size, stride = arguments[:4]
    if not isinstance(storage, _Storage) or not isinstance(size, tuple) or not isinstance(stride, tuple):
        raise TypeError("a tensor without a storage, a size or a stride")
    numbers = (offset, *size, *stride)
    if any(not isinstance(n, int) or isinstance(n, bool) or not 0 <= n < 2**40 for n in numbers):
        raise ValueError("a tensor with a size that is not a small whole number")
    if len(size) != len(stride) or len(size) > MAX_RANK:
        raise ValueError("a tensor whose sizes and strides do not match")
    return _Tensor(storage, offset, size, stride)


PERMITTED: dict[str, Maker] = {
    "collections OrderedDict": ordered_dict,
    "torch._utils _rebuild_tensor_v2": _rebuild_tensor,
    **{f"torch {kind}": _StorageType(kind) for kind in STORAGES},
}


def _persistent(identity: Any) -> _Storage:
    """A storage from ``("storage", type, key, device, count[, view])``; the device is ignored."""
    if not isinstance(identity, tuple) or len(identity) not in (5, 6) or identity[0] != "storage":
        raise ValueError("a persistent id that is not a storage")
    made = identity[1].make if isinstance(identity[1], Call) else None
    key, count = identity[2], identity[4]
    if not isinstance(made, _StorageType) or not isinstance(key, str):
        raise TypeError("a storage without type or key")
    if not isinstance(count, int) or not 0 <= count < 2**40:
        raise ValueError("a storage without a length")
    if len(identity) == 6 and identity[5] is not None:
        raise ValueError("a view of another storage (torch 0.3 and older)")
    return _Storage(made.kind, key, count)


def _read_legacy(data: bytes, path: str) -> tuple[Any, Callable[[_Storage], bytes | memoryview]]:
    stream = io.BytesIO(data)

    def value() -> Any:
        return interpret(stream, path, PERMITTED, _persistent)

    if value() != LEGACY_MAGIC or value() != LEGACY_PROTOCOL:
        raise WeightsFormatError(path, "not a file that torch.save wrote")
    system = value()
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise WeightsFormatError(path, "not written on a little-endian machine")
    found, keys = value(), value()
    if not isinstance(keys, list) or len(keys) > MAX_ENTRIES or any(not isinstance(k, str) for k in keys):
        raise WeightsFormatError(path, "the list of storages is damaged")
    # The raw lengths are in elements, and only the object says of which type: offsets are found on the way.
    kinds = _storage_kinds(found)
    view, place = memoryview(data), stream.tell()
    windows: dict[str, memoryview] = {}
    for key in keys:
        count = int.from_bytes(view[place : place + 8], "little")
        if key not in kinds or count != kinds[key].count:
            raise WeightsFormatError(path, f"storage '{key}' is not the one its tensors name")
        end = place + 8 + count * STORAGES[kinds[key].kind].itemsize
        if end > len(data):
            raise WeightsFormatError(path, f"cut short: {end - len(data)} bytes or more are missing")
        windows[key] = view[place + 8 : end]
        place = end

    def storage_bytes(storage: _Storage) -> memoryview:
        if storage.key not in windows:
            raise WeightsFormatError(path, f"storage '{storage.key}' is missing")
        return windows[storage.key]

    return found, storage_bytes


def _storage_kinds(found: Any) -> dict[str, _Storage]:
    kinds: dict[str, _Storage] = {}
    pending, seen = [found], set()
    while pending:
        item = pending.pop()
        if isinstance(item, _Tensor):
            kinds[item.storage.key] = item.storage
        elif isinstance(item, (dict, list, tuple)) and id(item) not in seen:
            seen.add(id(item))
            pending.extend(item.values() if isinstance(item, dict) else item)
    return kinds


def _read_zip(data: bytes, path: str) -> tuple[Any, Callable[[_Storage], bytes | memoryview]]:
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        entries = archive.infolist()
        names = [entry.filename for entry in entries]
        bad = next((name for name in names if _escapes(name)), None)
        if bad is not None:
            raise WeightsFormatError(path, f"entry {bad!r} leaves the archive")
        if len(entries) > MAX_ENTRIES or len(set(names)) != len(names):
            raise WeightsFormatError(path, "too many entries, or two of one name")
        # torch never compresses; a compressed entry could unpack to any size.
        if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in entries):
            raise WeightsFormatError(path, "an entry is compressed or encrypted, which torch.save never does")
        tables = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(tables) != 1:
            raise WeightsFormatError(path, "a zip, but without one data.pkl: not a file that torch.save wrote")
        root = tables[0].removesuffix("data.pkl")
        if f"{root}byteorder" in names and archive.read(f"{root}byteorder") != b"little":
            raise WeightsFormatError(path, "not written on a little-endian machine")
        found = interpret(io.BytesIO(archive.read(tables[0])), path, PERMITTED, _persistent)
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, NotImplementedError, RuntimeError) as cause:
        if isinstance(cause, WeightsFormatError):
            raise
        raise WeightsFormatError(path, f"not a readable zip ({cause})") from cause

    def storage_bytes(storage: _Storage) -> bytes:
        try:
            return archive.read(f"{root}data/{storage.key}")
        except (KeyError, zipfile.BadZipFile, EOFError, OSError, ValueError) as cause:
            raise WeightsFormatError(path, f"storage '{storage.key}' is missing or damaged") from cause

    return found, storage_bytes


def _escapes(name: str) -> bool:
    return name.startswith(("/", "\\")) or "\\" in name or ":" in name or ".." in name.split("/")


class _Filler:
    """Turns stand-ins into arrays; each storage is read once."""

    def __init__(self, path: str, storages: Callable[[_Storage], bytes | memoryview]) -> None:
        self.path, self.storages = path, storages
        self.flat: dict[_Storage, Array] = {}
        self.seen: dict[int, dict[str, Any]] = {}

    def array(self, tensor: _Tensor) -> Array:
        storage = tensor.storage
        if storage not in self.flat:
            raw = self.storages(storage)
            kind = STORAGES[storage.kind]
            if len(raw) != storage.count * kind.itemsize:
                raise WeightsFormatError(self.path, f"storage '{storage.key}' has another length than it states")
            flat = np.frombuffer(raw, kind)
            if storage.kind == "BFloat16Storage":
                flat = (flat.astype(np.uint32) << 16).view(np.float32)
            flat.flags.writeable = False
            self.flat[storage] = flat
        flat = self.flat[storage]
        # A stride of 0 would let a few bytes claim any size, so the size is held against the storage too.
        last = tensor.offset + sum((n - 1) * s for n, s in zip(tensor.size, tensor.stride, strict=True))
        if 0 in tensor.size or last >= flat.size or math.prod(tensor.size) > flat.size:
            raise WeightsFormatError(self.path, f"a tensor of size {tensor.size} does not fit its storage")
        strides = tuple(s * flat.itemsize for s in tensor.stride)
        return np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.size, strides, writeable=False)

    def filled(self, found: dict[Any, Any]) -> dict[str, Any]:
        """The same dict with arrays for stand-ins; a dict that occurs twice is filled once."""
        out: dict[str, Any] = {}
        self.seen[id(found)] = out
        for key, value in found.items():
            if isinstance(value, _Tensor):
                out[str(key)] = self.array(value)
            elif isinstance(value, dict):
                known = self.seen.get(id(value))
                out[str(key)] = self.filled(value) if known is None else known
            else:
                out[str(key)] = value
        return out
