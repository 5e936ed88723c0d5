"""A runtime release out of a folder of wheels: what fits, what is missing, and a board that takes it."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import pytest

from edgekit.bundling.runtime_release import RuntimePlan, WheelMissingError, WheelTwiceError, fits, write_runtime
from edgekit.cli import main
from edgekit.trust.keys import new_keys
from edgekit_device.runtimes import launcher, launcher_bytes, slots
from edgekit_device.runtimes.release import open_runtime
from tests.worlds.runtimes import PYTHON, pip_wheel, tiny_files, wheel


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """A cache with wheels for several boards."""
    folder = tmp_path / "wheels"
    (folder / "cp313-aarch64").mkdir(parents=True)
    device, data = wheel("edgekit-device", "0.4.0", tiny_files())
    (folder / device).write_bytes(data)
    name, data = pip_wheel()
    (folder / name).write_bytes(data)
    for other in ("numpy-2.4.6-cp313-cp313-manylinux_2_27_aarch64.whl", "numpy-2.4.6-cp311-cp311-win_amd64.whl"):
        (folder / "cp313-aarch64" / other).write_bytes(b"another board's")
    return folder


def plan(folder: Path, **more: object) -> RuntimePlan:
    return RuntimePlan(folder, PYTHON, platform.machine(), system_site_packages=False, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "python", "machine", "does"),
    [
        ("numpy-2.4.6-cp313-cp313-manylinux_2_27_aarch64.manylinux_2_28_aarch64.whl", "3.13", "aarch64", True),
        ("numpy-2.4.6-cp313-cp313-manylinux_2_27_aarch64.whl", "3.11", "aarch64", False),
        ("numpy-2.4.6-cp313-cp313-manylinux_2_27_aarch64.whl", "3.13", "x86_64", False),
        ("numpy-2.4.6-cp313-cp313-musllinux_1_2_aarch64.whl", "3.13", "aarch64", False),
        ("cryptography-46.0.3-cp311-abi3-manylinux_2_34_x86_64.whl", "3.13", "x86_64", True),
        ("cryptography-46.0.3-cp313-abi3-manylinux_2_34_x86_64.whl", "3.11", "x86_64", False),
        ("paho_mqtt-2.1.0-py3-none-any.whl", "3.11", "aarch64", True),
        ("six-1.17.0-py2.py3-none-any.whl", "3.13", "armv7l", True),
        ("tflite_runtime-2.14.0-cp311-cp311-linux_armv7l.whl", "3.11", "armv7l", True),
        ("ruff-0.14.0-py3-none-manylinux_2_17_x86_64.whl", "3.11", "aarch64", False),
        ("pip-26.0-py2-none-any.whl", "3.11", "aarch64", False),
    ],
)
def test_a_wheel_fits_by_the_tags_in_its_name(name, python, machine, does) -> None:
    assert fits(name, python, machine) is does


def test_the_same_wheels_make_the_same_bytes_and_a_board_takes_them(wheels, tmp_path, capsys) -> None:
    key = new_keys(tmp_path / "keys")
    first = write_runtime(plan(wheels), tmp_path, key)
    again = write_runtime(plan(wheels), tmp_path / "again.edgekit", key)
    assert first.path.read_bytes() == again.path.read_bytes()
    assert first.path.name == f"runtime-0.4.0-cp{PYTHON.replace('.', '')}-{platform.machine()}.edgekit"
    home = tmp_path / "opt" / "edgekit"
    home.mkdir(parents=True)
    (home / slots.LAUNCH).write_bytes(launcher_bytes())
    (home / launcher.BASE).mkdir()
    assert slots.install(home, first.path, [key.public_path]) == "runtime-0.4.0"
    assert launcher.wanted(home) == "runtime-0.4.0"


def test_the_verb_says_what_is_in_it(wheels, tmp_path, capsys) -> None:
    key = new_keys(tmp_path / "keys")
    words = ["wheels", "release", str(wheels), "--python", "3.13", "--machine", "aarch64", "-o", str(tmp_path)]
    assert main([*words, "--sign", str(key.path), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["runtime"] == "runtime-0.4.0" and len(answer["wheels"]) == 3
    manifest = open_runtime(Path(answer["path"]), [key.public_path]).manifest
    assert (manifest.brings, manifest.system_site_packages) == (frozenset({"numpy"}), True)
    assert main([*words, "--sign", str(key.path), "--system", "numpy", "--version", "0.4.1"]) == 0
    assert "runtime-0.4.1: edgekit-device 0.4.0 for Python 3.13 on aarch64" in capsys.readouterr().out
    assert main([*words[:-1], str(tmp_path / "none" / "x"), "--sign", str(key.path)]) == 2


def test_what_is_missing_or_twice_is_named(wheels, tmp_path) -> None:
    key = new_keys(tmp_path / "keys")
    name, data = wheel("edgekit-device", "0.5.0", tiny_files())
    (wheels / name).write_bytes(data)
    with pytest.raises(WheelTwiceError, match=r"0\.4\.0 and 0\.5\.0"):
        write_runtime(plan(wheels), tmp_path, key)
    (wheels / name).unlink()
    (wheels / pip_wheel()[0]).unlink()
    with pytest.raises(WheelMissingError, match="no wheel of pip"):
        write_runtime(plan(wheels), tmp_path, key)
    assert not list(tmp_path.glob("*.edgekit*"))
