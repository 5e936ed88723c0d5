"""What a flash decides from facts alone: refusals, packages, versions, wheels, names. No board is asked here."""

from __future__ import annotations

import asyncio
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.errors import FleetSettingsError, TargetError
from edgekit.flashing.checks import refuse
from edgekit.flashing.device_wheel import device_wheel
from edgekit.flashing.errors import (
    BoardDiskError,
    BrokenPythonError,
    ClockError,
    RuntimeVersionError,
    UnsupportedBoardError,
    WheelsError,
)
from edgekit.flashing.facts import PythonFacts, System, system_from
from edgekit.flashing.folder import FolderBoard
from edgekit.flashing.hostkeys import HostKeys, host_name
from edgekit.flashing.naming import read_boards
from edgekit.flashing.runtime_plan import constrain, plan_runtime, words_of
from edgekit.flashing.runtime_steps import judge_versions
from edgekit.flashing.service import judge
from edgekit.flashing.targets import SshTarget, parse_target
from edgekit.flashing.updates import Releases, root_steps
from edgekit.flashing.wheelhouse import DamagedWheelError, choose, read_wheel, tags_of
from edgekit.trust.fleet_settings import read_settings
from edgekit_device.ota.depot import ROOT_JSON
from edgekit_device.verdicts import REJECTED

NOW_S = 1_795_000_000
BOOKWORM = PythonFacts("/usr/bin/python3", (3, 11, 2), libc="2.36")
TRIXIE = PythonFacts("/usr/bin/python3", (3, 13, 5), libc="2.41")
PI = System(clock_s=NOW_S, free_bytes=8 << 30, os_name="Debian GNU/Linux 12", python=BOOKWORM)


def wheel(folder: Path, name: str, version: str, tag: str = "py3-none-any", requires: tuple[str, ...] = ()) -> Path:
    """A wheel that pip would take."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name.replace('-', '_')}-{version}-{tag}.whl"
    lines = "".join(f"Requires-Dist: {line}\n" for line in requires)
    with zipfile.ZipFile(path, "w") as archive:
        about = f"{name.replace('-', '_')}-{version}.dist-info/METADATA"
        archive.writestr(about, f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{lines}")
    return path


def test_the_root_that_updates_hang_on_is_written_once_and_never_left_to_a_stranger(tmp_path: Path) -> None:
    board = FolderBoard(tmp_path)
    releases = Releases("https://host:8080/updates/", [b"first root", b"second root"])

    def flash(wanted: Releases | None) -> list[str]:
        async def all_of() -> list[str]:
            found = await root_steps(board, wanted)
            for step in found:
                await step.apply()
            return [step.name for step in found]

        return asyncio.run(all_of())

    held = tmp_path / ROOT_JSON
    assert flash(None) == [] == flash(Releases(releases.url, []))
    assert not held.exists()
    assert flash(releases) == ["folder", "root"]
    assert held.read_bytes() == b"second root"
    assert flash(releases) == []
    held.write_bytes(b"first root")
    assert flash(releases) == []
    held.write_bytes(b"somebody else's root")
    assert flash(releases) == ["folder", "root"]
    assert held.read_bytes() == b"second root"


@pytest.mark.parametrize(
    ("system", "error", "words"),
    [
        (replace(PI, kernel="Darwin"), UnsupportedBoardError, "needs Linux"),
        (replace(PI, machine="i686"), UnsupportedBoardError, "aarch64, x86_64, armv7l"),
        (replace(PI, machine="armv6l"), UnsupportedBoardError, "Zero 2"),
        (replace(PI, python=None, python_problem="it has no python3"), BrokenPythonError, "apt install"),
        (replace(PI, python=replace(BOOKWORM, version=(3, 9, 2))), BrokenPythonError, "3.11 to 3.13"),
        (replace(PI, python=replace(BOOKWORM, version=(3, 14, 0))), BrokenPythonError, "3.11 to 3.13"),
        (replace(PI, python=replace(BOOKWORM, venv=False)), BrokenPythonError, "python3-venv"),
        (replace(PI, clock_s=300), ClockError, "1970-01-01.*date -u -s"),
        (replace(PI, clock_s=NOW_S + 10 * 86_400), ClockError, "set it on the board"),
        (replace(PI, free_bytes=40 << 20), BoardDiskError, "42 MB free"),
    ],
)
def test_a_board_is_refused_with_its_reason_and_the_remedy(system: System, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        refuse("porch", system, 50 << 20, NOW_S)


def test_a_clock_that_is_weeks_behind_is_a_warning_because_boards_have_none() -> None:
    assert refuse("porch", PI, 1, NOW_S) == []
    assert "behind" in refuse("porch", replace(PI, clock_s=NOW_S - 30 * 86_400), 1, NOW_S)[0]


def test_a_32_bit_system_under_a_64_bit_kernel_is_seen_and_said() -> None:
    system = replace(PI, python=replace(BOOKWORM, bits=32, numpy="1.24.2", opencv="4.6.0"))
    assert system.wheel_machine == "armv7l"
    assert "32-bit" in refuse("porch", system, 1, NOW_S)[0]
    assert [(c.name, c.own) for c in constrain("porch", system)] == [("numpy", True), ("opencv-python-headless", True)]
    with pytest.raises(BrokenPythonError, match="sudo apt install python3-numpy python3-opencv"):
        constrain("porch", replace(PI, machine="armv7l"))


def test_where_picamera2_is_numpy_stays_apts_and_the_reason_is_said() -> None:
    assert constrain("porch", PI) == ()
    camera = replace(BOOKWORM, picamera2=True, numpy="1.24.2")
    numpy, opencv = constrain("porch", replace(PI, python=camera))
    assert (numpy.name, numpy.version, numpy.own) == ("numpy", "1.24.2", True)
    assert "picamera2 was built against apt's numpy 1.24.2" in numpy.reason
    assert (opencv.version, opencv.own) == ("<4.12", False)
    both = constrain("porch", replace(PI, python=replace(camera, opencv="4.6.0")))
    assert [c.own for c in both] == [True, True]
    # Trixie's apt brings numpy 2, which pip's OpenCV takes as it is.
    assert len(constrain("porch", replace(PI, python=replace(TRIXIE, picamera2=True, numpy="2.2.4")))) == 1


def test_the_plan_of_a_runtime_lists_every_wheel_with_its_hash(tmp_path: Path) -> None:
    made = [
        wheel(tmp_path / "w", "numpy", "2.4.6", "cp311-cp311-manylinux_2_17_aarch64.manylinux2014_aarch64"),
        wheel(tmp_path / "w", "numpy", "2.4.6", "cp311-cp311-manylinux_2_17_x86_64"),
        wheel(tmp_path / "w", "numpy", "1.26.0", "cp311-cp311-manylinux_2_17_aarch64"),
        wheel(tmp_path / "w", "opencv-python-headless", "5.0.0", "cp37-abi3-manylinux_2_28_aarch64", ("numpy>=2",)),
        wheel(tmp_path / "w", "opencv-python-headless", "4.11.0", "cp37-abi3-manylinux_2_17_aarch64", ("numpy",)),
        wheel(
            tmp_path / "w", "ai-edge-litert", "2.3.0", "cp311-cp311-manylinux_2_27_aarch64", ("numpy", "flatbuffers")
        ),
        wheel(tmp_path / "w", "flatbuffers", "25.1"),
        wheel(tmp_path / "w", "paho-mqtt", "2.2.0"),
        wheel(
            tmp_path / "w",
            "cryptography",
            "50.0.2",
            "cp311-abi3-manylinux_2_34_aarch64",
            ("cffi; python_version<'3.12'",),
        ),
        wheel(tmp_path / "w", "cffi", "2.0", "cp311-cp311-manylinux_2_17_aarch64"),
        wheel(tmp_path / "w", "py-minisign", "0.21.1"),
    ]
    wheels = [read_wheel(path) for path in made]
    plan = plan_runtime("porch", PI, device_wheel(), tmp_path, wheels)
    names = [w.path.name.split("-")[:2] for w in plan.wheels]
    assert ["numpy", "2.4.6"] in names and ["cffi", "2.0"] in names and ["opencv_python_headless", "5.0.0"] in names
    assert all("x86_64" not in w.path.name for w in plan.wheels)
    assert plan.requirements.count("--hash=sha256:") == len(plan.wheels) == 9
    assert "--no-index --no-deps --require-hashes" in plan.options
    # With picamera2 nothing of numpy is sent, and the OpenCV that fits apt's.
    system = replace(PI, python=replace(BOOKWORM, picamera2=True, numpy="1.24.2"))
    plan = plan_runtime("porch", system, device_wheel(), tmp_path, wheels)
    assert not any(w.name == "numpy" for w in plan.wheels)
    assert [w.version for w in plan.wheels if w.name == "opencv-python-headless"] == ["4.11.0"]
    assert any("picamera2 was built" in line for line in words_of(plan))


def test_a_wheel_that_is_missing_is_named_with_the_command_that_brings_it(tmp_path: Path) -> None:
    with pytest.raises(WheelsError, match="edgekit wheels fetch"):
        plan_runtime("porch", PI, device_wheel(), tmp_path, [])
    damaged = tmp_path / "numpy-2.4.6-py3-none-any.whl"
    damaged.write_bytes(b"PK\x03\x04 half")
    with pytest.raises(DamagedWheelError, match="fetch it again"):
        read_wheel(damaged)


def test_a_board_without_a_folder_of_wheels_fetches_itself_and_keeps_its_numpy(tmp_path: Path) -> None:
    system = replace(PI, python=replace(BOOKWORM, picamera2=True, numpy="1.24.2", opencv="4.6.0"))
    plan = plan_runtime("porch", system, device_wheel(), tmp_path, None)
    assert plan.from_index
    assert "numpy==1.24.2" in plan.requirements and "opencv" not in plan.requirements


def test_tags_follow_the_boards_libc_and_python() -> None:
    assert "cp311-cp311-manylinux_2_36_aarch64" in tags_of(BOOKWORM, "aarch64")
    assert "cp311-cp311-manylinux_2_39_aarch64" not in tags_of(BOOKWORM, "aarch64")
    assert "cp311-abi3-manylinux_2_17_aarch64" in tags_of(TRIXIE, "aarch64")
    assert "cp311-cp311-manylinux_2_17_aarch64" not in tags_of(TRIXIE, "aarch64")


def test_extras_and_markers_are_the_boards_not_this_machines(tmp_path: Path) -> None:
    made = [
        wheel(tmp_path / "w", "a", "1.0", requires=("b; extra == 'x'", "c; platform_machine == 'aarch64'")),
        wheel(tmp_path / "w", "b", "1.0"),
        wheel(tmp_path / "w", "c", "1.0"),
    ]
    wheels = [read_wheel(path) for path in made]
    assert [w.name for w in choose(wheels, ["a"], BOOKWORM, "x86_64").wheels] == ["a"]
    assert [w.name for w in choose(wheels, ["a[x]"], BOOKWORM, "aarch64").wheels] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("here", "there", "wish", "words"),
    [
        ("0.1.0", "", "", ""),
        ("0.1.0", "0.1.0", "", ""),
        ("0.2.0", "0.1.0", "runtimes/a/venv", ""),
        ("0.1.0", "0.1.4", "", "newer than edgekit 0.1.0; it stays"),
        ("0.1.0", "0.1.0", "runtimes/a/venv", "came over the air"),
    ],
)
def test_a_boards_runtime_is_never_made_older(here: str, there: str, wish: str, words: str) -> None:
    assert words in (found := judge_versions("porch", here, there, wish)) and bool(words) == bool(found)


def test_a_board_that_is_a_step_ahead_and_a_bundle_for_a_newer_runtime_are_refused_with_the_upgrade() -> None:
    for there, requires in (("0.2.0", {}), ("1.0.0", {}), ("", {"runtime": "0.3.0"})):
        with pytest.raises(RuntimeVersionError, match="pip install --upgrade"):
            judge_versions("porch", "0.1.9", there, "", requires)


def test_the_device_wheel_is_the_same_bytes_each_time_and_holds_what_runs_here() -> None:
    first, second = device_wheel(), device_wheel()
    assert first.data == second.data
    assert first.file_name == f"edgekit_device-{first.version}-py3-none-any.whl"


def test_a_status_is_judged_for_the_bundle_that_was_flashed_and_for_no_other() -> None:
    up = {
        "alive": True,
        "pid": 7,
        "status": {"delegate": "xnnpack", "reason": None},
        "reading": {"bundle": "a-1.0.0", "fps": 29.8},
    }
    assert judge(up, "a-1.0.0", None).state == "up"
    assert judge(up, "a-1.0.0", 7).state == "wait"
    assert judge(up, "a-2.0.0", None).state == "wait"
    assert judge({**up, "alive": False}, "a-1.0.0", None).state == "wait"
    assert judge({**up, "reading": {"bundle": "a-1.0.0", "fps": 0}}, "a-1.0.0", None).state == "wait"
    blind = {**up, "reading": {"bundle": "a-1.0.0", "fps": 0}, "status": {"reason": "camera_missing: no camera"}}
    assert judge(blind, "a-1.0.0", None).words == "runs, but sees nothing: camera_missing: no camera"
    rejected = {**up, "slots": {"verdicts": {"a-1.0.0": {"state": REJECTED, "reason": "golden"}}}}
    assert judge(rejected, "a-1.0.0", None) == judge({**rejected, "alive": False}, "a-1.0.0", None)
    assert judge(rejected, "a-1.0.0", None).words == "golden"


def test_a_shell_that_answers_nonsense_for_python_is_a_broken_python() -> None:
    system = system_from({"kernel": "Linux", "python": "/usr/bin/python3", "python_status": "139", "probe": "{"})
    assert system.python is None
    assert "status 139" in system.python_problem


def test_boards_have_names_in_fleet_toml(tmp_path: Path) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text('name = "fleet"\n[boards]\nporch = "ssh://pi@porch.local:2222"\n')
    names = read_boards((tmp_path / "missing.toml", path))
    assert parse_target("porch", names) == SshTarget("porch.local", "pi", 2222, "porch")
    assert read_settings(path).name == "fleet"  # The fleet's own reader of this file leaves boards alone.
    with pytest.raises(TargetError, match="did you mean 'porch'"):
        parse_target("porhc", names)
    path.write_text("[boards]\nBAD_NAME = 'x'\n")
    with pytest.raises(FleetSettingsError):
        read_boards((path,))
    path.write_text("[boards]\nporch = 7\n")
    with pytest.raises(FleetSettingsError, match="must be a target"):
        read_boards((path,))


def test_pins_are_kept_apart_by_port_and_a_comment_is_no_pin(tmp_path: Path) -> None:
    keys = HostKeys(tmp_path / "c" / "known_hosts")
    keys.pin(host_name("porch", 22), "ssh-ed25519 AAAA")
    keys.pin(host_name("porch", 2222), "ssh-ed25519 BBBB")
    keys.path.write_text(keys.path.read_text() + "# porch ssh-ed25519 CCCC\n")
    assert keys.pinned("porch") == ["ssh-ed25519 AAAA"]
    assert keys.pinned("[porch]:2222") == ["ssh-ed25519 BBBB"]
    assert keys.pinned("shed") == []
