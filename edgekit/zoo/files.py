"""Weights files as named arrays: one reader for each kind, chosen by the end of the name."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.errors import MissingPackageError, WeightsFormatError

Array = npt.NDArray[Any]

MAX_FILE_BYTES = 1 << 30  # Lite4 in float32 takes 52 MB; with an optimiser's state three times that
MAX_UNPACKED_BYTES = 2 << 30
# Where training scripts keep the state dict; timm loads the averaged (EMA) weights first too.
NESTED = ("state_dict_ema", "model_ema", "state_dict", "model", "model_state_dict")
# Wrappers that DistributedDataParallel and torch.compile put before every name.
WRAPPERS = ("module.", "_orig_mod.")


def read_bytes(path: str | Path) -> bytes:
    """The whole file, at most MAX_FILE_BYTES.

    Raises:
        WeightsFormatError: Missing, not a file, unreadable or too large.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise WeightsFormatError(str(path), "there is no such file")
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as cause:
        if isinstance(cause, WeightsFormatError):
            raise
        raise WeightsFormatError(str(path), f"cannot be read ({cause})") from cause
    if len(data) > MAX_FILE_BYTES:
        raise WeightsFormatError(str(path), f"is larger than {MAX_FILE_BYTES >> 20} MiB")
    return data


def read_weights(path: str | Path) -> dict[str, Array]:
    """Read a weights file without running anything in it.

    Args:
        path: A .pth, .pt, .bin or .pth.tar that torch.save wrote; .safetensors; .npz; .keras; .weights.h5.

    Returns:
        The file's own names with arrays of the file's shapes and types (bfloat16 widened to float32).

    Raises:
        UnsafePickleError: A pickle asks for more than tensors.
        UnsafeModelError: A Keras file holds code or points outside itself.
        WeightsFormatError: Missing, cut short, damaged, or of another kind.
    """
    return parse_weights(str(path), read_bytes(path))


def parse_weights(path: str, data: bytes) -> dict[str, Array]:
    """Like `read_weights`, from bytes that were read (and hashed) already."""
    for suffix, reader in READERS.items():
        if path.lower().endswith(suffix):
            return reader(path, data)
    raise WeightsFormatError(path, f"is of no kind that is read here ({', '.join(READERS)})")


def _read_torch(path: str, data: bytes) -> dict[str, Array]:
    from edgekit.zoo.torch_files import read_torch

    found: Mapping[str, Any] = read_torch(data, path)
    for key in NESTED:
        nested = found.get(key)
        if isinstance(nested, Mapping) and any(isinstance(value, np.ndarray) for value in nested.values()):
            found = nested
            break
    tensors = {_unwrapped(name): value for name, value in found.items() if isinstance(value, np.ndarray)}
    if not tensors:
        raise WeightsFormatError(path, "holds no tensors under a name that training scripts use")
    return tensors


def _unwrapped(name: str) -> str:
    for wrapper in WRAPPERS:
        name = name.removeprefix(wrapper)
    return name


def _read_safetensors(path: str, data: bytes) -> dict[str, Array]:
    try:
        import safetensors
        import safetensors.numpy
    except ImportError as cause:
        raise MissingPackageError("safetensors", "reading .safetensors", 'pip install "edgekit[build]"') from cause
    try:
        loaded = safetensors.numpy.load(data)
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, AttributeError) as cause:
        raise WeightsFormatError(path, f"not readable safetensors ({cause})") from cause
    return {
        _unwrapped(name): array.astype(np.float32) if array.dtype.name == "bfloat16" else array
        for name, array in loaded.items()
    }


def _read_npz(path: str, data: bytes) -> dict[str, Array]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MAX_UNPACKED_BYTES:
                raise WeightsFormatError(path, f"unpacks to more than {MAX_UNPACKED_BYTES >> 30} GiB")
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return {name: _plain(path, name, arrays[name]) for name in arrays.files}
    except WeightsFormatError:
        raise
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        KeyError,
        MemoryError,
        NotImplementedError,
        OSError,
        RuntimeError,
        ValueError,
    ) as cause:
        raise WeightsFormatError(path, f"not a readable .npz of plain arrays ({cause})") from cause


def _plain(path: str, name: str, array: object) -> Array:
    # numpy hands back raw bytes for an entry that is not an array.
    if not isinstance(array, np.ndarray):
        raise WeightsFormatError(path, f"entry '{name}' is not an array")
    return array


def _read_keras(path: str, data: bytes) -> dict[str, Array]:
    from edgekit.zoo.keras_files import read_h5_tensors, read_keras_archive

    return read_h5_tensors(read_keras_archive(data, path)[1], path)


def _read_h5(path: str, data: bytes) -> dict[str, Array]:
    from edgekit.zoo.keras_files import read_h5_tensors

    return read_h5_tensors(data, path)


READERS: dict[str, Callable[[str, bytes], dict[str, Array]]] = {
    ".pth": _read_torch,
    ".pt": _read_torch,
    ".bin": _read_torch,
    ".pth.tar": _read_torch,
    ".safetensors": _read_safetensors,
    ".npz": _read_npz,
    ".keras": _read_keras,
    ".weights.h5": _read_h5,
}
