"""Say what a .edgekit or .tflite file is; nothing is run and nothing is extracted."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import minisign

from edgekit.artefacts import read_sidecar, sidecar_path
from edgekit.bundling.roles import classifier_of
from edgekit.errors import DamagedRecordError, ReplacedFileError
from edgekit_device.bundle import Bundle, check_signature, parse_bundle, read_file, trusted_keys
from edgekit_device.contract.errors import (
    BadSignatureError,
    BundleFormatError,
    ModelFormatError,
    NotAClassifierError,
    NoTrustedKeyError,
    UntrustedKeyError,
)
from edgekit_device.contract.file_table import MAX_BUNDLE_BYTES
from edgekit_device.contract.manifest import GOLDEN_SCORES
from edgekit_device.infer.flatbuffer import read_model
from edgekit_device.infer.golden import Golden

if TYPE_CHECKING:
    from edgekit_device.infer.flatbuffer import TensorInfo

_MAX_SIGNATURE_BYTES = 4096
_MAX_MODEL_BYTES = 2 << 30


def inspect(path: Path, *, pubkey: Path | None = None) -> dict[str, Any]:
    """What a file is, as plain data; the kind is told from its bytes, not its name.

    Args:
        path: A ``.edgekit`` or ``.tflite`` file.
        pubkey: The public key to check a bundle's signature with; by default the keys this machine trusts.

    Returns:
        ``{"kind": "bundle" | "model", "path", "bytes", "sha256", ...}``. A bundle whose signature does not hold is
        still described: ``signature.state`` says so.

    Raises:
        BundleError: A bundle whose structure or digests do not hold.
        ModelFormatError: Neither a bundle nor a TFLite file.
    """
    data = read_file(path, _MAX_MODEL_BYTES)
    facts = {"path": str(path), "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    if data[:4] == b"PK\x03\x04" or path.suffix == ".edgekit":
        if len(data) > MAX_BUNDLE_BYTES:
            raise BundleFormatError(str(path), f"is {len(data)} bytes, over the limit of {MAX_BUNDLE_BYTES}")
        return {"kind": "bundle", **facts, **_bundle_facts(data, path, pubkey)}
    if data[4:8] != b"TFL3":
        raise ModelFormatError(str(path), "it is neither a bundle nor a TFLite file")
    return {"kind": "model", **facts, **model_facts(data, str(path)), "sidecar": _sidecar_facts(path)}


def model_facts(data: bytes, name: str) -> dict[str, Any]:
    """What a TFLite file declares: operators, tensors, quantisation, who compiled it, metadata names.

    Raises:
        ModelFormatError: Not a TFLite file.
    """
    info = read_model(data, name)
    types: dict[str, int] = {}
    for tensor in info.main.tensors:
        types[tensor.dtype] = types.get(tensor.dtype, 0) + 1
    facts = {
        "description": info.description,
        "operators": info.operator_counts,
        "inputs": [_tensor_facts(tensor) for tensor in info.main.inputs],
        "outputs": [_tensor_facts(tensor) for tensor in info.main.outputs],
        "tensor_types": dict(sorted(types.items())),
        "subgraphs": len(info.subgraphs),
        "edgetpu_compiled": info.is_edgetpu_compiled,
        "metadata": sorted(info.metadata),
        "packed_files": _packed_files(data),
    }
    try:
        return {**facts, "classes": classifier_of(info, name).classes, "problem": None}
    except NotAClassifierError as cause:
        return {**facts, "classes": None, "problem": cause.problem}


def signature_state(data: bytes, path: Path, keys: Sequence[Path]) -> dict[str, Any]:
    """What the signature beside a bundle is worth here.

    Returns:
        ``{"state": "trusted" | "untrusted" | "broken" | "missing", "key_id", "comment", "problem"}``; the comment
        is what the signer wrote, and only means something when the state is trusted.
    """
    beside = path.with_name(path.name + ".minisig")
    if not beside.is_file():
        return {"state": "missing", "key_id": None, "comment": None, "problem": f"no {beside.name} beside it"}
    signature = read_file(beside, _MAX_SIGNATURE_BYTES)
    found: dict[str, Any] = {"key_id": None, "comment": None, "problem": None}
    try:
        found["comment"] = minisign.Signature.from_bytes(signature).trusted_comment
        found["key_id"] = check_signature(data, signature, str(path), keys)
        return {"state": "trusted", **found}
    except UntrustedKeyError as cause:
        return {"state": "untrusted", **found, "key_id": cause.key_id, "problem": str(cause)}
    except (BadSignatureError, minisign.Error) as cause:
        return {"state": "broken", **found, "problem": str(cause)}


def _bundle_facts(data: bytes, path: Path, pubkey: Path | None) -> dict[str, Any]:
    try:
        keys: Sequence[Path] = trusted_keys(pubkey)
    except NoTrustedKeyError as cause:
        if pubkey is not None:
            raise
        keys = ()
        state = {**signature_state(data, path, keys), "problem": str(cause)}
    else:
        state = signature_state(data, path, keys)
    bundle = parse_bundle(data, str(path), state["key_id"] or "")
    manifest = bundle.manifest
    return {
        "signature": state,
        "name": manifest.name,
        "version": manifest.version,
        "classes": manifest.classes,
        "labels": list(bundle.labels[:3]),
        "preprocess": manifest.preprocess.to_json(),
        "models": {
            role: {"file": file, **model_facts(bundle.model(role), f"{path}:{file}")}
            for role, file in sorted(manifest.models.items())
        },
        "entries": [
            {"name": name, "bytes": entry.bytes, "sha256": entry.sha256}
            for name, entry in sorted(manifest.files.items())
        ],
        "golden": _golden_facts(bundle),
        "baseline": dict(manifest.baseline),
        "provenance": dict(manifest.provenance),
        "requires": dict(manifest.requires),
        "security_epoch": manifest.security_epoch,
        "extra": dict(manifest.extra),
    }


def _golden_facts(bundle: Bundle) -> dict[str, Any]:
    if GOLDEN_SCORES not in bundle.files:
        return {"images": 0, "tolerances": {}, "unmeasured": []}
    golden = Golden.from_bytes(bundle.files[GOLDEN_SCORES])
    return {
        "images": len(golden.scores),
        "tolerances": dict(golden.tolerances),
        "unmeasured": list(golden.extra.get("unmeasured", [])),
        "top1": {name: int(scores.argmax()) for name, scores in golden.scores.items() if scores.size},
    }


def _packed_files(data: bytes) -> list[str]:
    """Names of the files zipped behind a model, such as its labels."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, ValueError):
        return []


def _tensor_facts(tensor: TensorInfo) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "shape": list(tensor.shape),
        "dtype": tensor.dtype,
        "scale": tensor.scales[0] if tensor.scales else None,
        "zero_point": tensor.zero_points[0] if tensor.zero_points else None,
    }


def _sidecar_facts(path: Path) -> dict[str, Any] | None:
    """OUT.json beside a model; a problem with it is told, not raised: the model itself can be described."""
    try:
        sidecar = read_sidecar(path)
    except (ReplacedFileError, DamagedRecordError) as cause:
        return {"path": str(sidecar_path(path)), "problem": str(cause)}
    return None if sidecar is None else {**sidecar.to_json(), "problem": None}
