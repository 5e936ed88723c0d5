"""Keras files: screened before Keras sees them, and read as plain tensors where that is enough.

A .keras file is a zip with a config.json that names classes to be made, a .weights.h5 is HDF5, which can point at
other files. Both are looked at as data first: Lambda layers, layers that load code or files, names outside Keras,
links and external storage are refused by name.
"""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.errors import MissingPackageError, UnsafeModelError, WeightsFormatError

Array = npt.NDArray[Any]

MAX_CONFIG_BYTES = 16 << 20
MAX_TENSOR_BYTES = 2 << 30
# Lambda holds byte code; the others wrap a framework's module or load a SavedModel from a path.
REFUSED_LAYERS = ("Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer")
# What a saved functional model names: layers and what layers are configured with. keras.utils, keras.ops and
# keras.saving are left out on purpose: their functions fetch files and import modules.
ALLOWED_MODULES = (
    "keras",
    "keras.layers",
    "keras.initializers",
    "keras.regularizers",
    "keras.constraints",
    "keras.activations",
    "keras.dtype_policies",
    "keras.src.models.functional",
    "keras.src.models.sequential",
    "keras.src.ops.numpy",
    "keras.models",
)
BN_VARIABLES = ("gamma", "beta", "moving_mean", "moving_variance")


def read_keras_archive(data: bytes, path: str) -> tuple[dict[str, Any], bytes]:
    """Open a .keras file and screen its config.

    Args:
        data: The whole file.
        path: Named in errors.

    Returns:
        The parsed config.json and the bytes of model.weights.h5.

    Raises:
        UnsafeModelError: The config names a Lambda layer or anything outside Keras's own layers.
        WeightsFormatError: Not a .keras file, or damaged.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for entry in archive.infolist():
                if entry.filename.startswith(("/", "\\")) or ".." in entry.filename.split("/"):
                    raise UnsafeModelError(path, f"entry {entry.filename!r}, which leaves the archive")
            sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
            if sizes.get("config.json", 0) > MAX_CONFIG_BYTES:
                raise WeightsFormatError(path, "its config.json is too large to be a model's")
            if sizes.get("model.weights.h5", 0) > MAX_TENSOR_BYTES:
                raise WeightsFormatError(path, "its weights unpack to more than 2 GiB")
            config = json.loads(archive.read("config.json"))
            weights = archive.read("model.weights.h5")
    except (zipfile.BadZipFile, KeyError, EOFError, OSError, RuntimeError, NotImplementedError) as cause:
        raise WeightsFormatError(path, f"not a readable .keras file ({cause})") from cause
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as cause:
        raise WeightsFormatError(path, f"its config.json is damaged ({type(cause).__name__})") from cause
    if not isinstance(config, dict):
        raise WeightsFormatError(path, "its config.json is not an object")
    _screen(path, {key: value for key, value in config.items() if key != "compile_config"})
    return config, weights


def _screen(path: str, config: Any) -> None:
    """Refuse every class or function the config names that is not one of Keras's own layers or their settings."""
    pending = [config]
    while pending:
        item = pending.pop()
        if isinstance(item, list):
            pending.extend(item)
        if not isinstance(item, dict):
            continue
        pending.extend(item.values())
        kind, module = item.get("class_name"), item.get("module")
        if kind in REFUSED_LAYERS or kind == "__lambda__":
            raise UnsafeModelError(path, f"a {kind} layer" if kind != "__lambda__" else "a lambda function")
        if module is None and item.get("registered_name") in (None, kind):
            continue
        plain_activation = kind == "function" and module == "builtins" and _is_activation(item)
        if module not in ALLOWED_MODULES and not plain_activation:
            raise UnsafeModelError(path, f"{module}.{item.get('registered_name') or kind}")


def _is_activation(item: dict[str, Any]) -> bool:
    names = ("linear", "relu", "relu6", "softmax", "sigmoid", "tanh", "swish", "silu", "gelu", "hard_swish")
    return item.get("config") in names


def padding_and_epsilon(config: dict[str, Any]) -> tuple[str, float] | None:
    """Which padding and BatchNorm epsilon a saved model of ours was built with; None if it is not one of ours."""
    listed = config.get("config", {})
    layers = listed.get("layers") if isinstance(listed, dict) else None
    named = {
        layer.get("name"): layer.get("config")
        for layer in (layers if isinstance(layers, list) else [])
        if isinstance(layer, dict)
    }
    norm = named.get("stem_bn")
    if not isinstance(norm, dict) or not isinstance(norm.get("epsilon"), float):
        return None
    return ("symmetric" if "stem_pad" in named else "same"), norm["epsilon"]


def read_h5_tensors(data: bytes, path: str) -> dict[str, Array]:
    """The tensors of a .weights.h5 that Keras 3 wrote, named ``layer/variable``.

    Keras files groups by class and number (``layers/conv2d_3/vars/0``) and keeps the layer's name as an attribute.

    Args:
        data: The whole file.
        path: Named in errors.

    Raises:
        MissingPackageError: h5py is not installed.
        UnsafeModelError: The file points outside itself.
        WeightsFormatError: Not HDF5, damaged, too large, or without layer names.
    """
    try:
        import h5py
    except ImportError as cause:
        raise MissingPackageError("h5py", "reading Keras weights", 'pip install "edgekit[build]"') from cause
    tensors: dict[str, Array] = {}
    screen_h5(data, path)
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            top = file.get("layers")
            for group in top.values() if isinstance(top, h5py.Group) else ():
                variables = group.get("vars") if isinstance(group, h5py.Group) else None
                if not isinstance(variables, h5py.Group) or not len(variables):
                    continue
                layer = variables.attrs.get("name")
                if not isinstance(layer, str):
                    raise WeightsFormatError(path, "written without layer names; use Keras 3.15, or .npz")
                for key, dataset in variables.items():
                    if isinstance(dataset, h5py.Dataset):
                        tensors[f"{layer}/{_variable(layer, key)}"] = np.asarray(dataset[()])
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, OverflowError, MemoryError) as cause:
        if isinstance(cause, WeightsFormatError):
            raise
        raise WeightsFormatError(path, f"not readable Keras weights ({cause})") from cause
    return tensors


def screen_h5(data: bytes, path: str) -> None:
    """Refuse HDF5 that points outside itself or claims more than MAX_TENSOR_BYTES.

    Raises:
        UnsafeModelError: A soft or external link, external storage or a virtual dataset.
        WeightsFormatError: Not HDF5, damaged or too large.
    """
    import h5py

    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            _refuse_links(path, file, h5py)
    except (OSError, KeyError, RuntimeError, TypeError, OverflowError) as cause:
        raise WeightsFormatError(path, f"not readable HDF5 ({cause})") from cause


def _variable(layer: str, key: str) -> str:
    """Keras numbers a layer's variables in the order it made them."""
    names = BN_VARIABLES if layer.endswith("_bn") else ("kernel", "bias")
    return names[int(key)] if key.isdecimal() and int(key) < len(names) else key


def _refuse_links(path: str, group: Any, h5py: Any, depth: int = 0) -> int:
    """Walk by links, not by objects: visititems would silently follow or skip them. Returns the bytes of all sets."""
    total = 0
    if depth > 16:
        raise WeightsFormatError(path, "groups nested too deep")
    for name in group:
        link = group.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise UnsafeModelError(path, f"HDF5 link '{name}'")
        item = group[name]
        if isinstance(item, h5py.Group):
            total += _refuse_links(path, item, h5py, depth + 1)
        elif isinstance(item, h5py.Dataset):
            if item.external or item.is_virtual:
                raise UnsafeModelError(path, f"HDF5 dataset '{name}', which lies in another file")
            total += item.nbytes
        if total > MAX_TENSOR_BYTES:
            raise WeightsFormatError(path, "its tensors take more than 2 GiB")
    return total


def load_keras(path: str) -> Any:
    """Load a .keras model of any architecture with safe mode on.

    Args:
        path: A .keras file.

    Returns:
        The ``keras.Model``, not compiled.

    Raises:
        UnsafeModelError: It holds a Lambda layer or anything else that is not Keras's own.
        WeightsFormatError: It is not a .keras file, damaged, or Keras cannot build it.
    """
    from edgekit.zoo.files import read_bytes

    _, weights = read_keras_archive(read_bytes(path), path)
    screen_h5(weights, path)
    import keras

    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError, KeyError, OSError, RuntimeError, AttributeError) as cause:
        raise WeightsFormatError(path, f"Keras cannot load it ({str(cause).splitlines()[0][:200]})") from cause
