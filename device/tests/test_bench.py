"""`edgekit-device bench`: every rung and layout measured in a child of its own, on the real thing."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgekit_device.benching.litert_tool import VARIABLE, benchmark
from edgekit_device.benching.table import table
from edgekit_device.infer.tuning import layouts
from edgekit_device.running import default_threads

sys.path.insert(0, str(Path(__file__).parent))
from conftest import Workshop
from test_check import fake_interpreter
from test_run import clip


@pytest.fixture(scope="module")
def bundle(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return workshop.write(tmp_path_factory.mktemp("bench") / "toy-1.0.0.edgekit")


def bench(bundle: Path, public: Path, *words: str, env: dict[str, str] | None = None) -> tuple[int, dict[str, Any]]:
    command = [sys.executable, "-m", "edgekit_device", "bench", "--bundle", str(bundle), "--pubkey", str(public)]
    done = subprocess.run(
        [*command, "--json", "--seconds", "0.3", *words],
        capture_output=True,
        text=True,
        env={**os.environ, **(env or {})},
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_each_rung_and_layout_is_a_row_with_its_parts_and_fits_a_terminal(bundle: Path, workshop: Workshop) -> None:
    code, found = bench(bundle, workshop.public, "--no-litert")
    assert code == 0
    wanted = [(rung, str(layout)) for rung in ("xnnpack", "builtin") for layout in layouts(default_threads())]
    assert [(row["rung"], row["layout"]) for row in found["rows"]] == wanted
    for row in found["rows"]:
        assert row["frames"] > 0, row
        assert row["fps"] == pytest.approx(row["frames"] / row["seconds"], rel=0.01)
        assert 0 < row["invoke_ms"]["p50"] <= row["invoke_ms"]["p95"]
        assert row["preprocess_ms"]["p50"] > 0
        assert row["cpu_ms_per_frame"] > 0
        assert row["cold_ms"] > 0
        assert len(row["fps_by_third"]) == 3
        assert {"cpu_temp_c", "throttled"} == set(row["before"]) == set(row["after"])
    lines = table(found)
    assert max(map(len, lines)) <= 80
    assert sum(line.startswith(("xnnpack", "builtin")) for line in lines) == len(wanted)


def test_a_camera_shows_its_latency_and_a_file_its_decoding(bundle: Path, workshop: Workshop, tmp_path: Path) -> None:
    words = ("--no-litert", "--delegate", "xnnpack", "--threads", "1")
    _, live = bench(bundle, workshop.public, *words, "--source", "synthetic:160x120@100")
    _, film = bench(bundle, workshop.public, *words, "--source", f"video:{clip(tmp_path / 'clip.avi')}")
    (camera,), (file,) = live["rows"], film["rows"]
    assert camera["capture_ms"] is None
    assert camera["capture_to_result_ms"]["p50"] >= camera["invoke_ms"]["p50"]
    assert camera["fps"] <= 110, "faster than its camera shows"
    assert file["capture_ms"]["p50"] > 0
    assert file["capture_to_result_ms"] is None
    assert file["dropped"] == 0


def test_a_rung_that_dies_is_a_row_and_no_end(bundle: Path, workshop: Workshop, tmp_path: Path) -> None:
    env = fake_interpreter(tmp_path / "fake", "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    code, found = bench(bundle, workshop.public, "--no-litert", "--threads", "1", env=env)
    assert code == 1
    assert ["SIGSEGV" in row["problem"] for row in found["rows"]] == [True, True]
    assert max(map(len, table(found))) <= 80


def test_a_long_reason_and_a_large_figure_still_fit_a_terminal() -> None:
    quantiles = {"p50": 12345.678, "p95": 23456.789}
    row = {
        "rung": "xnnpack", "layout": "16x1", "cold_ms": 12345.6, "capture_ms": quantiles, "preprocess_ms": quantiles,
        "invoke_ms": quantiles, "capture_to_result_ms": quantiles, "fps": 1234.5, "cpu_ms_per_frame": 1234.5,
        "fps_by_third": [30.0, 20.0, 10.0], "dropped": 3, "frames": 7,
        "before": {"cpu_temp_c": 50.0, "throttled": []}, "after": {"cpu_temp_c": 85.0, "throttled": ["undervoltage"]},
    }  # fmt: skip
    dead = {"rung": "edgetpu", "layout": "1", "problem": "library missing " * 20}
    document = {"bundle": "toy-1.0.0", "cores": 4, "source": "sample", "rows": [row, dead], "litert": []}
    lines = table(document)
    assert max(map(len, lines)) <= 80
    for word in ("30.0 FPS in the first third, 10.0", "undervoltage", "3 of 10 frames dropped"):
        assert any(word in line for line in lines), word


def test_the_native_tool_is_read_where_it_is_installed(
    toy_model: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "benchmark_model"
    tool.write_text(
        '#!/bin/sh\ncase "$*" in *--num_threads=2*) ;; *) exit 1;; esac\n'
        "echo 'Inference timings in us: Init: 1, First inference: 2, Warmup (avg): 3, Inference (avg): 4567.8'\n"
    )
    tool.chmod(0o755)
    monkeypatch.setenv(VARIABLE, str(tool))
    found = benchmark(toy_model, 2)
    assert found is not None
    assert (found["tool"], found["invoke_ms"]) == ("benchmark_model", pytest.approx(4.5678))
    # A tool that fails is no figure, and says so.
    assert benchmark(toy_model, 1) == {"tool": "benchmark_model", "threads": 1, "problem": "exit 1"}


def test_a_tool_that_the_processor_cannot_run_is_named_with_its_reason(
    bundle: Path, workshop: Workshop, tmp_path: Path
) -> None:
    """As LiteRT 2.3.0's own does on a Cortex-A72."""
    tool = tmp_path / "benchmark_model"
    tool.write_text("#!/bin/sh\necho 'FATAL ERROR: compiled with lse enabled' >&2\necho '' >&2\nkill -ILL $$\n")
    tool.chmod(0o755)
    env = {VARIABLE: str(tool)}
    code, found = bench(bundle, workshop.public, "--threads", "1", "--delegate", "xnnpack", env=env)
    assert code == 0
    (figure,) = found["litert"]
    assert figure["problem"] == "killed by SIGILL: FATAL ERROR: compiled with lse enabled"
    assert "killed by SIGILL" in " ".join(table(found))


def test_the_tool_of_the_wheel_measures_the_same_model(toy_model: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ai_edge_litert.tools.benchmark_litert_model", exc_type=ImportError)
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    found = benchmark(toy_model, 1)
    assert found is not None
    if platform.machine() == "aarch64" and "atomics" not in Path("/proc/cpuinfo").read_text():
        assert "SIGILL" in found["problem"], found
    else:
        assert found["invoke_ms"] > 0
