"""What a stage hands on is on the disk whole, and what describes a file speaks of that file."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.artefacts import (
    Artefact,
    Sidecar,
    read_sidecar,
    run_path,
    sha256_of,
    write_atomically,
    write_json,
    write_sidecar,
)
from edgekit.errors import DamagedRecordError, ReplacedFileError

FIELDS = {
    "path", "sha256", "parent", "variant", "scheme", "io", "bytes", "operators", "input", "output", "preprocess",
    "calibration", "agreement", "seconds", "weights", "labels", "recipe", "schema",
}  # fmt: skip


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "lite0.tflite"
    path.write_bytes(b"a model")
    return path


def sidecar_for(model: Path) -> Sidecar:
    return Sidecar(
        path=str(model),
        sha256=sha256_of(model),
        parent="ab" * 32,
        variant="efficientnet-lite0",
        scheme="int8",
        io="int8",
        bytes=model.stat().st_size,
        operators={"CONV_2D": 3},
        input={"shape": [1, 224, 224, 3], "dtype": "int8", "scale": 1 / 128, "zero_point": -1},
        output={"shape": [1, 1000], "dtype": "int8", "scale": 1 / 256, "zero_point": -128},
        preprocess={},
        calibration={"images": 27},
        agreement={"top1": 0.98, "n": 200},
        seconds=17.5,
        weights={"source": "imagenet", "sha256": "cd" * 32, "licence": "Apache-2.0"},
        labels=1000,
    )


def test_a_sidecar_is_read_as_it_was_written_and_keeps_unknown_fields(model: Path) -> None:
    written = replace(sidecar_for(model), extra={"later": [1, 2]})
    path = write_sidecar(model, written)
    assert path.name == "lite0.json"
    assert read_sidecar(model) == written
    document = json.loads(path.read_bytes())
    assert set(document) == FIELDS | {"later"} and document["schema"] == 1


def test_a_replaced_model_is_noticed(model: Path) -> None:
    write_sidecar(model, sidecar_for(model))
    model.write_bytes(b"another model")
    with pytest.raises(ReplacedFileError, match="somebody replaced the model") as caught:
        read_sidecar(model)
    assert caught.value.actual == hashlib.sha256(b"another model").hexdigest()


def test_a_model_from_elsewhere_has_no_sidecar(model: Path) -> None:
    assert read_sidecar(model) is None


@pytest.mark.parametrize("content", [b"", b"{}", b'{"schema":1}', b'{"schema":2}', b"[1]", b"\xff", b"[" * 100_000])
def test_a_damaged_sidecar_is_named(model: Path, content: bytes) -> None:
    model.with_suffix(".json").write_bytes(content)
    with pytest.raises(DamagedRecordError, match=r"lite0\.json"):
        read_sidecar(model)


def test_the_chain_leads_from_a_file_to_its_parent(model: Path) -> None:
    parent = Artefact.of(model, "weights")
    child = model.with_name("child.tflite")
    child.write_bytes(b"child")
    link = Artefact.of(child, "tflite", parent=parent.sha256, recipe={"scheme": "int8"})
    assert (link.parent, link.sha256) == (hashlib.sha256(b"a model").hexdigest(), hashlib.sha256(b"child").hexdigest())
    with pytest.raises(AttributeError):
        link.kind = "other"  # type: ignore[misc]
    assert sidecar_for(model).artefact(model).parent == "ab" * 32


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "x.bin"
    write_atomically(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"new")
    monkeypatch.undo()
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(Exception):  # noqa: B017 - whatever a broken rename raises
        write_atomically(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("at", range(1, 6))
def test_a_kill_at_any_step_leaves_the_old_bytes_or_the_new(tmp_path: Path, at: int) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(b"old" * 100_000)
    code = f"""
import os, signal, sys, pathlib
from edgekit.artefacts import write_atomically
count = 0
def counted(real):
    def call(*arguments, **named):
        global count
        count += 1
        if count == {at}: os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **named)
    return call
os.fsync, os.fchmod = counted(os.fsync), counted(os.fchmod)
pathlib.Path.replace = counted(pathlib.Path.replace)
write_atomically(pathlib.Path(sys.argv[1]), b"new" * 100_000)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code, str(path)], env=environment, check=False)
    # fchmod, fsync, replace, fsync of the folder: four steps, and the fifth case is the whole run.
    assert done.returncode == (-signal.SIGKILL if at < 5 else 0)
    assert path.read_bytes() == (b"old" if at < 4 else b"new") * 100_000


def test_files_get_the_mode_that_was_asked_for(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write_atomically(tmp_path / "public", b"x")
        write_atomically(tmp_path / "secret", b"x", mode=0o600)
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "public").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600


def test_json_is_sorted_and_refuses_what_is_not_json(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"b": 1, "a": Path("p")})
    assert (tmp_path / "x.json").read_text() == '{\n  "a": "p",\n  "b": 1\n}\n'
    for bad in ({"x": float("nan")}, {"x": object()}):
        with pytest.raises((ValueError, TypeError)):
            write_json(tmp_path / "y.json", bad)
    assert not (tmp_path / "y.json").exists()


@pytest.mark.parametrize(
    ("name", "path"),
    [("cats", "runs/cats"), ("cats.v2", "runs/cats.v2"), ("./cats", "cats"), ("a/b", "a/b"), ("/a", "/a"), (".", ".")],
)
def test_a_bare_run_name_means_a_folder_below_runs(name: str, path: str) -> None:
    assert run_path(name) == Path(path)
