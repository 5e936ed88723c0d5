"""`edgekit-device run` as a user sees it: real processes, real video, real kills."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgekit_device.cli import main
from edgekit_device.contract.archive import write_archive
from edgekit_device.contract.manifest import GOLDEN_SCORES
from edgekit_device.contract.telemetry import Reading

sys.path.insert(0, str(Path(__file__).parent))
import runs


@pytest.fixture(scope="module")
def bundle(workshop: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    path = workshop.write(tmp_path_factory.mktemp("bundle") / "toy-1.0.0.edgekit")
    return path, workshop.public


def clip(path: Path, frames: int = 40, fps: float = 30.0) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), fps, (160, 120))
    for number in range(frames):
        image = np.full((120, 160, 3), 40, np.uint8)
        cv2.circle(image, (20 + number * 3, 60), 20, (90, 180, 230), -1)
        writer.write(image)
    writer.release()
    return path


def test_a_video_plays_once_and_every_frame_counts(bundle: tuple[Path, Path], tmp_path: Path) -> None:
    done = runs.run(*bundle, "--source", f"video:{clip(tmp_path / 'clip.avi')}")
    assert done.code == 0, done.said
    assert sum(sum(r["class_counts"].values()) for r in done.readings) == 40
    assert sum(r["frames_dropped"] for r in done.readings) == 0
    assert [r["seq"] for r in done.readings] == sorted({r["seq"] for r in done.readings})
    for reading in done.readings:
        # On a busy machine a Reading may be due before the model is open.
        wanted = "xnnpack" if reading["inference_fps"] else reading["delegate"]
        assert Reading.from_bytes(json.dumps(reading).encode()).delegate == wanted


def test_a_video_in_real_time_keeps_its_own_pace(bundle: tuple[Path, Path], tmp_path: Path) -> None:
    film = clip(tmp_path / "clip.avi", frames=60, fps=20.0)
    done = runs.run(*bundle, "--source", f"video:{film}", "--realtime", "--loop", "--seconds", str(4 * runs.patience()))
    frames = sum(sum(r["class_counts"].values()) for r in done.readings)
    seconds = sum(r["window_s"] for r in done.readings)
    assert frames > 10, done.said
    assert frames <= 20.0 * seconds * 1.1 + 2, "as fast as it could, not at its own pace"


def test_a_broken_video_ends_with_exit_1_and_its_name(bundle: tuple[Path, Path], tmp_path: Path) -> None:
    film = clip(tmp_path / "clip.avi", frames=200)
    whole = film.read_bytes()
    film.write_bytes(whole[: len(whole) // 3])
    done = runs.run(*bundle, "--source", f"video:{film}")
    assert done.code == 1
    assert "clip.avi" in done.said


@pytest.mark.parametrize("source", ["video:nowhere.avi", "images:nowhere"])
def test_a_missing_file_ends_at_once_with_a_last_reading(bundle: tuple[Path, Path], source: str) -> None:
    done = runs.run(*bundle, "--source", source)
    assert done.code == 1
    assert "no such" in done.said
    assert done.readings[-1]["fps"] == 0


def test_a_missing_broker_is_said_and_frames_flow_all_the_same(bundle: tuple[Path, Path]) -> None:
    # Port 1 of this machine: nothing listens there.
    seconds = str(3 * runs.patience())
    done = runs.run(*bundle, "--source", "synthetic", "--seconds", seconds, "--broker", "mqtt://127.0.0.1:1")
    assert done.code == 0
    assert "cannot publish: mqtt://127.0.0.1:1: " in done.said
    assert any(reading["fps"] > 0 for reading in done.readings)


def test_pictures_of_a_folder_are_classified_and_the_unreadable_one_is_skipped(
    bundle: tuple[Path, Path], tmp_path: Path
) -> None:
    for number in range(5):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((50, 60, 3), 40 * number, np.uint8))
    (tmp_path / "9.jpg").write_bytes(b"not a picture")
    done = runs.run(*bundle, "--source", f"images:{tmp_path}")
    assert done.code == 0, done.said
    assert sum(sum(r["class_counts"].values()) for r in done.readings) == 5


def test_an_unknown_source_is_a_usage_error_that_names_the_known_ones(
    bundle: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--bundle", str(bundle[0]), "--pubkey", str(bundle[1]), "--source", "telepathy:1"]) == 2
    assert "synthetic" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_a_dead_worker_is_replaced_and_its_cause_named(bundle: tuple[Path, Path], number: signal.Signals) -> None:
    process = runs.start(*bundle, "--source", "synthetic", "--interval", "0.5")
    first = runs.worker_of(process)
    read_until(process, lambda r: r["fps"] > 0)
    os.kill(first, number)
    killed_s = time.monotonic()
    second = runs.worker_of(process, unlike=first)
    read_until(process, lambda r: r["fps"] == 0 or r["fps"] > 0)
    reading = read_until(process, lambda r: r["fps"] > 0)
    assert reading["boot"]
    recovered_s = time.monotonic() - killed_s
    done = runs.stop(process)
    assert done.code == 0
    assert f"worker_died: {number.name}" in done.said
    assert not Path(f"/proc/{second}").exists()
    assert recovered_s < 20, "seconds are measured in benches; this only catches a worker that never comes back"


def test_a_stopped_worker_is_taken_for_a_hang_and_replaced(bundle: tuple[Path, Path]) -> None:
    process = runs.start(*bundle, "--source", "synthetic", "--interval", "0.5")
    first = runs.worker_of(process)
    read_until(process, lambda r: r["fps"] > 0)
    os.kill(first, signal.SIGSTOP)
    runs.worker_of(process, unlike=first, timeout_s=30)
    read_until(process, lambda r: r["fps"] > 0)
    done = runs.stop(process)
    assert "camera_stalled" in done.said or "inference_hang" in done.said
    assert not Path(f"/proc/{first}").exists(), "the stopped worker was left behind"


def test_a_terminated_run_says_goodbye_and_leaves_no_process(bundle: tuple[Path, Path]) -> None:
    process = runs.start(*bundle, "--source", "synthetic", "--interval", "0.5")
    worker = runs.worker_of(process)
    read_until(process, lambda r: r["fps"] > 0)
    done = runs.stop(process)
    assert done.code == 0
    assert not Path(f"/proc/{worker}").exists()


def test_a_worker_does_not_outlive_its_supervisor(bundle: tuple[Path, Path]) -> None:
    process = runs.start(*bundle, "--source", "synthetic")
    worker = runs.worker_of(process)
    read_until(process, lambda r: r["fps"] > 0)
    process.kill()
    process.communicate()
    until = time.monotonic() + 10
    while not runs.is_gone(worker) and time.monotonic() < until:
        time.sleep(0.05)
    assert runs.is_gone(worker)


def test_a_reader_that_goes_away_ends_the_run_quietly(bundle: tuple[Path, Path]) -> None:
    process = runs.start(*bundle, "--source", "synthetic", "--interval", "0.2")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(30) == 0
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()


def test_a_model_that_does_not_reproduce_its_golden_vectors_never_serves(workshop: Any, tmp_path: Path) -> None:
    from edgekit_device.infer.golden import Golden

    golden = Golden.from_bytes(workshop.files[GOLDEN_SCORES])
    # Scores of another model: the classes stay, the values move.
    moved = {name: np.clip(scores * np.float32(0.7), 0, 1) for name, scores in golden.scores.items()}
    files = {**workshop.files, GOLDEN_SCORES: Golden(moved, golden.tolerances).to_bytes()}
    path = workshop.write(tmp_path / "toy-1.0.0.edgekit", write_archive(workshop.entries(files)))
    done = runs.run(path, workshop.public, "--source", "synthetic", "--seconds", str(6 * runs.patience()))
    assert "golden self-test failed on xnnpack" in done.said
    assert "golden self-test failed on builtin" in done.said
    assert all(reading["fps"] == 0 for reading in done.readings)


def test_a_rung_that_fails_its_golden_vectors_falls_back_loudly(workshop: Any, tmp_path: Path) -> None:
    from edgekit_device.infer.golden import Golden

    golden = Golden.from_bytes(workshop.files[GOLDEN_SCORES])
    # Scores of the builtin kernels, and no tolerance for the other rung: only builtin can reproduce them.
    moved = {name: scores + np.float32(0.004) for name, scores in golden.scores.items()}
    files = {**workshop.files, GOLDEN_SCORES: Golden(moved, {"xnnpack": 0.0, "builtin": 0.2}).to_bytes()}
    path = workshop.write(tmp_path / "toy-1.0.0.edgekit", write_archive(workshop.entries(files)))
    done = runs.run(path, workshop.public, "--source", "synthetic", "--seconds", str(4 * runs.patience()))
    assert done.code == 0, done.said
    assert "delegate_fallback: xnnpack" in done.said
    last = done.readings[-1]
    assert last["delegate"] == "builtin"
    assert "xnnpack: golden self-test failed" in last["delegate_reason"]


@pytest.mark.parametrize("change", ["byte", "unsigned", "foreign"])
def test_a_bundle_that_is_not_as_signed_is_refused_by_name(
    workshop: Any, tmp_path: Path, change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = workshop.write(tmp_path / "toy-1.0.0.edgekit")
    pubkey = workshop.public
    if change == "byte":
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(bytes(data))
    elif change == "unsigned":
        path.with_name(path.name + ".minisig").unlink()
    else:
        import minisign

        pubkey = tmp_path / "other.pub"
        pubkey.write_bytes(bytes(minisign.KeyPair.generate().public_key))
    assert main(["run", "--bundle", str(path), "--pubkey", str(pubkey), "--source", "synthetic"]) == 1
    said = capsys.readouterr().err
    assert {"byte": "does not match", "unsigned": "no signature", "foreign": "not trusted"}[change] in said
    assert len(said.splitlines()) == 1


def read_until(process: Any, wanted: Any, limit: int = 400) -> dict[str, Any]:
    for line in lines(process):
        reading = json.loads(line)
        if wanted(reading):
            return dict(reading)
        limit -= 1
        if not limit:
            break
    raise AssertionError(f"the run ended or never showed it; exit {process.poll()}")


def lines(process: Any) -> Iterator[str]:
    while line := process.stdout.readline():
        yield line
