"""`edgekit bundle` with everything a bundle may carry, as it is typed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgekit.bundling.writing import write_bundle
from edgekit.errors import ForeignBaselineError
from edgekit.fleet.web.baselines import read_baselines
from edgekit_device.bundle import open_bundle
from edgekit_device.contract.manifest import Manifest
from edgekit_device.contract.preprocess import efficientnet_lite
from edgekit_device.infer.flatbuffer import read_model

FIXTURES = Path(__file__).parents[2] / "device" / "tests" / "fixtures"


@pytest.fixture
def edgekit(tmp_path: Path):
    """The command in a home of its own."""

    def run(*words: object, **more: str) -> subprocess.CompletedProcess[str]:
        home = {"EDGEKIT_CONFIG_HOME": str(tmp_path / "home"), "TF_CPP_MIN_LOG_LEVEL": "3"}
        command = [sys.executable, "-m", "edgekit", *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **home, **more})

    return run


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    """How to feed the toy of colours."""
    spec = tmp_path / "spec.json"
    shape = read_model((FIXTURES / "colours_int8.tflite").read_bytes()).main.inputs[0].shape
    spec.write_text(json.dumps(efficientnet_lite(shape[1]).to_json()))
    return spec


def test_a_protected_key_signs_with_its_passphrase_and_with_no_other(edgekit, toy, tmp_path) -> None:
    keys, out, secret = tmp_path / "keys", tmp_path / "toy.edgekit", "correct horse"
    assert edgekit("keys", "new", keys, "--protect").returncode == 1
    assert edgekit("keys", "new", keys, "--protect", EDGEKIT_KEY_PASSPHRASE=secret).returncode == 0
    labels = FIXTURES / "labels.txt"
    words = ["bundle", toy, "--preprocess", "tf-lite", "--labels", labels, "--sign", keys / "edgekit.key", "-o", out]
    for given in ({}, {"EDGEKIT_KEY_PASSPHRASE": "wrong"}):
        refused = edgekit(*words, **given)
        assert refused.returncode == 1 and "passphrase" in refused.stderr
        assert not out.exists()
    done = edgekit(*words, EDGEKIT_KEY_PASSPHRASE=secret)
    assert done.returncode == 0, done.stderr
    assert open_bundle(out, [keys / "edgekit.pub"])[0].manifest.bundle_id
    assert secret not in done.stdout + done.stderr + refused.stderr


def test_the_compiled_twin_travels_beside_its_cpu_model(edgekit, colours, tmp_path) -> None:
    out, model = tmp_path / "colours.edgekit", FIXTURES / "colours_int8.tflite"
    labels, twin = FIXTURES / "colours_labels.txt", FIXTURES / "colours_edgetpu.tflite"
    words = ["bundle", model, "--labels", labels, "--preprocess", colours, "-o", out]
    done = edgekit(*words, "--edgetpu", twin, "--security-epoch", 2)
    assert done.returncode == 0, done.stderr
    bundle, _ = open_bundle(out, [tmp_path / "home" / "keys" / "edgekit.pub"])
    assert bundle.model("cpu") == model.read_bytes() and bundle.model("edgetpu") == twin.read_bytes()
    assert bundle.manifest.security_epoch == 2
    assert "edgetpu" in edgekit("inspect", out).stdout
    swapped = edgekit("bundle", twin, "--labels", labels, "--preprocess", colours, "--edgetpu", model, "-o", out)
    assert swapped.returncode == 1 and "'cpu'" in swapped.stderr


def test_what_evaluate_found_is_the_baseline_in_the_manifest(plan, key, toy, tmp_path) -> None:
    import hashlib

    judged = {
        "model": "/home/somebody/toy.tflite",
        "model_sha256": hashlib.sha256(toy.read_bytes()).hexdigest(),
        "data": "/home/somebody/photos",
        "n": 50,
        "top1": 0.9,
        "top1_interval": [0.78, 0.97],
        "class_mix": {"0": 25, "1": 25},
        "entropy_hist": [40, 10],
        "seconds": 3.2,
        "images_per_s": 15.6,
        "processes": 2,
    }
    written = write_bundle(plan(baseline=judged), tmp_path / "toy.edgekit", key)
    baseline = open_bundle(written.path, [key.public_path])[0].manifest.baseline
    assert (baseline["n"], baseline["top1"], baseline["top1_interval"]) == (50, 0.9, [0.78, 0.97])
    assert (baseline["model"], baseline["data"]) == ("toy.tflite", "photos")
    assert not {"seconds", "images_per_s", "processes"} & set(baseline)
    with pytest.raises(ForeignBaselineError, match="another model"):
        write_bundle(plan(baseline={**judged, "model_sha256": "0" * 64}), tmp_path / "b.edgekit", key)


def test_a_boards_own_bench_becomes_what_alerts_hold_its_fps_against(edgekit, colours, tmp_path) -> None:
    model, labels = FIXTURES / "colours_int8.tflite", FIXTURES / "colours_labels.txt"
    words = ["bundle", model, "--labels", labels, "--preprocess", colours, "--name", "colours"]
    first, second, bench = tmp_path / "a" / "first.edgekit", tmp_path / "b" / "second.edgekit", tmp_path / "bench.json"
    for out in (first, second):
        out.parent.mkdir()
    assert edgekit(*words, "-o", first).returncode == 0
    key = tmp_path / "home" / "keys" / "edgekit.pub"
    board = [sys.executable, "-m", "edgekit_device", "bench", "--bundle", first, "--pubkey", key, "--json"]
    done = subprocess.run([*map(str, board), "--seconds", "0.3", "--no-litert"], capture_output=True, text=True)
    bench.write_text(done.stdout)
    assert edgekit(*words, "--version", "1.0.1", "--bench", bench, "-o", second).returncode == 0
    best = max(json.loads(done.stdout)["rows"], key=lambda row: row["fps"])
    assert "colours-1.0.0" not in read_baselines(second.parent)
    promised = read_baselines(second.parent)["colours-1.0.1"]
    assert (promised.fps, promised.rung) == (best["fps"], best["rung"])
    assert read_baselines(first.parent)["colours-1.0.0"].fps is None
    for wrong, said in (
        ({**json.loads(done.stdout), "model_sha256": "0" * 64}, "another model"),
        ({"p50_ms": 3}, "edgekit-device bench --json"),
        ({**json.loads(done.stdout), "rows": [{"problem": "no camera"}]}, "no row"),
    ):
        bench.write_text(json.dumps(wrong))
        refused = edgekit(*words, "--bench", bench, "-o", tmp_path / "c.edgekit")
        assert refused.returncode in (1, 2) and said in refused.stderr, refused.stderr
        assert not (tmp_path / "c.edgekit").exists()


def test_a_bundle_requires_the_runtime_and_the_schema_that_wrote_it(plan, key, tmp_path) -> None:
    written = write_bundle(plan(security_epoch=3), tmp_path / "toy.edgekit", key)
    manifest = Manifest.from_bytes(open_bundle(written.path, [key.public_path])[0].manifest.to_bytes())
    assert dict(manifest.requires) == {"runtime": "0.1.0", "schema": 1}
    assert manifest.security_epoch == 3
