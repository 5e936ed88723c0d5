"""A bundle on disk is signed, reproducible, proved by the device's own code, and never half there."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import signal
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from edgekit.bundling import writing
from edgekit.bundling.pair import publish
from edgekit.bundling.provenance import portable
from edgekit.bundling.writing import BundlePlan, WrittenBundle, write_bundle
from edgekit.errors import (
    BundleTooLargeError,
    GoldenImagesError,
    LabelCountError,
    RandomWeightsError,
    ReplacedFileError,
    RungError,
    WrongRoleError,
)
from edgekit_device.bundle import open_bundle
from edgekit_device.contract.archive import write_archive
from edgekit_device.contract.errors import (
    GoldenMismatchError,
    ModelFormatError,
    NotAClassifierError,
    ShapeError,
    UsageError,
)
from edgekit_device.contract.file_table import FileEntry, table_of
from edgekit_device.contract.manifest import NAME, Manifest
from edgekit_device.contract.preprocess import efficientnet_lite
from edgekit_device.infer.flatbuffer import read_model
from edgekit_device.infer.golden import prove
from edgekit_device.infer.interpreter import Engine


@pytest.fixture(scope="module")
def source(toy, photos, key, tmp_path_factory) -> WrittenBundle:
    """One good bundle for the tests that only read it."""
    made = BundlePlan("toy", "1.0.0", toy, ("circle", "square", "triangle", "cross"), efficientnet_lite(32), photos[:6])
    return write_bundle(made, tmp_path_factory.mktemp("source") / "toy.edgekit", key)


def test_a_bundle_opens_on_the_device_and_serves_on_both_rungs(plan, key, tmp_path) -> None:
    told: list[str] = []
    written = write_bundle(plan(), tmp_path / "toy-1.0.0.edgekit", key, progress=told.append)
    bundle, raw = open_bundle(written.path, [key.public_path])
    assert written.signature == tmp_path / "toy-1.0.0.edgekit.minisig"
    assert (bundle.sha256, bundle.key_id, len(raw)) == (written.sha256, key.key_id, written.bytes)
    assert bundle.labels == ("circle", "square", "triangle", "cross")
    assert bundle.manifest == written.manifest
    assert dict(bundle.manifest.requires) == {"runtime": "0.1.0", "schema": 1}
    assert bundle.manifest.preprocess == efficientnet_lite(32).quantised("int8", 1 / 128, -1)
    for rung in ("xnnpack", "builtin"):
        assert prove(Engine(bundle.model(), delegate=rung), bundle)["images"] == 4
    assert len(told) == 2 and written.notes == ()
    assert sorted(path.name for path in tmp_path.iterdir()) == [written.path.name, written.signature.name]


def test_debians_minisign_verifies_it_and_unzip_finds_no_fault(source, key, require_tool) -> None:
    minisign, unzip = (require_tool(tool, f"apt install {tool}") for tool in ("minisign", "unzip"))
    done = subprocess.run(
        [minisign, "-V", "-H", "-m", source.path, "-p", key.public_path], capture_output=True, text=True, check=True
    )
    assert f"edgekit toy-1.0.0 sha256:{source.sha256}" in done.stdout
    assert subprocess.run([unzip, "-t", source.path], capture_output=True, check=False).returncode == 0
    with zipfile.ZipFile(source.path) as archive:
        names = archive.namelist()
        assert names == sorted(names) and all(info.compress_type == 0 for info in archive.infolist())


def test_the_same_inputs_give_the_same_bytes_wherever_and_whenever_they_are_used(
    described, plan, key, tmp_path
) -> None:
    """Two folders, two conversion times, two processes' worth of measuring: one bundle."""
    out = []
    for folder, seconds in (("a", 17.5), ("b", 21.0)):
        model = described(folder, seconds=seconds)
        out.append(write_bundle(plan(model=model, photos=plan().photos[:6]), tmp_path / f"{folder}.edgekit", key))
    assert out[0].path.read_bytes() == out[1].path.read_bytes()
    assert out[0].signature.read_bytes() == out[1].signature.read_bytes()


def test_provenance_travels_and_names_no_folder_of_this_machine(described, plan, key, tmp_path) -> None:
    written = write_bundle(
        plan(model=described(), provenance={"licences": {"model": "Apache-2.0"}}, security_epoch=3),
        tmp_path / "toy.edgekit",
        key,
    )
    manifest = open_bundle(written.path, [key.public_path])[0].manifest
    assert manifest.provenance["weights"] == {"source": "mine.pth", "sha256": "cd" * 32, "licence": "Apache-2.0"}
    assert manifest.provenance["parent"] == "ab" * 32
    assert manifest.provenance["calibration"] == {"images": 27}
    assert manifest.provenance["licences"] == {"model": "Apache-2.0"}
    assert "ai-edge-litert" in manifest.provenance["tools"]
    assert manifest.security_epoch == 3
    assert str(tmp_path).encode() not in written.path.read_bytes()
    assert written.artefact.parent == hashlib.sha256(plan().model.read_bytes()).hexdigest()


def test_what_is_portable_keeps_facts_and_drops_places() -> None:
    given = {"a": [Path("/x/y.pth"), "~/z", "a/b"], "seconds": 1.0, "b": {"path": "q", "n": 3}, "s": "text"}
    assert portable(given) == {"a": ["y.pth", "z", "a/b"], "b": {"n": 3}, "s": "text"}


def test_random_weights_are_refused_by_name(described, plan, key, tmp_path) -> None:
    model = described(weights={"source": "random", "sha256": None, "licence": None})
    with pytest.raises(RandomWeightsError, match="its weights are random"):
        write_bundle(plan(model=model), tmp_path / "toy.edgekit", key)
    assert not (tmp_path / "toy.edgekit").exists()


def test_a_model_that_was_replaced_after_conversion_is_refused(described, surgery, plan, key, tmp_path) -> None:
    model = described()
    model.write_bytes(surgery.other_weights(1))
    with pytest.raises(ReplacedFileError):
        write_bundle(plan(model=model), tmp_path / "toy.edgekit", key)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"labels": ("a", "b", "c")}, LabelCountError),
        ({"labels": ("a", "b", "c", "d", "e")}, LabelCountError),
        ({"name": "Toy"}, UsageError),
        ({"version": "1.0"}, UsageError),
        ({"preprocess": efficientnet_lite(224)}, ShapeError),
        ({"photos": []}, GoldenImagesError),
    ],
    ids=["few labels", "many labels", "name", "version", "preprocess", "no photos"],
)
def test_a_plan_that_does_not_fit_is_refused_and_leaves_nothing(plan, key, tmp_path, changes, error) -> None:
    with pytest.raises(error):
        write_bundle(plan(**changes), tmp_path / "toy.edgekit", key)
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_no_classifier_are_refused_by_name(plan, key, tmp_path, toy) -> None:
    for content, error in ((b"hello", ModelFormatError), (toy.read_bytes()[:5000], ModelFormatError)):
        (tmp_path / "m.tflite").write_bytes(content)
        with pytest.raises(error):
            write_bundle(plan(model=tmp_path / "m.tflite"), tmp_path / "toy.edgekit", key)


def test_an_edge_tpu_file_must_be_compiled_and_never_stands_in_for_the_cpu(
    plan, key, tmp_path, toy, monkeypatch
) -> None:
    with pytest.raises(WrongRoleError, match="not compiled for the Edge TPU"):
        write_bundle(plan(edgetpu=toy), tmp_path / "toy.edgekit", key)
    compiled = tmp_path / "toy_edgetpu.tflite"
    compiled.write_bytes(compiled_twin(toy.read_bytes()))
    assert read_model(compiled.read_bytes()).is_edgetpu_compiled
    with pytest.raises(WrongRoleError, match="'cpu' model"):
        write_bundle(plan(model=compiled), tmp_path / "toy.edgekit", key)
    written = write_bundle(plan(edgetpu=compiled), tmp_path / "toy.edgekit", key)
    bundle, _ = open_bundle(written.path, [key.public_path])
    assert dict(bundle.manifest.models) == {"cpu": "model.tflite", "edgetpu": "model_edgetpu.tflite"}
    assert bundle.model("edgetpu") == compiled.read_bytes()
    assert bundle.manifest.extra["edgetpu_preprocess"] == bundle.manifest.preprocess.to_json()


def compiled_twin(model: bytes) -> bytes:
    """A file with edgetpu-custom-op in it: the toy's SOFTMAX renamed, enough for what reads and never runs it.

    Operator codes are tables in a flatbuffer; a custom code needs a string that the file lacks, so the table is
    written anew at the end and the vector's offset points there.
    """
    data = bytearray(model)
    root = struct.unpack_from("<I", data, 0)[0]
    vtable = root - struct.unpack_from("<i", data, root)[0]
    codes = root + struct.unpack_from("<H", data, vtable + 4 + 2 * 1)[0]
    codes += struct.unpack_from("<I", data, codes)[0]
    last = codes + 4 * struct.unpack_from("<I", data, codes)[0]
    data += b"\0" * (-len(data) % 4)
    new_vtable = len(data)
    # OperatorCode: deprecated_builtin_code (byte) at 12, custom_code at 4, version absent, builtin_code at 8.
    data += struct.pack("<HHHHHH", 12, 16, 12, 4, 0, 8)
    table = len(data)
    name = table + 16
    data += struct.pack("<iIiB3x", table - new_vtable, name - (table + 4), 32, 32)
    data += struct.pack("<I", 17) + b"edgetpu-custom-op\0\0\0"
    struct.pack_into("<I", data, last, table - last)
    return bytes(data)


def test_outputs_of_every_vector_shape_are_classifiers_and_maps_are_not(plan, key, tmp_path, toy) -> None:
    """The toy's output shape is rewritten in the file: what reads it sees (4, 1) as a vector and (2, 2) as a map."""
    good = toy.read_bytes()
    output = read_model(good).main.outputs[0]
    assert output.shape == (1, 4)
    places = [at for at in range(0, len(good) - 12, 4) if good[at : at + 12] == struct.pack("<Iii", 2, 1, 4)]
    changed = bytearray(good)
    for at in places:
        struct.pack_into("<ii", changed, at + 4, 2, 2)
    (tmp_path / "map.tflite").write_bytes(changed)
    assert read_model(bytes(changed)).main.outputs[0].shape == (2, 2)
    with pytest.raises(NotAClassifierError, match=r"output has shape \[2, 2\]"):
        write_bundle(plan(model=tmp_path / "map.tflite"), tmp_path / "toy.edgekit", key)


def test_a_bundle_over_the_limit_is_refused_before_it_is_written(plan, key, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(writing, "MAX_BUNDLE_BYTES", 22_000)
    with pytest.raises(BundleTooLargeError, match="over the limit of 22000"):
        write_bundle(plan(), tmp_path / "toy.edgekit", key)
    monkeypatch.setattr(writing, "MAX_BUNDLE_BYTES", 10_000)
    with pytest.raises(BundleTooLargeError):
        write_bundle(plan(), tmp_path / "toy.edgekit", key)
    assert list(tmp_path.iterdir()) == []


def test_the_self_check_refuses_what_a_board_would_refuse(plan, key, tmp_path, surgery, monkeypatch) -> None:
    """Golden vectors of one training, model of another: measured, signed, and never published."""
    real = writing.write_archive

    def other_training(entries):
        model = surgery.other_weights(3)
        manifest = Manifest.from_bytes(entries[NAME])
        listed = {**manifest.files, "model.tflite": FileEntry(len(model), hashlib.sha256(model).hexdigest())}
        document = {**json.loads(entries[NAME]), "files": {n: vars(entry) for n, entry in listed.items()}}
        return real({**entries, NAME: json.dumps(document).encode(), "model.tflite": model})

    monkeypatch.setattr(writing, "write_archive", other_training)
    with pytest.raises(RungError, match="golden self-test failed"):
        write_bundle(plan(), tmp_path / "toy.edgekit", key)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seed", range(3))
def test_a_resigned_bundle_with_another_trainings_model_fails_on_the_board(
    source, key, tmp_path, surgery, seed: int
) -> None:
    bundle, _ = open_bundle(source.path, [key.public_path])
    model = surgery.other_weights(seed)
    files = {**bundle.files, "model.tflite": model}
    listed = table_of(files)
    manifest = {**json.loads(bundle.manifest.to_bytes()), "files": {n: vars(entry) for n, entry in listed.items()}}
    data = write_archive({NAME: json.dumps(manifest).encode(), **files})
    publish(tmp_path / "toy.edgekit", data, key.sign(data, "edgekit toy-1.0.0"))
    forged, _ = open_bundle(tmp_path / "toy.edgekit", [key.public_path])
    for rung in ("xnnpack", "builtin"):
        with pytest.raises(GoldenMismatchError):
            prove(Engine(forged.model(), delegate=rung), forged)


@pytest.mark.parametrize("old", [False, True], ids=["first time", "over an old pair"])
def test_a_kill_at_any_step_leaves_no_bundle_beside_a_signature_that_is_not_its_own(source, key, tmp_path, old) -> None:
    """The process dies before each system call that publishes; what lies there is whole, absent, or refused."""
    new = source.path.read_bytes(), source.signature.read_bytes()
    earlier = write_archive({"a": b"earlier"})
    code = """
import os, signal, sys, pathlib
from edgekit.bundling.pair import publish
count, at = 0, int(sys.argv[1])
def counted(real):
    def call(*arguments, **named):
        global count
        count += 1
        if count == at: os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **named)
    return call
os.fsync = counted(os.fsync)
pathlib.Path.replace, pathlib.Path.unlink = counted(pathlib.Path.replace), counted(pathlib.Path.unlink)
source, out = pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
publish(out, source.read_bytes(), source.with_name(source.name + ".minisig").read_bytes())
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    seen = set()
    for at in itertools.count(1):
        out = tmp_path / str(at) / "toy.edgekit"
        beside = out.with_name("toy.edgekit.minisig")
        out.parent.mkdir()
        if old:
            publish(out, earlier, key.sign(earlier, "old"))
        done = subprocess.run([sys.executable, "-c", code, str(at), source.path, out], env=environment, check=False)
        assert done.returncode in (0, -signal.SIGKILL)
        state = "none"
        if out.exists():
            state = "new" if out.read_bytes() == new[0] else "old"
            assert beside.read_bytes() == (new[1] if state == "new" else key.sign(earlier, "old"))
        seen.add(state)
        if done.returncode == 0:
            assert state == "new" and sorted(p.name for p in out.parent.iterdir()) == [out.name, beside.name]
            break
    assert at > 6
    assert seen == ({"old", "none", "new"} if old else {"none", "new"})
