"""`edgekit-device check`: every rung proved in a child, and a child that dies is a row and not an end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgekit_device.bundle import open_bundle
from edgekit_device.cli import main
from edgekit_device.contract.archive import write_archive
from edgekit_device.contract.manifest import GOLDEN_SCORES
from edgekit_device.diagnosis.proof import Proof, prove_rung, rungs_of, table
from edgekit_device.infer.golden import Golden


@pytest.fixture
def path(workshop, tmp_path: Path) -> Path:
    return workshop.write(tmp_path / "toy-1.0.0.edgekit")


def check(path: Path, public: Path, *words: str, env: dict[str, str] | None = None) -> tuple[int, dict[str, Any]]:
    command = [
        sys.executable,
        "-m",
        "edgekit_device",
        "check",
        "--bundle",
        str(path),
        "--pubkey",
        str(public),
        "--json",
    ]
    done = subprocess.run([*command, *words], capture_output=True, text=True, env={**os.environ, **(env or {})})
    lines = done.stdout.splitlines()
    assert len(lines) == 1, done
    return done.returncode, json.loads(lines[0])


def fake_interpreter(folder: Path, body: str) -> dict[str, str]:
    """An `ai_edge_litert` that is found before the real one."""
    package = folder / "ai_edge_litert"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "interpreter.py").write_text(body)
    return {"PYTHONPATH": str(folder)}


def test_every_rung_that_reproduces_the_golden_vectors_is_listed(workshop, path: Path) -> None:
    code, answer = check(path, workshop.public)
    assert code == 0
    assert answer["bundle"] == "toy-1.0.0"
    assert [rung["rung"] for rung in answer["rungs"]] == ["xnnpack", "builtin"]
    for rung in answer["rungs"]:
        assert rung["ok"]
        assert rung["difference"] <= rung["tolerance"]
        assert 0 < rung["invoke_ms"] < 10_000


def test_one_rung_that_computes_something_else_does_not_hide_the_other(workshop, tmp_path: Path) -> None:
    golden = Golden.from_bytes(workshop.files[GOLDEN_SCORES])
    strict = replace(golden, tolerances={"xnnpack": golden.tolerances["xnnpack"], "builtin": 0.0})
    files = {**workshop.files, GOLDEN_SCORES: strict.to_bytes()}
    path = workshop.write(tmp_path / "x.edgekit", write_archive(workshop.entries(files)))
    code, answer = check(path, workshop.public)
    best, other = answer["rungs"]
    assert (code, best["ok"], other["ok"]) == (0, True, False)
    assert "scores differ" in other["reason"]
    assert check(path, workshop.public, "--delegate", "builtin")[0] == 1


def test_an_interpreter_that_kills_its_process_is_named_and_the_exit_code_says_that_nothing_works(
    workshop, path: Path, tmp_path: Path
) -> None:
    env = fake_interpreter(tmp_path / "fake", "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    code, answer = check(path, workshop.public, env=env)
    assert code == 1
    assert not answer["ok"]
    # An emulator adds words of its own.
    assert [rung["reason"][:20] for rung in answer["rungs"]] == ["crashed with SIGSEGV"] * 2


def test_an_interpreter_that_hangs_costs_its_deadline_and_no_more(
    workshop, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = fake_interpreter(tmp_path / "fake", "import time\ntime.sleep(600)\n")
    monkeypatch.setenv("PYTHONPATH", env["PYTHONPATH"])
    bundle, data = open_bundle(path, [workshop.public])
    proof = prove_rung(bundle, data, str(path), "xnnpack", deadline_s=2.0)
    assert not proof.ok
    assert proof.reason == "hung: no answer within 2 s"


def test_a_bundle_that_was_changed_after_signing_never_reaches_a_child(workshop, path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    code, answer = check(path, workshop.public)
    assert code == 1
    assert answer["error"] == "BadSignatureError"


def test_without_anything_installed_it_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--root", str(tmp_path)]) == 2
    assert "nothing is installed" in capsys.readouterr().err


def test_the_table_shows_rows_of_every_kind_and_the_twin_for_an_edge_tpu_comes_first(workshop, path: Path) -> None:
    rows = [
        Proof("edgetpu", ok=True, reason="in use by pid 7, which proved it"),
        Proof("xnnpack", True, 0.00123, 0.01, 12.3),
        Proof("builtin", ok=False, reason="crashed with SIGABRT"),
    ]
    lines = table(rows).splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["edgetpu", "yes"], ["xnnpack", "yes"], ["builtin", "NO"]]
    assert lines[2].endswith("12.30 ms")
    bundle, _ = open_bundle(path, [workshop.public])
    assert rungs_of(bundle) == ("xnnpack", "builtin")
    twin = replace(bundle.manifest, models={**bundle.manifest.models, "edgetpu": "model.tflite"})
    assert rungs_of(replace(bundle, manifest=twin)) == ("edgetpu", "xnnpack", "builtin")
