"""Write a bundle and its signature: the same bytes from the same inputs, and never half of the pair."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from edgekit.artefacts import Artefact, read_sidecar
from edgekit.bundling.golden import GoldenSet, choose_golden
from edgekit.bundling.labels import check_labels
from edgekit.bundling.pair import publish
from edgekit.bundling.provenance import baseline_of, bench_of, check_weights, provenance_of
from edgekit.bundling.roles import Classifier, check_twins, read_classifier
from edgekit.bundling.rungs import prove_rung
from edgekit.errors import BundleTooLargeError
from edgekit_device.bundle import open_bundle
from edgekit_device.contract.archive import write_archive
from edgekit_device.contract.documents import SCHEMA
from edgekit_device.contract.file_table import MAX_BUNDLE_BYTES, table_of
from edgekit_device.contract.ids import check_bundle_name, check_version
from edgekit_device.contract.manifest import GOLDEN_SCORES, LABELS, NAME, Manifest

if TYPE_CHECKING:
    from edgekit_device.contract.preprocess import Preprocess

LEAST_RUNTIME = "0.1.0"
"""The oldest edgekit-device that runs what this version bundles."""
MODEL_FILES = {"cpu": "model.tflite", "edgetpu": "model_edgetpu.tflite"}


class Signer(Protocol):
    """What signs: `edgekit.trust.keys.SigningKey` does."""

    @property
    def key_id(self) -> str:
        """As minisign prints it."""

    @property
    def public_bytes(self) -> bytes:
        """The public half as a minisign file."""

    def sign(self, data: bytes, comment: str) -> bytes:
        """The content of a .minisig file."""


@dataclass(frozen=True)
class BundlePlan:
    """What a bundle is made of.

    Attributes:
        name: Bundle name.
        version: ``N.N.N``.
        model: The CPU model; OUT.json beside it, if there is one, becomes provenance.
        labels: One per class.
        preprocess: How a frame becomes a normalised image; the type and grid of the tensor come from the model.
        photos: Files to choose golden images from and to measure tolerances on.
        edgetpu: What edgetpu_compiler made of the model.
        baseline: Validation baseline.
        bench: What a board's own bench found; see `provenance.bench_of`.
        provenance: Facts beyond those of OUT.json.
        security_epoch: The only floor against downgrade.
    """

    name: str
    version: str
    model: Path
    labels: Sequence[str]
    preprocess: Preprocess
    photos: Sequence[Path]
    edgetpu: Path | None = None
    baseline: Mapping[str, Any] = field(default_factory=dict)
    bench: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    security_epoch: int = 0


@dataclass(frozen=True)
class WrittenBundle:
    """A bundle on disk, proved.

    Attributes:
        path: The ``.edgekit`` file.
        signature: The ``.minisig`` file.
        sha256: Digest of the bundle.
        bytes: Its size.
        key_id: The key that signed.
        manifest: What it says about itself.
        golden: How the golden images were chosen, and what the rungs measured.
        notes: What was changed or left out, in words.
    """

    path: Path
    signature: Path
    sha256: str
    bytes: int
    key_id: str
    manifest: Manifest
    golden: GoldenSet
    notes: tuple[str, ...]

    @property
    def artefact(self) -> Artefact:
        """The bundle as a link of the chain."""
        parent = self.manifest.files[self.manifest.models["cpu"]].sha256
        return Artefact(self.path, self.sha256, parent, {"bundle": self.manifest.bundle_id}, "bundle")


def write_bundle(
    plan: BundlePlan, out: Path, key: Signer, *, progress: Callable[[str], None] | None = None
) -> WrittenBundle:
    """Make, prove, sign and write one bundle.

    Before the pair appears under its name, the device's own code has opened it and reproduced its golden vectors on
    every rung.

    Args:
        plan: What goes in.
        out: The ``.edgekit`` file.
        key: Signs it.
        progress: Told what begins.

    Raises:
        BundlingError: Something about the plan does not make a bundle; the class says what.
        ReplacedFileError: The model is not the one OUT.json describes.
        ModelError: The model is not a classifier, or does not reproduce itself.
    """
    say = progress or (lambda _: None)
    check_bundle_name(plan.name)
    check_version(plan.version)
    sidecar = read_sidecar(plan.model)
    check_weights(sidecar, str(plan.model))
    models, cpu, twin = _read_models(plan)
    labels = check_labels(plan.labels, classes=cpu.classes)
    fitted = cpu.fitted(plan.preprocess, plan.model.name)
    extra = {"edgetpu_preprocess": twin.fitted(plan.preprocess, str(plan.edgetpu)).to_json()} if twin else {}
    say("measuring the rungs on photos")
    golden = choose_golden(models["cpu"], fitted, plan.photos, edgetpu=twin is not None)
    files = {MODEL_FILES[role]: content for role, content in models.items()}
    files |= {LABELS: labels.to_bytes(), GOLDEN_SCORES: golden.golden.to_bytes()}
    files |= {f"golden/{name}": data for name, data in golden.images.items()}
    manifest = Manifest(
        name=plan.name,
        version=plan.version,
        files=table_of(files),
        models={role: MODEL_FILES[role] for role in models},
        preprocess=fitted,
        classes=cpu.classes,
        baseline={
            **baseline_of(plan.baseline, models["cpu"], str(plan.model)),
            **bench_of(plan.bench, models["cpu"], str(plan.model)),
        },
        provenance=provenance_of(sidecar, plan.provenance),
        requires={"runtime": LEAST_RUNTIME, "schema": SCHEMA},
        security_epoch=plan.security_epoch,
        extra=extra,
    )
    data = write_archive({NAME: manifest.to_bytes(), **files})
    if len(data) > MAX_BUNDLE_BYTES:
        raise BundleTooLargeError(str(out), len(data), MAX_BUNDLE_BYTES)
    sha256 = hashlib.sha256(data).hexdigest()
    signature = key.sign(data, f"edgekit {manifest.bundle_id} sha256:{sha256}")
    say("proving the bundle with the device's own code")
    _prove(data, signature, key, [rung for rung, f in golden.rungs.items() if f.tolerance is not None])
    beside = publish(out, data, signature)
    return WrittenBundle(
        path=out, signature=beside, sha256=sha256, bytes=len(data), key_id=key.key_id, manifest=manifest,
        golden=golden, notes=(*labels.notes, *_notes(golden)),
    )  # fmt: skip


def _read_models(plan: BundlePlan) -> tuple[dict[str, bytes], Classifier, Classifier | None]:
    paths = {"cpu": plan.model, **({"edgetpu": plan.edgetpu} if plan.edgetpu else {})}
    total = sum(path.stat().st_size for path in paths.values() if path.exists())
    if total > MAX_BUNDLE_BYTES:
        raise BundleTooLargeError("the bundle", total, MAX_BUNDLE_BYTES)
    models = {role: path.read_bytes() for role, path in paths.items()}
    read = {role: read_classifier(models[role], str(path)) for role, path in paths.items()}
    check_twins(read["cpu"], read.get("edgetpu"), str(plan.model), str(plan.edgetpu))
    return models, read["cpu"], read.get("edgetpu")


def _prove(data: bytes, signature: bytes, key: Signer, rungs: Sequence[str]) -> None:
    """Open the pair as a board would, and reproduce its golden vectors on each rung."""
    folder = Path(tempfile.mkdtemp(prefix="edgekit-prove-"))
    try:
        bundle, public = folder / "self.edgekit", folder / "self.pub"
        bundle.write_bytes(data)
        (folder / "self.edgekit.minisig").write_bytes(signature)
        public.write_bytes(key.public_bytes)
        open_bundle(bundle, [public])
        for rung in rungs:
            prove_rung(bundle, public, rung)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _notes(golden: GoldenSet) -> list[str]:
    notes = []
    if golden.skipped:
        notes.append(f"{len(golden.skipped)} files are not readable images: {', '.join(golden.skipped[:3])}")
    for rung, figures in golden.rungs.items():
        if figures.reason:
            notes.append(f"{rung} failed here, so boards have no such fallback: {figures.reason}")
    return notes
