"""A small signed bundle for gates, from the fixtures of the device's tests."""

from __future__ import annotations

from pathlib import Path

from tools.results import ROOT

FIXTURES = ROOT / "device" / "tests" / "fixtures"


def toy_bundle(folder: Path) -> tuple[Path, Path]:
    """Write a bundle of the toy classifier.

    Returns:
        (bundle, public key).
    """
    import sys

    sys.path.insert(0, str(ROOT / "device" / "tests"))
    import conftest
    import minisign

    from edgekit_device import vision
    from edgekit_device.contract.archive import write_archive
    from edgekit_device.contract.file_table import table_of
    from edgekit_device.contract.manifest import GOLDEN_SCORES, LABELS, NAME, Manifest
    from edgekit_device.contract.preprocess import efficientnet_lite
    from edgekit_device.infer.golden import Golden
    from edgekit_device.infer.interpreter import Engine

    model = (FIXTURES / "toy_int8.tflite").read_bytes()
    engine = Engine(model)
    spec = efficientnet_lite(32).quantised(engine.input.dtype, engine.input.scale, engine.input.zero_point)
    photos = {f"{i:02d}.png": conftest.draw(shape) for i, shape in enumerate(("circle", "square", "triangle"))}
    scores = {n: engine.scores(vision.to_model_input(photo, spec)) for n, photo in photos.items()}
    files = {
        "model.tflite": model,
        LABELS: (FIXTURES / "labels.txt").read_bytes(),
        GOLDEN_SCORES: Golden(scores, {"xnnpack": 2 / 256, "builtin": 16 / 256}).to_bytes(),
        **{f"golden/{name}": conftest.png(photo) for name, photo in photos.items()},
    }
    entries = table_of(files)
    manifest = Manifest("toy", "1.0.0", entries, {"cpu": "model.tflite"}, spec, engine.classes)
    data = write_archive({NAME: manifest.to_bytes(), **files})
    pair = minisign.KeyPair.generate()
    bundle, public = folder / "toy-1.0.0.edgekit", folder / "edgekit.pub"
    bundle.write_bytes(data)
    bundle.with_name(bundle.name + ".minisig").write_bytes(bytes(pair.secret_key.sign(data, prehash=True)) + b"\n")
    public.write_bytes(bytes(pair.public_key) + b"\n")
    return bundle, public
