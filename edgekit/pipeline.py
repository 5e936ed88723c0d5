"""The stages in their order: the only module that knows more than one of them. The Python API is here."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.artefacts import Sidecar, read_sidecar, write_atomically, write_sidecar
from edgekit.data import data_path
from edgekit.errors import UsageError
from edgekit.gating import judge_gates
from edgekit.inputs import existing, labels_of, labels_path, preprocess_of
from edgekit.labelling import label_model
from edgekit.mixed_cost import cost_of
from edgekit.origins import find_origin
from edgekit.records import record, with_evidence
from edgekit.refining import make_int8, make_int8_as_trained, read_choices
from edgekit_device.contract.ids import suggest_id

if TYPE_CHECKING:
    from edgekit.bundling.writing import WrittenBundle
    from edgekit.conversion.calibration import Photos
    from edgekit.flashing.flashed import Flashed, Options
    from edgekit.verification.agreement import Agreement
    from edgekit.verification.verdict import Verdict
    from edgekit_device.infer.flatbuffer import ModelInfo
    from edgekit_device.infer.interpreter import Engine

Progress = Callable[[str, int, int], None]

# One photo in four judges the conversion and is not calibrated on.
_HELD_OUT = 4
_LEAST_HELD_OUT = 4


@dataclass(frozen=True)
class Conversion:
    """What `convert` made.

    Attributes:
        path: The .tflite file.
        sidecar: OUT.json, as written beside it.
        agreement: With the float model, on photos that were not calibrated on; None for float32.
        verdict: What was checked on the finished file.
        labels: The labels file beside the model; None where labels are not known.
        skipped: (file, reason) of each photo that could not be used.
        float_model: The float32 .tflite that it was made from.
    """

    path: Path
    sidecar: Sidecar
    agreement: Agreement | None
    verdict: Verdict
    labels: Path | None
    skipped: tuple[tuple[str, str], ...]
    float_model: bytes = field(repr=False)


def convert(
    source: str | Path,
    *,
    out: str | Path,
    weights: str | Path = "imagenet",
    calibration: str | Path | None = None,
    preprocess: str | None = None,
    labels: str | Path | None = None,
    scheme: str = "int8",
    io: str | None = None,
    granularity: str = "channel",
    keep_float: Sequence[str] = (),
    target: str | None = None,
    engine: str = "tflite",
    refine: str | None = None,
    ranges: str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Conversion:
    """Make a TFLite model and OUT.json beside it.

    Args:
        source: A variant's name, a run, a .keras file or a SavedModel.
        out: The .tflite file.
        weights: ``imagenet``, ``random`` or a weights file; for a variant only.
        calibration: Folder of photos; the shipped ones by default.
        preprocess: ``tf-lite``, ``timm`` or a file; needed where the weights state none.
        labels: One per class; needed later by `bundle` where the weights state none.
        scheme: ``int8``, ``int16x8``, ``dynamic``, ``float16`` or ``float32``.
        io: Type of input and output; the scheme's first by default.
        granularity: int8 weights have one scale a ``channel`` or a ``tensor``.
        keep_float: Layers that stay in float under int8, by name.
        target: ``edgetpu`` for the Edge TPU compiler.
        engine: ``tflite`` or ``litert``: what makes the integers.
        refine: Passes before quantising, with commas, or ``none``; see `edgekit.refining`.
        ranges: ``min-max``, ``percentile`` or ``mse``, which goes with passes by default.
        seed: Draws the calibration crops, and random weights.
        progress: Called with (stage, done, total).

    Raises:
        EdgeKitError: Named by its class; nothing is left half-written.
    """
    from edgekit.conversion.calibration import draw_crops, load_images
    from edgekit.conversion.noise import captured, load_tensorflow
    from edgekit.conversion.tflite import convert_keras, io_of, lower
    from edgekit.verification.agreement import measure
    from edgekit.verification.structure import check_structure
    from edgekit.verification.verdict import AgreementLimits, judge_agreement
    from edgekit_device.infer.flatbuffer import read_model

    began = time.monotonic()
    out = _tflite_path(out)
    io = io_of(scheme, io)
    choices = read_choices(scheme, io, granularity, tuple(keep_float), target, engine, refine, ranges)
    load_tensorflow()
    with captured():
        origin = find_origin(source, weights, preprocess, labels, seed)
    folder = Path(calibration) if calibration else origin.photos or data_path("calibration_data")
    photos = load_images(folder, progress=progress)
    calibrated, held_out = _split(photos, seed)
    spec = origin.preprocess
    crops = draw_crops(calibrated.images, spec, seed=seed, progress=progress)
    float_model = lower(origin.model, spec, progress=progress)
    pixels = [crop.pixels for crop in crops]
    twins: tuple[bytes, bytes] | None = None
    if choices is not None and origin.ranges is not None:
        crops = ()
        refined = make_int8_as_trained(float_model, origin.ranges, spec, *choices, progress=progress)
        data, made = refined.data, refined.recipe
    elif choices is not None:
        refined = make_int8(float_model, pixels, spec, *choices, seed=seed, progress=progress)
        data, made = refined.data, refined.recipe
        twins = (refined.data, refined.whole) if refined.whole else None
    else:
        data = convert_keras(origin.model, pixels, spec, scheme, io, float_model=float_model, progress=progress)
        made = {}
    # What is judged is what is written, its metadata included.
    data, names = label_model(data, read_model(data, str(out)), origin, scheme)
    info = read_model(data, str(out))
    verdict = check_structure(info, scheme, io, spec, per_channel=granularity == "channel", mixed=bool(keep_float))
    agreement = None
    if scheme != "float32":
        judged = draw_crops(held_out.images, spec, seed=seed)
        agreement = measure(
            *_quiet_engines((float_model, "float"), (data, str(out))),
            [crop.pixels for crop in judged],
            [crop.photo for crop in judged],
            spec,
            progress=progress,
        )
        verdict = verdict + judge_agreement(agreement, AgreementLimits(top1=None))
    verdict.require(str(out))
    sidecar = record(out, data, info, origin, scheme, io, time.monotonic() - began)
    sidecar = with_evidence(sidecar, calibrated, held_out, crops, agreement, seed)
    sidecar = replace(sidecar, recipe={**sidecar.recipe, **made})
    if twins:
        sidecar = replace(sidecar, extra={"keep_float_cost": cost_of(*twins, progress=progress)})
    named = _write(out, data, sidecar, names)
    return Conversion(out, sidecar, agreement, verdict, named, photos.skipped, float_model)


def verify(
    model: str | Path,
    *,
    reference: str | Path | None = None,
    images: str | Path | None = None,
    preprocess: str | None = None,
    least_agreement: float = 0.8,
    gates: str | Path | Mapping[str, Any] | None = None,
    evaluation: str | Path | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[Verdict, Agreement | None]:
    """Check a .tflite file: its structure, its agreement with a float twin, and the gates of a recipe.

    Args:
        model: The file; OUT.json beside it says what it should be.
        reference: The float .tflite to compare with.
        images: Photos to compare on; the shipped ones by default.
        preprocess: Where OUT.json does not state it.
        least_agreement: Least share of crops with the same top-1, unless the gates say.
        gates: Limits as data, or a TOML file with a table [gates]; see `edgekit.verification.gates.Gates`.
        evaluation: Result of `edgekit evaluate --json`, for the gates of accuracy.
        seed: Draws the crops.
        progress: Called with (stage, done, total).

    Raises:
        EdgeKitError: The model cannot be judged; a verdict of no is returned, not raised.
    """
    from edgekit.conversion.calibration import draw_crops, load_images
    from edgekit.verification.agreement import measure
    from edgekit.verification.structure import check_structure
    from edgekit.verification.verdict import AgreementLimits, judge_agreement
    from edgekit_device.infer.flatbuffer import read_model

    path = existing(model)
    sidecar = read_sidecar(path)
    info = read_model(path.read_bytes(), str(path))
    spec = preprocess_of(path, sidecar, info, preprocess)
    scheme = sidecar.scheme if sidecar else _scheme_of(info)
    io = sidecar.io if sidecar else info.main.inputs[0].dtype
    made = sidecar.recipe if sidecar else {"granularity": "unknown"}
    verdict = check_structure(
        info,
        scheme,
        io,
        spec,
        pinned=sidecar is not None,
        per_channel=made.get("granularity", "channel") == "channel",
        mixed=bool(made.get("keep_float")),
    )
    agreement = None
    if reference is not None:
        photos = load_images(Path(images) if images else data_path("calibration_data"), progress=progress, least=1)
        crops = draw_crops(photos.images, spec, seed=seed, progress=progress)
        other = existing(reference)
        agreement = measure(
            *_quiet_engines((other.read_bytes(), str(other)), (path.read_bytes(), str(path))),
            [crop.pixels for crop in crops],
            [crop.photo for crop in crops],
            spec,
            progress=progress,
        )
    if gates is not None:
        limits = gates if isinstance(gates, Mapping) else Path(gates)
        verdict += judge_gates(path, info, limits, agreement, Path(evaluation) if evaluation else None)
    elif agreement is not None:
        verdict += judge_agreement(agreement, AgreementLimits(top1=least_agreement))
    return verdict, agreement


def bundle(
    model: str | Path,
    *,
    out: str | Path,
    labels: str | Path | None = None,
    name: str | None = None,
    version: str = "1.0.0",
    edgetpu: str | Path | None = None,
    golden: str | Path | None = None,
    baseline: Mapping[str, Any] | None = None,
    bench: Mapping[str, Any] | None = None,
    sign: str | Path | None = None,
    preprocess: str | None = None,
    security_epoch: int = 0,
    progress: Callable[[str], None] | None = None,
) -> WrittenBundle:
    """Put a model, its labels and its golden vectors into one signed file.

    Args:
        model: A .tflite classifier.
        out: The ``.edgekit`` file.
        labels: One per class; the file that `convert` left beside the model by default.
        name: Bundle name; the model's file name by default.
        version: ``N.N.N``.
        edgetpu: The model as edgetpu_compiler made it.
        golden: Folder of photos to choose golden images from; the shipped ones by default.
        baseline: Result of `evaluate`.
        bench: Result of `edgekit-device bench --json` on a board that runs this model.
        sign: Secret key file; the user's own by default, made at first use.
        preprocess: ``tf-lite``, ``timm`` or a file, for a model without OUT.json.
        security_epoch: Boards that have entered it install nothing lower.
        progress: Told what begins.

    Raises:
        EdgeKitError: Named by its class; nothing is left half-written.
    """
    from edgekit.bundling.labels import read_labels
    from edgekit.bundling.writing import BundlePlan, write_bundle
    from edgekit.conversion.calibration import load_images
    from edgekit.trust.keys import load_key, load_or_create
    from edgekit_device.infer.flatbuffer import read_model

    path, target = existing(model), Path(out)
    if target.suffix != ".edgekit":
        raise UsageError(f"-o {target}: a bundle's name ends in .edgekit")
    sidecar = read_sidecar(path)
    spec = preprocess_of(path, sidecar, read_model(path.read_bytes(), str(path)), preprocess)
    photos = load_images(Path(golden) if golden else data_path("calibration_data"), least=1)
    plan = BundlePlan(
        name=name or suggest_id(path.stem),
        version=version,
        model=path,
        labels=read_labels(labels_of(path, labels)).names,
        preprocess=spec,
        photos=[photo.path for photo in photos.images],
        edgetpu=Path(edgetpu) if edgetpu else None,
        baseline=baseline or {},
        bench=bench or {},
        security_epoch=security_epoch,
    )
    key = load_key(Path(sign)) if sign else load_or_create()
    return write_bundle(plan, target, key, progress=progress)


def flash(
    bundle: str | Path | None,
    targets: Sequence[str],
    *,
    settings: Mapping[str, object] | None = None,
    public_key: str | Path | None = None,
    dry_run: bool = False,
    on_step: Callable[[str, str], None] | None = None,
    wheels: str | Path | None = None,
    libedgetpu: str | Path | None = None,
    fleet: str | Path | None = None,
    enroll: bool = True,
    enroll_again: bool = False,
    remove: bool = False,
    wait_s: float = 300.0,
    options: Options | None = None,
) -> list[Flashed]:
    """Install a bundle on boards, side by side, each through the same slots.

    Args:
        bundle: The ``.edgekit`` file; None with `remove`.
        targets: ``ssh://user@host[:port]``, ``dir:PATH``, or names from fleet.toml.
        settings: Keys of device.toml.
        public_key: The signer's; the user's own by default.
        dry_run: Write nothing.
        on_step: Called with (target, change) before each change.
        wheels: Folder of wheels for the boards' runtime; the cache of `edgekit wheels fetch` by default, and
            where that is empty the boards' own pip.
        libedgetpu: A .deb of libedgetpu for the boards.
        fleet: Folder of the fleet that boards join; ``~/.config/edgekit/fleet`` by default.
        enroll: Let boards join it, if there is one and `settings` names no other broker.
        enroll_again: Also under a name that is taken.
        remove: Take everything away instead, and revoke the boards.
        wait_s: How long a board may take to its first Reading.
        options: How passwords are asked for and progress is told.

    Returns:
        One result a target. A failure of one stops no other.

    Raises:
        FlashFailedError: Some failed; all results are in it. A single target raises its own error.
        EdgeKitError: What is wrong before any board is asked.
    """
    from edgekit.enlisting import membership
    from edgekit.flashing.errors import FlashFailedError
    from edgekit.flashing.flashed import Options
    from edgekit.flashing.naming import read_boards
    from edgekit.flashing.procedure import flash_all, prepare
    from edgekit.flashing.targets import FolderTarget, parse_target
    from edgekit.flashing.wheelhouse import wheel_folder

    names = read_boards() if any(":" not in target for target in targets) else {}
    parsed = [parse_target(target, names) for target in targets]
    given, remote = settings or {}, any(not isinstance(target, FolderTarget) for target in parsed)
    joined = (
        membership(Path(fleet) if fleet else None, again=enroll_again) if enroll and not given.get("broker") else None
    )
    wanted = None
    if not remove:
        if bundle is None:
            raise UsageError("name the bundle: edgekit flash BUNDLE TARGET")
        wanted = prepare(
            bundle,
            settings=given,
            public_key=Path(public_key) if public_key else None,
            fleet=joined,
            # A folder has no runtime of its own: no wheel is read for it.
            wheels=(Path(wheels) if wheels else wheel_folder()) if remote else None,
            package=Path(libedgetpu) if libedgetpu else None,
            wait_s=wait_s,
        )

    def tell(target: str, step: Any) -> None:
        if on_step:
            on_step(target, step.describe)

    chosen = replace(options or Options(), dry_run=dry_run, remove=remove, on_step=tell, leaves=joined)
    done = flash_all(wanted, parsed, chosen)
    failed = [one.error for one in done if one.error is not None]
    if failed and len(done) == 1:
        raise failed[0]
    if failed:
        raise FlashFailedError(done)
    return done


def _tflite_path(out: str | Path) -> Path:
    path = Path(out)
    if path.suffix != ".tflite":
        raise UsageError(f"-o {path}: a model's name ends in .tflite")
    if not path.parent.is_dir():
        raise UsageError(f"-o {path}: there is no folder {path.parent}; make it first: mkdir -p {path.parent}")
    return path


def _quiet_engines(first: tuple[bytes, str], second: tuple[bytes, str]) -> tuple[Engine, Engine]:
    """Two models, each ready on all cores, without the interpreter's greeting on the terminal."""
    from edgekit.conversion.noise import captured
    from edgekit_device.infer.interpreter import Engine

    threads = len(os.sched_getaffinity(0))
    with captured():
        engines = [Engine(data, threads=threads, name=name) for data, name in (first, second)]
    return engines[0], engines[1]


def _split(photos: Photos, seed: int) -> tuple[Photos, Photos]:
    """Photos to calibrate on and photos to judge by; too few for both serve as both, and OUT.json says so."""
    held = len(photos.images) // _HELD_OUT
    if held < _LEAST_HELD_OUT:
        return photos, photos
    ranked = sorted(photos.images, key=lambda p: hashlib.sha256(f"held-out:{seed}:{p.sha256}".encode()).digest())
    judges = {photo.sha256 for photo in ranked[:held]}
    kept = tuple(p for p in photos.images if p.sha256 not in judges)
    return replace(photos, images=kept), replace(photos, images=tuple(p for p in photos.images if p.sha256 in judges))


def _write(out: Path, data: bytes, sidecar: Sidecar, labels: Sequence[str] | None) -> Path | None:
    """Sidecar last: a model without one is a model from elsewhere, a sidecar never speaks of missing bytes."""
    sidecar_file = out.with_suffix(".json")
    sidecar_file.unlink(missing_ok=True)
    named = None
    if labels:
        named = labels_path(out)
        write_atomically(named, "".join(f"{label}\n" for label in labels).encode("utf-8"))
    write_atomically(out, data)
    write_sidecar(out, sidecar)
    return named


def _scheme_of(info: ModelInfo) -> str:
    """What a model from elsewhere seems to be."""
    kinds = {tensor.dtype for tensor in info.main.tensors}
    return "int8" if "float32" not in kinds else "float32"
