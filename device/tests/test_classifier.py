"""Eight lines of Python, the local hook and models from pip, as a maker uses them."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import pytest

from edgekit_device import Classifier
from edgekit_device.contract.errors import SignatureError, SourceUnavailableError, UsageError

sys.path.insert(0, str(Path(__file__).parent))
import runs
from conftest import draw, png

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "guide" / "examples"


@pytest.fixture(scope="module")
def bundle(workshop: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return workshop.write(tmp_path_factory.mktemp("bundle") / "toy-1.0.0.edgekit"), workshop.public


def test_a_folder_of_pictures_gives_one_result_each(bundle: tuple[Path, Path], tmp_path: Path) -> None:
    shapes = ("circle", "square", "triangle")
    for number, shape in enumerate(shapes):
        (tmp_path / f"{number}.png").write_bytes(png(draw(shape)))
    with Classifier(bundle[0], source=f"images:{tmp_path}", pubkey=bundle[1], top=2) as seen:
        results = list(seen)
    assert [r.top[0][0] for r in results] == list(shapes)
    assert all(len(r.top) == 2 and r.top[0][1] >= r.top[1][1] for r in results)
    assert all(r.latency_ms > 0 for r in results)


def test_a_live_source_yields_until_the_caller_has_enough_and_is_given_back(bundle: tuple[Path, Path]) -> None:
    with Classifier(bundle[0], source="synthetic", pubkey=bundle[1]) as seen:
        for number, result in enumerate(seen):
            assert 0 <= result.score <= 1
            if number == 10:
                break
        capture = seen._capture
        assert capture is not None
        assert capture.is_alive()
    assert not capture.is_alive()


def test_only_changes_are_yielded_when_asked(bundle: tuple[Path, Path], tmp_path: Path) -> None:
    for number in range(8):
        (tmp_path / f"{number}.png").write_bytes(png(draw("circle" if number < 5 else "square")))
    with Classifier(bundle[0], source=f"images:{tmp_path}", pubkey=bundle[1], on_change=True) as seen:
        results = list(seen)
    assert len(results) < 8
    assert all(r.changed for r in results)


def test_a_foreign_bundle_and_a_missing_source_are_refused(bundle: tuple[Path, Path], tmp_path: Path) -> None:
    import minisign

    other = tmp_path / "other.pub"
    other.write_bytes(bytes(minisign.KeyPair.generate().public_key))
    with pytest.raises(SignatureError):
        Classifier(bundle[0], source="synthetic", pubkey=other)
    with pytest.raises(SourceUnavailableError), Classifier(bundle[0], source="video:no", pubkey=bundle[1]) as seen:
        next(iter(seen))


def test_a_program_on_the_board_hears_each_decision_on_a_unix_socket(bundle: tuple[Path, Path], tmp_path: Path) -> None:
    place = tmp_path / "results.sock"
    process = runs.start(*bundle, "--source", "sample", "--results", f"unix:{place}")
    until = time.monotonic() + 30
    while not place.exists() and time.monotonic() < until:
        time.sleep(0.05)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as reader:
        reader.settimeout(30)
        reader.connect(str(place))
        first = json.loads(reader.makefile("rb").readline())
    done = runs.stop(process)
    assert done.code == 0, done.said
    assert first["decision"] in ("accepted", "uncertain")
    assert first["label"] in ("circle", "square", "triangle", "cross")
    assert not place.exists(), "the socket file was left behind"


def test_a_file_in_the_way_of_the_socket_is_not_touched(bundle: tuple[Path, Path], tmp_path: Path) -> None:
    precious = tmp_path / "results.sock"
    precious.write_text("mine")
    done = runs.run(*bundle, "--source", "synthetic", "--results", f"unix:{precious}")
    assert done.code == 2
    assert precious.read_text() == "mine"


def test_the_relay_example_runs_without_a_pi(bundle: tuple[Path, Path], tmp_path: Path) -> None:
    pytest.importorskip("gpiozero", reason="pip install gpiozero") if os.environ.get(
        "EDGEKIT_REQUIRE"
    ) != "all" else None
    for number in range(12):
        shape = "circle" if number < 6 else "square"
        cv2.imwrite(str(tmp_path / f"{number:02d}.png"), cv2.cvtColor(draw(shape), cv2.COLOR_RGB2BGR))
    done = subprocess.run(
        [
            sys.executable,
            EXAMPLES / "relay.py",
            "circle",
            "--bundle",
            bundle[0],
            "--pubkey",
            bundle[1],
            "--source",
            f"images:{tmp_path}",
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "GPIOZERO_PIN_FACTORY": "mock"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    words = [line.rpartition("relay ")[2] for line in done.stdout.splitlines()]
    assert "on" in words
    assert words[-1] == "off"


def wheel_of(folder: Path, name: str, bundle: tuple[Path, Path]) -> None:
    """What pip leaves of a model wheel: the package, and its entry point."""
    package = folder / f"edgekit_model_{name}"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    for file in (bundle[0], bundle[0].with_name(bundle[0].name + ".minisig"), bundle[1]):
        shutil.copy(file, package / file.name)
    info = folder / f"edgekit_model_{name}-1.0.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: edgekit-model-{name}\nVersion: 1.0.0\n")
    (info / "entry_points.txt").write_text(f"[edgekit.models]\n{name} = edgekit_model_{name}\n")


def test_an_installed_model_runs_by_name_and_by_itself(bundle: tuple[Path, Path], tmp_path: Path) -> None:
    wheel_of(tmp_path, "toy", bundle)
    world = {**os.environ, "PYTHONPATH": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state")}
    for words in (["--bundle", "toy"], ["--root", "/"]):
        done = subprocess.run(
            [sys.executable, "-m", "edgekit_device", "run", *words, "--source", "sample", "--seconds", "2", "--json"],
            capture_output=True,
            text=True,
            env=world,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout.splitlines()[-1])["bundle"] == "toy-1.0.0"


def test_without_any_model_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgekit_device import model_wheels

    monkeypatch.setattr(model_wheels, "entry_points", lambda group: [])
    with pytest.raises(UsageError, match="pip install edgekit-model-lite0"):
        model_wheels.installed_model()
