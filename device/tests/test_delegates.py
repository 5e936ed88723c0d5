"""The ladder on real processes, with a stand-in for libedgetpu that computes, and breaks as hardware breaks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit_device import vision
from edgekit_device.contract.file_table import table_of
from edgekit_device.contract.manifest import GOLDEN_SCORES, LABELS, Manifest
from edgekit_device.contract.preprocess import efficientnet_lite
from edgekit_device.infer.golden import Golden
from edgekit_device.infer.interpreter import Engine

sys.path.insert(0, str(Path(__file__).parent))
import runs
from conftest import Workshop, png

FIXTURES = Path(__file__).parent / "fixtures"
QUICK = ("--source", "synthetic", "--interval", "0.5")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory, require_tool: Callable[[str, str], str]) -> Path:
    compiler = require_tool("gcc", "apt install gcc libc6-dev")
    out = tmp_path_factory.mktemp("lib") / "libedgetpu.so.1"
    words = [compiler, "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run([*words, "-o", out, FIXTURES / "fake_edgetpu.c", "-lm"], check=True)
    subprocess.run(
        [*words, "-DNO_SYMBOL", "-Wno-unused", "-o", out.with_name("nosymbol.so"), FIXTURES / "fake_edgetpu.c", "-lm"],
        check=True,
    )
    out.with_name("truncated.so").write_bytes(out.read_bytes()[:5000])
    return out


@pytest.fixture(scope="module")
def bundle(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A bundle of both twins; golden photos of three colours."""
    model = (FIXTURES / "colours_int8.tflite").read_bytes()
    engine = Engine(model)
    spec = efficientnet_lite(32).quantised(engine.input.dtype, engine.input.scale, engine.input.zero_point)
    rng = np.random.default_rng(5)
    photos = {}
    for hue in range(3):
        photo = rng.integers(0, 90, (48, 64, 3)).astype(np.uint8)
        photo[..., hue] += np.uint8(50 + 20 * hue)
        photos[f"{hue:02d}.png"] = photo
    scores = {n: engine.scores(vision.to_model_input(photo, spec)) for n, photo in photos.items()}
    tolerances = {"xnnpack": 2 / 256, "builtin": 16 / 256, "edgetpu": 64 / 256}
    files = {
        "model.tflite": model,
        "model_edgetpu.tflite": (FIXTURES / "colours_edgetpu.tflite").read_bytes(),
        LABELS: (FIXTURES / "colours_labels.txt").read_bytes(),
        GOLDEN_SCORES: Golden(scores, tolerances).to_bytes(),
        **{f"golden/{name}": png(photo) for name, photo in photos.items()},
    }
    entries = table_of(files)
    roles = {"cpu": "model.tflite", "edgetpu": "model_edgetpu.tflite"}
    manifest = Manifest("colours", "1.0.0", entries, roles, spec, 3)
    path = replace(workshop, files=files, manifest=manifest).write(tmp_path_factory.mktemp("b") / "c-1.0.0.edgekit")
    return path, workshop.public


@pytest.fixture
def world(library: Path, tmp_path: Path) -> dict[str, str]:
    """The environment of a machine with one stick."""
    return {
        "EDGEKIT_LIBEDGETPU": str(library),
        "EDGEKIT_EDGETPU_LOCK": str(tmp_path / "lock"),
        "FAKE_EDGETPU_STICK": str(tmp_path / "stick"),
        "XDG_STATE_HOME": str(tmp_path / "state"),
    }


def start(bundle: tuple[Path, Path], world: dict[str, str], *words: str) -> subprocess.Popen[str]:
    return runs.start(*bundle, *QUICK, *words, env=world)


def reading(process: Any, wanted: Callable[[dict[str, Any]], bool], limit_s: float = 300.0) -> dict[str, Any]:
    until = time.monotonic() + limit_s
    while time.monotonic() < until and (line := process.stdout.readline()):
        found = json.loads(line)
        if wanted(found):
            return dict(found)
    raise AssertionError(f"never seen; exit {process.poll()}")


def test_a_healthy_stick_serves_what_it_computed_itself(bundle: tuple[Path, Path], world: dict[str, str]) -> None:
    process = start(bundle, world)
    found = reading(process, lambda r: r["fps"] > 0)
    done = runs.stop(process)
    assert (found["delegate"], found["delegate_reason"]) == ("edgetpu", None), done.said
    assert "model_ready: colours-1.0.0 on edgetpu" in done.said


BROKEN = {
    "missing": ({"EDGEKIT_LIBEDGETPU": "/nowhere/libedgetpu.so.1"}, "library missing"),
    "no symbol": ({"library": "nosymbol.so"}, "no TFLite delegate"),
    "no device": ({"FAKE_EDGETPU": "no-device"}, "no device answers"),
    "truncated": ({"library": "truncated.so"}, ""),
    "aborts": ({"FAKE_EDGETPU": "abort"}, "SIGABRT"),
    "crashes": ({"FAKE_EDGETPU": "crash"}, "SIGSEGV"),
    "hangs": ({"FAKE_EDGETPU": "hang"}, "hangs"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_library_ends_on_the_cpu_model_with_the_reason(
    bundle: tuple[Path, Path], world: dict[str, str], library: Path, how: str
) -> None:
    changes, says = BROKEN[how]
    changes = dict(changes)
    if "library" in changes:
        changes["EDGEKIT_LIBEDGETPU"] = str(library.with_name(changes.pop("library")))
    process = start(bundle, {**world, **changes})
    found = reading(process, lambda r: r["fps"] > 0)
    done = runs.stop(process)
    assert found["delegate"] == "xnnpack"
    assert found["delegate_reason"].startswith("edgetpu: ")
    assert says in found["delegate_reason"]
    assert "delegate_fallback: edgetpu" in done.said


@pytest.mark.parametrize(("how", "says"), [("abort", "SIGABRT"), ("no-device", "no device answers")])
def test_an_explicit_edgetpu_never_falls_back(
    bundle: tuple[Path, Path], world: dict[str, str], how: str, says: str
) -> None:
    done = runs.finish(start(bundle, {**world, "FAKE_EDGETPU": how}, "--delegate", "edgetpu"))
    assert done.code == 1
    assert says in done.said
    assert all(r["fps"] == 0 for r in done.readings)


@pytest.mark.parametrize(("how", "says"), [("abort-run", "SIGABRT"), ("crash-run", "SIGSEGV"), ("hang-run", "hang")])
def test_a_stick_that_dies_while_it_serves_is_replaced_by_the_cpu_model(
    bundle: tuple[Path, Path], world: dict[str, str], how: str, says: str
) -> None:
    process = start(bundle, {**world, "FAKE_EDGETPU": how, "FAKE_EDGETPU_AT": "20"})
    first = reading(process, lambda r: r["fps"] > 0)
    then = reading(process, lambda r: r["fps"] > 0 and r["delegate"] != "edgetpu")
    done = runs.stop(process)
    assert (first["delegate"], then["delegate"]) == ("edgetpu", "xnnpack"), done.said
    assert then["delegate_reason"].startswith("edgetpu: ")
    assert says in done.said


def test_a_stick_that_comes_back_is_taken_back(
    bundle: tuple[Path, Path], world: dict[str, str], library: Path, tmp_path: Path
) -> None:
    place = tmp_path / "plugged" / "libedgetpu.so.1"
    place.parent.mkdir()
    process = start(bundle, {**world, "EDGEKIT_LIBEDGETPU": str(place)})
    assert reading(process, lambda r: r["fps"] > 0)["delegate"] == "xnnpack"
    place.symlink_to(library)
    found = reading(process, lambda r: r["fps"] > 0 and r["delegate"] == "edgetpu")
    done = runs.stop(process)
    assert found["delegate_reason"] is None
    assert "delegate_regained: edgetpu" in done.said


def test_a_second_run_leaves_the_stick_to_the_first(bundle: tuple[Path, Path], world: dict[str, str]) -> None:
    first = start(bundle, world)
    reading(first, lambda r: r["fps"] > 0)
    second = start(bundle, world)
    found = reading(second, lambda r: r["fps"] > 0)
    still = reading(first, lambda r: r["fps"] > 0)
    runs.stop(second)
    done = runs.stop(first)
    assert found["delegate"] == "xnnpack"
    assert "in use by process" in found["delegate_reason"]
    assert still["delegate"] == "edgetpu"
    assert "worker_died" not in done.said


def test_the_stand_in_aborts_its_first_user_when_a_second_opens_it(world: dict[str, str]) -> None:
    """The physics that the lock guards against: without it, the second opener ends the first."""
    code = (
        "import sys, time; from edgekit_device.infer.interpreter import find_interpreter; _, m = find_interpreter();"
        "i = m.Interpreter(model_content=open(sys.argv[1], 'rb').read(),"
        " experimental_delegates=[m.load_delegate(sys.argv[2])]); i.allocate_tensors(); print('open', flush=True);"
        "[(time.sleep(0.05), i.invoke()) for _ in iter(int, 1)]"  # Without end.
    )
    words = [sys.executable, "-c", code, str(FIXTURES / "colours_edgetpu.tflite"), world["EDGEKIT_LIBEDGETPU"]]
    environment = {**os.environ, **world}
    first = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
    assert first.stdout is not None
    first.stdout.readline()
    second = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
    try:
        assert first.wait(120) == -6
    finally:
        for process in (first, second):
            process.kill()
            process.communicate()


def test_a_bundle_without_a_twin_says_so(workshop: Workshop, tmp_path: Path) -> None:
    path = workshop.write(tmp_path / "toy-1.0.0.edgekit")
    done = runs.run(path, workshop.public, *QUICK, "--delegate", "edgetpu")
    assert done.code == 1
    assert "no compiled twin" in done.said


def test_the_choice_is_kept_and_a_changed_model_forgets_it(tmp_path: Path) -> None:
    from edgekit_device.choice import Choice, fingerprint, keep_choice, load_choice

    key = fingerprint("a" * 64, "camera:0")
    keep_choice(tmp_path, key, Choice({"xnnpack": 2}, {"xnnpack": "golden"}))
    assert load_choice(tmp_path, key) == Choice({"xnnpack": 2}, {"xnnpack": "golden"})
    assert load_choice(tmp_path, fingerprint("b" * 64, "camera:0")) == Choice()
    (tmp_path / "choice.json").write_bytes(b"{\x00garbage")
    assert load_choice(tmp_path, key) == Choice()


def test_the_fewest_threads_that_hold_the_pace_are_chosen() -> None:
    from edgekit_device.infer.tuning import choose_threads

    times = {1: 0.040, 2: 0.021, 4: 0.012}
    assert choose_threads(times.__getitem__, 4, pace_s=1 / 10)[0] == 1
    assert choose_threads(times.__getitem__, 4, pace_s=1 / 30)[0] == 2
    assert choose_threads(times.__getitem__, 4, pace_s=1 / 200)[0] == 4, "none holds it: the fastest"
    assert choose_threads(times.__getitem__, 4, pace_s=None)[0] == 4
    slower_with_more = {1: 0.010, 2: 0.012}
    assert choose_threads(slower_with_more.__getitem__, 2, pace_s=None)[0] == 1
