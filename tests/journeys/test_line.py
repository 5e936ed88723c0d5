"""The line as a user walks it: commands in a row, on real parts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.cli import main

DEVICE = (sys.executable, "-m", "edgekit_device")


@pytest.fixture(autouse=True)
def _own_keys(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))


def spoken(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The one object on stdout."""
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 1, f"--json must print one object and nothing else: {out[:300]}"
    return dict(json.loads(out))


@pytest.fixture(scope="module")
def lite0(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """lite0 from ImageNet weights, made once by the real command."""
    out = tmp_path_factory.mktemp("lite0") / "lite0.tflite"
    done = subprocess.run(
        [sys.executable, "-m", "edgekit", "convert", "efficientnet-lite0", "-o", str(out)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "TensorFlow's noise reached the terminal"
    assert "same top-1 as float" in done.stdout
    assert all(len(line) <= 80 for line in done.stdout.splitlines()[:-1]), done.stdout
    return out


def test_lite0_is_fully_int8_with_pixels_as_its_input(lite0: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = json.loads(lite0.with_suffix(".json").read_text())
    assert {"path", "sha256", "parent", "variant", "scheme", "io", "bytes", "operators", "input", "output",
            "preprocess", "calibration", "agreement", "seconds"} <= set(card)  # fmt: skip
    assert (card["input"]["scale"], card["input"]["zero_point"]) == (1 / 128, -1)
    assert 5_000_000 < card["bytes"] < 5_600_000
    assert card["parent"].startswith("579344248a93e230")
    assert main(["verify", str(lite0), "--json"]) == 0
    assert spoken(capsys)["passed"]


def test_lite0_names_what_the_photos_show(lite0: Path) -> None:
    from edgekit.data import data_path
    from edgekit_device import vision
    from edgekit_device.contract.preprocess import Preprocess
    from edgekit_device.infer.interpreter import Engine

    spec = Preprocess.from_json(json.loads(lite0.with_suffix(".json").read_text())["preprocess"])
    labels = lite0.with_suffix(".labels.txt").read_text().splitlines()
    engine = Engine(lite0.read_bytes())
    expected = {"coffee.jpg": "espresso", "tiger.jpg": "tiger", "bee.jpg": "bee", "citrus.jpg": "lemon"}
    for name, label in expected.items():
        pixels = vision.decode_image(data_path("calibration_data", name).read_bytes())
        assert labels[int(engine.scores(vision.to_model_input(pixels, spec)).argmax())] == label


def test_a_bundle_of_lite0_is_signed_flashed_and_run(
    lite0: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], require_tool: Any
) -> None:
    bundle = tmp_path / "lite0-1.0.0.edgekit"
    assert main(["bundle", str(lite0), "-o", str(bundle), "--json"]) == 0
    made = spoken(capsys)
    public = Path(os.environ["EDGEKIT_CONFIG_HOME"]) / "keys" / "edgekit.pub"
    minisign = require_tool("minisign", "apt install minisign")
    checked = subprocess.run([minisign, "-V", "-p", public, "-m", bundle], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert made["sha256"] in checked.stdout, "the trusted comment names the bundle's digest"
    assert main(["inspect", str(bundle), "--json"]) == 0
    assert spoken(capsys)["signature"]["state"] == "trusted"
    board = tmp_path / "board"
    assert main(["flash", str(bundle), f"dir:{board}", "--json"]) == 0
    assert spoken(capsys)["targets"][0]["bundle"] == "lite0-1.0.0"
    run = subprocess.run(
        [*DEVICE, "run", "--root", board, "--source", "sample", "--seconds", "4", "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    readings = [json.loads(line) for line in run.stdout.splitlines()]
    assert max(r["fps"] for r in readings) > 0
    assert readings[-1]["bundle"] == "lite0-1.0.0"


def test_random_weights_convert_for_time_and_memory_and_are_never_bundled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "r.tflite"
    words = ["convert", "efficientnet-lite0", "--weights", "random", "--labels", str(_thousand(tmp_path))]
    assert main([*words, "-o", str(out)]) == 0
    assert "cannot be bundled" in capsys.readouterr().out
    assert main(["bundle", str(out), "-o", str(tmp_path / "r.edgekit")]) == 1
    assert "random" in capsys.readouterr().err
    assert not (tmp_path / "r.edgekit").exists()


def _thousand(folder: Path) -> Path:
    path = folder / "labels.txt"
    path.write_text("".join(f"class {n}\n" for n in range(1000)))
    return path


def mobilenet(folder: Path, photos: Path, spec: dict[str, Any]) -> Path:
    """A MobileNetV2 as somebody else would make it: Keras's own, TFLiteConverter, float32 in [-1, 1].

    Its last layer is solved for on five pictures, so that its scores mean something.
    """
    import cv2

    from edgekit.conversion.noise import captured, load_tensorflow
    from edgekit_device import vision
    from edgekit_device.contract.preprocess import Preprocess

    rng = np.random.default_rng(0)
    pictures = []
    for number in range(5):
        blocks = rng.integers(0, 256, (6, 8, 3), np.uint8)
        picture = cv2.resize(blocks, (320, 240), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(photos / f"{number}.png"), picture[..., ::-1])
        pictures.append(vision.to_model_input(picture, Preprocess.from_json(spec))[0])
    tf = load_tensorflow()
    with captured():
        import keras

        keras.utils.set_random_seed(1)
        model = keras.applications.MobileNetV2((96, 96, 3), alpha=0.35, weights=None, classes=5)
        features = keras.Model(model.inputs, model.layers[-2].output).predict(np.stack(pictures), verbose=0)
        middle = features.mean(axis=0)
        kernel = np.linalg.pinv(features - middle) @ (12 * np.eye(5) - 12 / 5)
        model.layers[-1].set_weights([kernel, -middle @ kernel])
        path = folder / "theirs.tflite"
        path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    return path


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_mobilenet_made_elsewhere_goes_down_the_same_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "labels.txt").write_text("a\nb\nc\nd\ne\n")
    photos = tmp_path / "photos"
    photos.mkdir()
    spec = {"color": "RGB", "height": 96, "width": 96, "crop": "center", "crop_fraction": 0.875,
            "interpolation": "bilinear", "antialias": True, "mean": [127.5] * 3, "std": [127.5] * 3,
            "dtype": "float32", "scale": 0, "zero_point": 0}  # fmt: skip
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    model = mobilenet(tmp_path, photos, spec)
    bundle = tmp_path / "theirs-2.0.1.edgekit"
    words = ["bundle", str(model), "--labels", str(tmp_path / "labels.txt"), "--name", "theirs", "--version", "2.0.1"]
    assert main([*words, "-o", str(bundle)]) == 2, "nothing states its preprocessing, so nothing may be guessed"
    assert "--preprocess" in capsys.readouterr().err
    words += ["-o", str(bundle), "--preprocess", str(tmp_path / "spec.json")]
    code = main([*words, "--golden", str(photos)])
    assert code == 0, capsys.readouterr().err
    capsys.readouterr()
    run = subprocess.run(
        [*DEVICE, "run", "--bundle", bundle, "--source", "synthetic", "--seconds", "3", "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout.splitlines()[-1])["bundle"] == "theirs-2.0.1"


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["convert", "efficientnet-lite9", "-o", "x.tflite"], 2, "did you mean"),
        (["convert", "nothing.keras", "-o", "x.tflite"], 2, "no such file"),
        (["convert", "efficientnet-lite0", "-o", "x.onnx"], 2, ".tflite"),
        (["convert", "efficientnet-lite0", "-o", "x.tflite", "--scheme", "int4"], 2, "choose one of"),
        (["convert", "efficientnet-lite0", "-o", "x.tflite", "--calibration", "nowhere"], 1, "not a folder"),
        (["convert", "efficientnet-lite3", "-o", "x.tflite"], 1, "--weights FILE"),
        (["bundle", "nowhere.tflite", "-o", "x.edgekit"], 2, "no such file"),
        (["inspect", "nowhere.tflite"], 1, "cannot be read"),
        (["flash", "nowhere.edgekit", "ssh://pi@porch"], 2, "no such file"),
        (["flash", "nowhere.edgekit", "ftp://pi@porch"], 2, "ssh://"),
        (["flashh"], 2, "flash"),
    ],
)
def test_a_wrong_command_says_what_to_type_next(
    words: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == code
    said = capsys.readouterr()
    assert says in said.err
    assert len(said.err.splitlines()) == 1
    assert not list(tmp_path.iterdir()), "a refused command left something behind"


def test_a_float_twin_can_be_made_and_compared(lite0: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reference = tmp_path / "float.tflite"
    assert main(["convert", "efficientnet-lite0", "--scheme", "float32", "-o", str(reference), "--json"]) == 0
    assert spoken(capsys)["scheme"] == "float32"
    assert main(["verify", str(lite0), "--reference", str(reference), "--json"]) == 0
    assert spoken(capsys)["agreement"]["n"] > 50
    assert main(["verify", str(lite0), "--reference", str(reference), "--least-agreement", "1.0"]) == 3


def test_the_demo_walks_the_whole_line_and_stores_every_message(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edgekit", "demo", "--seconds", "5", "--folder", tmp_path / "demo", "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["made"] == result["stored"] > 3
    assert result["fps"] > 1
    assert result["size_ratio"] > 3
    assert len(result["photos"]) >= 5
    for name in ("lite0.tflite", "lite0.json", "lite0-1.0.0.edgekit", "lite0-1.0.0.edgekit.minisig", "fleet.db"):
        assert (tmp_path / "demo" / name).is_file(), name
    import sqlite3

    with sqlite3.connect(tmp_path / "demo" / "fleet.db") as rows:
        assert rows.execute("select count(*) from readings").fetchone()[0] >= 4
