"""A board that is slower than it could be says so, once, with the reason and the remedy."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from edgekit_device import slowness
from edgekit_device.diagnosis import software
from edgekit_device.diagnosis.verbs import status_lines
from edgekit_device.infer.interpreter import Engine, find_interpreter
from edgekit_device.status_file import Found

sys.path.insert(0, str(Path(__file__).parent))
import runs
from conftest import Workshop


@pytest.mark.parametrize(
    ("machine", "pointer_bytes", "warned"),
    [("aarch64", 8, False), ("aarch64", 4, True), ("armv8l", 4, True), ("armv7l", 4, False), ("x86_64", 8, False)],
)
def test_a_32_bit_system_is_a_warning_where_the_board_could_do_more(
    machine: str, pointer_bytes: int, warned: bool
) -> None:
    assert (slowness.system_warning(machine, pointer_bytes) is not None) == warned


@pytest.mark.parametrize(
    ("interpreter", "dtype", "machine", "warned"),
    [
        ("tflite_runtime", "int8", "x86_64", True),
        ("tflite_runtime", "uint8", "x86_64", True),
        ("tflite_runtime", "float32", "x86_64", False),
        ("tflite_runtime", "int8", "aarch64", False),
        ("ai_edge_litert", "int8", "x86_64", False),
    ],
)
def test_the_slow_interpreter_is_known_without_a_measurement(
    interpreter: str, dtype: str, machine: str, warned: bool
) -> None:
    assert bool(slowness.interpreter_warning(interpreter, dtype, machine)) == warned


def test_int8_is_compared_with_float_and_noise_is_no_warning() -> None:
    assert slowness.int8_warning(1.0, 2.0) is None
    assert slowness.int8_warning(1.05, 1.0) is None
    words = slowness.int8_warning(3.0, 1.0)
    assert words is not None
    assert "3.0 x slower" in words


def test_the_pair_is_one_graph_in_two_kinds_and_tells_these_interpreters_apart() -> None:
    folder = Path(slowness.__file__).parent / "infer"
    int8, floats = (Engine((folder / f"pair_{kind}.tflite").read_bytes()) for kind in ("int8", "float32"))
    assert int8.input.shape == floats.input.shape
    assert (int8.input.dtype, floats.input.dtype) == ("int8", "float32")
    int8_s, float_s = slowness.measure_pair()
    # 0.55 and 8.6 were measured; a busy machine does not turn one into the other.
    slow = find_interpreter()[0] == "tflite_runtime" and slowness.interpreter_warning("tflite_runtime", "int8")
    assert (int8_s > 2 * float_s) == bool(slow)


def slow_pair(folder: Path) -> dict[str, str]:
    """An interpreter's machine on which the pair says that int8 is slow: the measurement itself is real elsewhere."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "from edgekit_device import slowness\nslowness.measure_pair = lambda: (0.004, 0.001)\n"
    )
    return {"PYTHONPATH": str(folder)}


def test_a_run_says_it_once_and_its_status_keeps_saying_it(workshop: Workshop, tmp_path: Path) -> None:
    bundle = workshop.write(tmp_path / "toy-1.0.0.edgekit")
    board = tmp_path / "run"
    board.mkdir(mode=0o700)
    environment = {**slow_pair(tmp_path / "slow"), "XDG_RUNTIME_DIR": str(board)}
    words = ("--source", "synthetic", "--interval", "0.2")
    said = []
    for _ in range(2):
        process = runs.start(bundle, workshop.public, *words, env=environment)
        assert process.stdout is not None
        while json.loads(process.stdout.readline())["fps"] == 0:
            pass
        said.append(runs.stop(process).said.count("\nedgekit-device: slow: "))
    assert said == [1, 0], "said at each start, or never"
    document: dict[str, Any] = json.loads((board / "edgekit" / "status.json").read_text())
    # tflite-runtime on x86 is slow for a reason that needs no measurement.
    wanted = slowness.interpreter_warning(find_interpreter()[0], "int8") or slowness.int8_warning(0.004, 0.001)
    assert document["warnings"] == [wanted]
    shown = status_lines(Found(board / "edgekit" / "status.json", document, True, 1.0), "/")
    assert shown.count(f"slow: {wanted}") == 1


def test_doctor_measures_it_in_a_child_and_a_dead_interpreter_is_somebody_elses_finding(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = software.speed()
    assert found is not None
    ratio = re.search(r"int8 takes ([0-9.]+) of the time of float32", found.detail)
    assert ratio
    fast = float(ratio[1]) <= slowness.NOISE and find_interpreter()[0] == "ai_edge_litert"
    assert (found.state == "ok") == fast
    monkeypatch.setenv("PYTHONPATH", slow_pair(tmp_path / "slow")["PYTHONPATH"])
    slow = software.speed()
    assert slow is not None
    assert (slow.state, slow.remedy) == ("warn", slowness.LITERT)
    (tmp_path / "dead" / "ai_edge_litert").mkdir(parents=True)
    (tmp_path / "dead" / "ai_edge_litert" / "__init__.py").write_text("import os\nos.abort()\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "dead"))
    assert software.speed() is None
