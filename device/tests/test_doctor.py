"""`edgekit-device doctor` and `status`: each fault of a board is named beside the command that mends it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edgekit_device import slots
from edgekit_device.cli import main
from edgekit_device.diagnosis import coral, hardware, installation, software
from edgekit_device.diagnosis.broker import broker
from edgekit_device.diagnosis.children import ask
from edgekit_device.diagnosis.examination import examine
from edgekit_device.diagnosis.finding import FAIL, OK, STATES, UNKNOWN, WARN, Finding, table
from edgekit_device.housekeeping import in_words
from edgekit_device.status_file import StatusFile, in_memory, look_up, started_ticks, writable_place
from tests.worlds.boards import eventually


def write(root: Path, name: str, text: str = "") -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def package(folder: Path, name: str, body: str) -> Path:
    """A package that is found before the real one when `folder` is on PYTHONPATH."""
    write(folder, f"{name}/__init__.py", body)
    return folder


# -- software


def test_a_python_that_is_too_old_or_too_new_is_named() -> None:
    assert software.python_version((3, 9, 2)).state == FAIL
    assert [software.python_version((3, minor, 0)).state for minor in (11, 12, 13, 14)] == [OK, OK, OK, WARN]


@pytest.mark.parametrize(
    ("machine", "pointer_bytes", "state"),
    [("aarch64", 8, OK), ("x86_64", 8, OK), ("aarch64", 4, FAIL), ("armv8l", 4, FAIL), ("armv7l", 4, WARN)],
)
def test_a_32_bit_system_under_a_64_bit_kernel_is_a_failure(machine: str, pointer_bytes: int, state: str) -> None:
    found = software.userland(machine, pointer_bytes)
    assert found.state == state
    assert (found.remedy is None) == (state == OK)


def test_the_real_interpreter_and_opencv_of_this_machine_are_fine() -> None:
    assert software.interpreter().state == OK
    assert software.opencv().state == OK


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)", "crashed with SIGSEGV"),
        ("import os\nos.abort()", "crashed with SIGABRT"),
        ("import time\ntime.sleep(600)", "hung: no answer within 1 s"),
        ("raise ImportError('libstdc++.so.6: too old')", "too old"),
        ("print('edgekit-answer:{')", "gave no answer"),
    ],
)
def test_an_interpreter_that_crashes_or_hangs_is_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, words: str
) -> None:
    # numpy, which the child imports first, brings the fault: every library may do so.
    monkeypatch.setenv("PYTHONPATH", str(package(tmp_path, "numpy", f"{body}\nimport sys\nsys.exit(0)\n")))
    # A slow machine needs a while to import nothing at all.
    found = software.interpreter(deadline_s=1.0 if "hung" in words else 30.0)
    assert found.state == FAIL
    assert words in found.detail
    assert found.remedy


def test_a_missing_interpreter_is_called_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ai_edge_litert", "tflite_runtime"):
        package(tmp_path, name, "raise ImportError('hidden')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = software.interpreter()
    assert (found.state, found.detail) == (FAIL, "no TFLite interpreter is installed")
    assert "pip install" in str(found.remedy)


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        ("ImportError('libGL.so.1: cannot open shared object file')", "opencv-python-headless"),
        ("ValueError('numpy.dtype size changed, may indicate binary incompatibility')", "numpy<2"),
        ("ModuleNotFoundError('No module named cv2')", "edgekit-device[opencv]"),
    ],
)
def test_each_way_opencv_fails_has_its_own_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str, remedy: str
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(package(tmp_path, "cv2", f"raise {error}")))
    found = software.opencv()
    assert found.state == FAIL
    assert remedy in str(found.remedy)


def numpys(root: Path, pip: str | None, apt: str | None, *, camera: bool) -> list[str]:
    places = [root / "venv/lib/python3.11/site-packages", root / "usr/lib/python3/dist-packages"]
    for place, version in zip(places, (pip, apt), strict=True):
        place.mkdir(parents=True)
        if version:
            write(place, f"numpy-{version}.dist-info/METADATA", f"Name: numpy\nVersion: {version}\n")
    if camera:
        package(places[1], "picamera2", "")
    return [str(place) for place in places]


@pytest.mark.parametrize(
    ("pip", "apt", "camera", "state"),
    [
        ("2.4.6", "1.24.2", True, FAIL),
        ("2.4.6", "1.24.2", False, OK),
        ("1.26.4", "1.24.2", True, OK),
        ("2.4.6", "2.2.4", True, OK),
        (None, "1.24.2", True, OK),
        (None, None, True, FAIL),
    ],
)
def test_pip_s_numpy_over_apt_s_is_found_where_picamera2_needs_apt_s(
    tmp_path: Path, pip: str | None, apt: str | None, camera: bool, state: str
) -> None:
    found = software.numpy_abi(numpys(tmp_path, pip, apt, camera=camera))
    assert found.state == state
    if pip and state == FAIL:
        assert "hides apt's numpy 1.24.2" in found.detail
        assert "numpy<2" in str(found.remedy)


def test_a_picamera2_whose_compiled_parts_do_not_fit_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = "ValueError('numpy.dtype size changed, may indicate binary incompatibility. Expected 96')"
    monkeypatch.setenv("PYTHONPATH", str(package(tmp_path, "picamera2", f"raise {error}")))
    found = software.picamera2(python=sys.executable)
    assert found is not None
    assert found.state == FAIL
    assert "numpy<2" in str(found.remedy)


def test_an_edge_tpu_without_its_library_is_a_failure_and_nothing_is_opened(tmp_path: Path) -> None:
    assert coral.edge_tpu(tmp_path).state == OK
    write(tmp_path, "sys/bus/usb/devices/2-1/idVendor", "18d1\n")
    write(tmp_path, "sys/bus/usb/devices/2-1/idProduct", "9302\n")
    found = coral.edge_tpu(tmp_path)
    assert (found.state, "--libedgetpu" in str(found.remedy)) == (FAIL, True)
    os.mkfifo(write(tmp_path, "usr/lib/aarch64-linux-gnu/other").with_name("libedgetpu.so.1"))  # Opening it would hang.
    assert coral.edge_tpu(tmp_path).state == OK


@pytest.mark.parametrize(
    ("build", "interpreter", "number", "fits"),
    [
        ("16.0", "tflite-runtime", "2.5.0.post1", True),
        ("16.0", "tflite-runtime", "2.11.0", True),
        ("16.0", "tflite-runtime", "2.14.0", False),
        ("16.0", "ai-edge-litert", "2.3.0", False),
        ("16.0tf2.15.0-1", "tflite-runtime", "2.14.0", True),
        ("16.0tf2.19.1-1", "tflite-runtime", "2.5.0.post1", None),
        ("16.0tf2.19.1-1", "ai-edge-litert", "2.3.0", None),
        ("16.0tf2.19.1-1", "", "", None),
        ("", "ai-edge-litert", "2.3.0", None),
    ],
)
def test_which_build_of_libedgetpu_goes_with_which_interpreter_is_said(
    build: str, interpreter: str, number: str, fits: bool | None
) -> None:
    pair = coral.judge_pair(build, interpreter, number)
    assert pair.fits is fits
    # What nobody has seen here is said to be so.
    assert fits is False or not interpreter or coral.UNTRIED in pair.words
    assert build in pair.words and (not build or number in pair.words)


def test_the_doctor_reads_the_build_from_dpkg_and_warns_of_one_that_ends_the_process(tmp_path: Path) -> None:
    write(tmp_path, "usr/lib/aarch64-linux-gnu/libedgetpu.so.1")
    write(tmp_path, "sys/bus/usb/devices/2-1/idVendor", "18d1\n")
    write(tmp_path, "sys/bus/usb/devices/2-1/idProduct", "9302\n")
    words = "Package: {}\nStatus: {}\nVersion: {}\nDescription: x\n Version: 9\n\n"
    other = words.format("libc6", "install ok installed", "2.36") + words.format(
        "libedgetpu1-max", "deinstall ok config-files", "15.0"
    )
    write(tmp_path, "var/lib/dpkg/status", other + words.format("libedgetpu1-std", "install ok installed", "16.0"))
    found = coral.edge_tpu(tmp_path, ("ai-edge-litert", "2.3.0"))
    assert (found.state, "edgetpu#812" in found.detail, "feranick" in str(found.remedy)) == (WARN, True, True)
    fork = other + words.format("libedgetpu1-std", "install ok installed", "16.0tf2.19.1-1")
    write(tmp_path, "var/lib/dpkg/status", fork)
    found = coral.edge_tpu(tmp_path, ("ai-edge-litert", "2.3.0"))
    assert (found.state, found.remedy) == (OK, None)
    assert "built with TensorFlow 2.19" in found.detail and coral.UNTRIED in found.detail


# -- hardware


def test_cameras_are_named_as_a_source_is_named_and_codecs_are_none(tmp_path: Path) -> None:
    assert hardware.cameras(tmp_path).state == WARN
    write(tmp_path, "sys/class/video4linux/video10/name", "bcm2835-codec-decode\n")
    write(tmp_path, "dev/video10")
    assert hardware.cameras(tmp_path).state == WARN
    write(tmp_path, "sys/class/video4linux/video2/name", "HD Pro Webcam C920\n")
    write(tmp_path, "dev/video2")
    (tmp_path / "dev/v4l/by-id").mkdir(parents=True)
    (tmp_path / "dev/v4l/by-id/usb-046d_C920-video-index0").symlink_to("../../video2")
    found = hardware.cameras(tmp_path)
    assert (found.state, found.detail) == (OK, "camera:2 (usb-046d_C920-video-index0)")


def test_a_csi_camera_needs_picamera2(tmp_path: Path) -> None:
    write(tmp_path, "sys/class/video4linux/video0/name", "unicam-image\n")
    write(tmp_path, "dev/video0")
    assert "python3-picamera2" in str(hardware.cameras(tmp_path, picamera2=False).remedy)
    assert hardware.cameras(tmp_path, picamera2=True).detail == "picamera (CSI)"


def test_a_user_who_may_not_open_what_is_there_is_told_which_groups_to_join(tmp_path: Path) -> None:
    write(tmp_path, "etc/group", "video:x:44:anna\nrender:x:105:\nplugdev:x:46:anna\ngpio:x:997:\n")
    assert hardware.groups(tmp_path, "ben").state == OK  # There is no device yet.
    write(tmp_path, "dev/video0")
    write(tmp_path, "dev/bus/usb/001/002")
    found = hardware.groups(tmp_path, "ben")
    assert (found.state, found.remedy) == (FAIL, "sudo usermod -aG video,plugdev ben   # then log in again")
    assert hardware.groups(tmp_path, "anna").state == OK
    write(tmp_path, "dev/gpiochip0")
    assert hardware.groups(tmp_path, "anna").state == WARN


@pytest.mark.parametrize(
    ("bits", "state", "words"),
    [
        ("0", OK, "none since boot"),
        ("50005", FAIL, "now: undervoltage, throttled; since boot: undervoltage, throttled"),
        ("80000", WARN, "since boot: soft_temp_limit"),
    ],
)
def test_a_weak_supply_and_a_hot_board_have_different_remedies(
    tmp_path: Path, bits: str, state: str, words: str
) -> None:
    write(tmp_path, "sys/devices/platform/soc/soc:firmware/get_throttled", bits)
    found = hardware.throttling(tmp_path, str(tmp_path / "no-tool"))
    assert (found.state, found.detail) == (state, words)
    if state != OK:
        assert ("supply" in str(found.remedy)) == ("undervoltage" in words)


def test_a_firmware_that_does_not_answer_is_unknown_and_a_pc_is_fine(tmp_path: Path) -> None:
    assert hardware.throttling(tmp_path, str(tmp_path / "no-tool")).state == OK
    write(tmp_path, "dev/vcio")
    assert hardware.throttling(tmp_path, str(tmp_path / "no-tool")).state == UNKNOWN


def test_a_clock_that_is_wrong_or_unsure_is_named() -> None:
    assert hardware.clock(lambda: "synced", 2e9).state == OK
    assert hardware.clock(lambda: "unsynced", 2e9).state == WARN
    assert hardware.clock(lambda: "synced", 0.0) == Finding(
        "clock", FAIL, "it is set to the year 1970", "sudo timedatectl set-ntp true"
    )


def test_a_disk_that_fills_up_is_named_before_it_is_full(tmp_path: Path) -> None:
    states = [hardware.disk(tmp_path / "x", free).state for free in (50 << 20, 300 << 20, 4 << 30)]
    assert states == [FAIL, WARN, OK]


# -- broker


@contextmanager
def server(answer: bytes | None) -> Iterator[str]:
    """Something that listens: it answers every connection with the same bytes, or with silence."""
    listener = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def serve() -> None:
        listener.settimeout(0.05)
        held = []
        while not stop.is_set():
            try:
                link, _ = listener.accept()
            except TimeoutError:
                continue
            held.append(link)
            link.recv(100)
            if answer is not None:
                link.sendall(answer)
                link.close()
        for link in held:
            link.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"mqtt://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        stop.set()
        thread.join()
        listener.close()


@pytest.mark.parametrize(
    ("answer", "state", "words"),
    [
        (bytes([0x20, 3, 0, 0x87, 0]), OK, "asks for credentials"),
        (bytes([0x20, 3, 0, 0x97, 0]), WARN, "0x97"),
        (bytes([0x20, 2, 0, 1]), FAIL, "does not speak MQTT 5"),
        (b"", FAIL, "does not speak MQTT 5"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", FAIL, "is no MQTT broker"),
        (None, FAIL, "no answer"),
    ],
)
def test_what_answers_at_the_broker_s_address_is_told_apart(answer: bytes | None, state: str, words: str) -> None:
    with server(answer) as url:
        found = broker(url, deadline_s=0.5)
    assert found.state == state
    assert words in found.detail
    assert (found.remedy is None) == (state == OK)


def test_a_real_mqtt_5_broker_is_recognised_and_an_absent_one_named() -> None:
    # The host's; a board has none of its own.
    embedded = pytest.importorskip("edgekit.fleet.broker")
    with embedded.EmbeddedBroker() as found:
        assert broker(found.address.url) == Finding("broker", OK, f"{found.address.url} speaks MQTT 5")
    assert broker("mqtt://127.0.0.1:1").state == FAIL
    assert broker("mqtt://no-such-host.invalid").state == FAIL
    assert broker("http://x").state == FAIL


# -- installation


@pytest.fixture
def board(workshop, tmp_path: Path) -> Path:
    """A board's root with one release."""
    root = tmp_path / "board"
    write(root, "etc/edgekit/keys/a.pub", workshop.public.read_text())
    (root / "var/lib/edgekit").mkdir(parents=True)
    slots.install(root / "opt/edgekit", workshop.write(tmp_path / "toy-1.0.0.edgekit"), [workshop.public])
    return root


def test_a_release_as_signed_is_ok_and_a_changed_one_is_not(board: Path, tmp_path: Path) -> None:
    assert installation.bundle(board).state == OK
    assert installation.slots(board).state == OK
    release = board / "opt/edgekit/releases/toy-1.0.0"
    path = release / "bundle.edgekit"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert installation.bundle(board).state == FAIL
    path.write_bytes(whole)
    (release / "bundle.edgekit.minisig").unlink()
    assert "no signature" in installation.bundle(board).detail
    release.rename(tmp_path / "away")
    assert "which is gone" in installation.bundle(board).detail


def test_a_board_that_trusts_nobody_or_holds_nothing_is_told_to_be_flashed(
    board: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEKIT_CONFIG_HOME", str(tmp_path / "nobody"))
    (board / "etc/edgekit/keys/a.pub").unlink()
    assert installation.bundle(board).state == FAIL
    empty = installation.bundle(tmp_path / "empty")
    assert (empty.state, "edgekit flash" in str(empty.remedy)) == (WARN, True)


def test_settings_with_a_typing_error_are_named(board: Path) -> None:
    assert installation.settings(board)[0].state == OK
    write(board, "etc/edgekit/device.toml", 'brocker = "mqtt://x"\n')
    found, settings = installation.settings(board)
    assert (found.state, settings) == (FAIL, None)
    assert "did you mean 'broker'" in found.detail


# -- the whole


def test_doctor_prints_one_object_whose_every_trouble_has_a_command(
    board: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--root", str(board), "--json"]) == 0
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 1
    findings = json.loads(out)["findings"]
    assert {"python", "interpreter", "opencv", "numpy", "camera", "groups", "clock", "disk", "broker", "bundle"} <= {
        finding["check"] for finding in findings
    }
    for finding in findings:
        assert finding["state"] in STATES
        assert finding["state"] == OK or finding["remedy"], finding


def test_doctor_fails_when_a_check_fails_and_says_what_to_type(board: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(board, "etc/edgekit/device.toml", "nonsense = 1\n")
    assert main(["doctor", "--root", str(board)]) == 1
    out = capsys.readouterr().out
    assert "FAIL    settings" in out
    assert all(len(line) <= 79 for line in out.splitlines() if not line.strip().startswith("->"))
    assert main(["doctor", "--root", str(board / "not-there")]) == 2


def test_a_check_that_dies_itself_is_unknown_and_the_others_go_on(board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Finding:
        raise RuntimeError("odd file")

    monkeypatch.setattr(hardware, "disk", broken)
    found = {finding.check: finding for finding in examine(board)}
    assert found["disk"].state == UNKNOWN
    assert found["bundle"].state == OK


def test_a_remedy_is_never_broken_over_two_lines() -> None:
    remedy = "pip install " + "x" * 100
    assert f"-> {remedy}" in table([Finding("long", FAIL, "w " * 80, remedy)])


def test_a_child_s_grandchild_that_holds_the_pipe_does_not_hold_the_doctor() -> None:
    begun = time.monotonic()
    found = ask("import subprocess\nsubprocess.Popen(['sleep', '60'])\nanswer({})", deadline_s=1.0)
    assert found.value is None
    assert time.monotonic() - begun < 5


# -- status


def status(root: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    code = main(["status", "--root", str(root), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_status_tells_a_serving_board_from_a_killed_and_from_a_stopped_one(
    board: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(board, capsys)[0] == 1
    command = [sys.executable, "-m", "edgekit_device", "run", "--root", str(board), "--source", "synthetic"]

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*command, "--interval", "0.2"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )

    process = start()
    try:
        assert eventually(lambda: (look_up(board).document.get("status") or {}).get("delegate"), 30)
        code, answer = status(board, capsys)
        assert (code, answer["alive"], answer["pid"]) == (0, True, process.pid)
        assert answer["status"]["bundle"] == "toy-1.0.0"
        assert installation.service(look_up(board), board).state == OK
        assert main(["status", "--root", str(board)]) == 0
        assert "serving toy-1.0.0 on xnnpack" in capsys.readouterr().out
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    code, answer = status(board, capsys)
    assert (code, answer["alive"]) == (1, False)
    killed = installation.service(look_up(board), board)
    assert (killed.state, "without a goodbye" in killed.detail) == (FAIL, True)
    process = start()
    assert eventually(lambda: look_up(board).alive, 30)
    assert eventually(lambda: (look_up(board).document.get("status") or {}).get("delegate"), 30)
    assert stop(process) == 0
    assert installation.service(look_up(board), board).detail == "stopped"


def stop(process: subprocess.Popen[str]) -> int:
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    return process.returncode


def test_an_fps_from_before_the_last_window_is_not_shown_as_today_s() -> None:
    status = {"state": "online", "bundle": "toy-1.0.0", "delegate": "xnnpack", "reason": None}
    document = {"status": status, "reading": {"fps": 29.8, "window_s": 30.0}}
    assert in_words(document, 40.0) == "serving toy-1.0.0 on xnnpack, 29.8 FPS"
    assert in_words(document, 300.0) == "serving toy-1.0.0 on xnnpack"


def test_a_recycled_process_id_is_not_taken_for_the_supervisor(tmp_path: Path) -> None:
    ticks = started_ticks(os.getpid())
    assert ticks is not None
    for recorded, alive in ((ticks, True), (ticks - 1, False), (None, False)):
        document = {"pid": os.getpid(), "pid_started_ticks": recorded, "status": {"state": "online"}}
        write(tmp_path, "var/lib/edgekit/status.json", json.dumps(document))
        assert look_up(tmp_path).alive is alive
    write(tmp_path, "var/lib/edgekit/status.json", "{half")
    assert look_up(tmp_path).path is None


def test_a_card_is_written_when_something_changes_and_not_with_every_reading(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    assert not in_memory(tmp_path) or pytest.skip("the temporary folder lies in memory")
    file = StatusFile(path, pause_s=0.05)
    file.put({"status": {"state": "online"}, "reading": {"seq": 0}})
    assert eventually(path.exists, 5)
    first = path.read_text()
    for seq in range(20):
        file.put({"status": {"state": "online"}, "reading": {"seq": seq}})
        time.sleep(0.01)
        assert path.read_text() == first
    file.put({"status": {"state": "online", "reason": "camera_lost"}, "reading": None})
    assert eventually(lambda: path.read_text() != first, 5)
    file.put({"status": {"state": "stopped"}})
    file.close()
    assert json.loads(path.read_text())["status"]["state"] == "stopped"


def test_the_last_word_is_written_though_the_one_before_it_is_still_on_its_way(tmp_path: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()

    class SlowDisk(StatusFile):
        def _write(self, document: Any) -> None:
            begun.set()
            assert go_on.wait(5)
            super()._write(document)

    file = SlowDisk(tmp_path / "status.json")
    file.put({"status": {"state": "online"}})
    assert begun.wait(5)
    file.put({"status": {"state": "stopped"}})
    threading.Timer(0.2, go_on.set).start()
    file.close()
    assert json.loads(file.path.read_text())["status"]["state"] == "stopped"


def test_a_board_that_flaps_writes_a_card_six_times_in_a_minute_and_no_more(tmp_path: Path) -> None:
    assert not in_memory(tmp_path) or pytest.skip("the temporary folder lies in memory")
    path, seen = tmp_path / "status.json", set()
    file = StatusFile(path, pause_s=0.01)
    for number in range(60):
        file.put({"status": {"reason": str(number)}})
        time.sleep(0.02)
        seen.add(path.read_text())
    file.close()
    assert 1 < len(seen) <= 6
    assert json.loads(path.read_text())["status"]["reason"] == "59"


def test_a_status_file_that_cannot_be_written_ends_nothing(tmp_path: Path) -> None:
    file = StatusFile(tmp_path / "gone" / "status.json")
    file.put({"status": {}})
    file.close()
    assert writable_place([tmp_path / "a/b/status.json", tmp_path / "status.json"]) == tmp_path / "status.json"
