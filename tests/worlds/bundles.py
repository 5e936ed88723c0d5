"""Small bundles, whole and signed. The model is any bytes: slots never load it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import minisign

from edgekit_device.contract.archive import write_archive
from edgekit_device.contract.file_table import table_of
from edgekit_device.contract.manifest import LABELS, NAME, Manifest
from edgekit_device.contract.preprocess import efficientnet_lite


@dataclass(frozen=True)
class Signer:
    """A key pair, its public half on disk."""

    pair: minisign.KeyPair
    public: Path

    @classmethod
    def make(cls, folder: Path, name: str = "edgekit") -> Signer:
        """Make a pair and write `folder/name.pub`."""
        folder.mkdir(parents=True, exist_ok=True)
        pair = minisign.KeyPair.generate()
        public = folder / f"{name}.pub"
        public.write_bytes(bytes(pair.public_key))
        return cls(pair, public)

    def bundle(self, folder: Path, name: str = "toy", version: str = "1.0.0", model: bytes = b"model" * 100) -> Path:
        """Write `folder/name-version.edgekit` and its signature."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}-{version}.edgekit"
        data = bundle_bytes(name, version, model)
        path.write_bytes(data)
        self.sign(path)
        return path

    def sign(self, path: Path) -> None:
        """Sign a file as `path.minisig`."""
        signature = self.pair.secret_key.sign(path.read_bytes(), prehash=True)
        path.with_name(path.name + ".minisig").write_bytes(bytes(signature))


def bundle_bytes(
    name: str = "toy", version: str = "1.0.0", model: bytes = b"model" * 100, security_epoch: int = 0
) -> bytes:
    """A valid bundle of two classes."""
    files = {"model.tflite": model, LABELS: b"cat\ndog\n"}
    manifest = Manifest(
        name=name,
        version=version,
        files=table_of(files),
        models={"cpu": "model.tflite"},
        preprocess=efficientnet_lite(224),
        classes=2,
        security_epoch=security_epoch,
    )
    return write_archive({**files, NAME: manifest.to_bytes()})
