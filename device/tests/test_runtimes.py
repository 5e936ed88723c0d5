"""Runtime releases: built beside the one that runs, tried before they are trusted, and never without a way back."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from edgekit_device.cli import main
from edgekit_device.contract.errors import (
    DigestMismatchError,
    FieldError,
    NoPreviousSlotError,
    SecurityEpochError,
    SlotBusyError,
    SlotConflictError,
    SlotDiskError,
    SlotFullError,
    UnsignedBundleError,
    UntrustedKeyError,
)
from edgekit_device.contract.runtime_errors import (
    RejectedRuntimeError,
    RuntimeBuildError,
    RuntimeFormatError,
    RuntimeProofError,
    RuntimeUnfitError,
)
from edgekit_device.contract.runtime_manifest import RuntimeManifest, wheel_of
from edgekit_device.disk import REAL_DISK
from edgekit_device.publish.outlet import OutletState
from edgekit_device.runtimes import building, launcher, slots
from edgekit_device.runtimes.following import RuntimeWatch
from edgekit_device.runtimes.launcher import COMMITTED, MAX_ATTEMPTS, PENDING, REJECTED, choose
from edgekit_device.runtimes.release import is_runtime, open_runtime
from tests.worlds.bundles import Signer
from tests.worlds.disks import BAD_DISK, NO_SPACE, FailingDisk, FullDisk, PowerCut
from tests.worlds.runtimes import Release, pip_wheel, tiny_files, wheel

LAUNCHER = Path(launcher.__file__)


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return Signer.make(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory, signer: Signer) -> Path:
    """A release of five small files."""
    return Release("0.2.0").write(tmp_path_factory.mktemp("release"), signer)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, signer: Signer, good: Path) -> Path:
    """A home that has taken it, by pip and all; to be copied."""
    home = bare(tmp_path_factory.mktemp("built"))
    assert slots.install(home, good, [signer.public]) == "runtime-0.2.0"
    return home


def bare(folder: Path) -> Path:
    """A board's /opt/edgekit with a launcher and a first runtime that says who it is."""
    home = folder / "opt" / "edgekit"
    home.mkdir(parents=True)
    shutil.copy(LAUNCHER, home / slots.LAUNCH)
    talking(home, "")
    return home


def talking(home: Path, name: str) -> None:
    """A runtime whose interpreter is a script that prints what it was started with."""
    python = launcher.python_of(home, name)
    python.parent.mkdir(parents=True, exist_ok=True)
    python.write_text('#!/bin/sh\necho "$EDGEKIT_RUNTIME|$EDGEKIT_RUNTIME_WANTED|$EDGEKIT_RUNTIME_BLOCKED|$*"\n')
    python.chmod(0o755)
    if name:
        (home / launcher.FOLDER / name / slots.MARK).write_text('{"device": "0.0.1"}')


def copy_of(built: Path, folder: Path) -> Path:
    home = folder / "opt" / "edgekit"
    shutil.copytree(built, home, symlinks=True)
    return home


def journal(home: Path, **states: Any) -> None:
    """Releases that the launcher knows, in the order in which they were entered."""
    releases = {}
    for number, (name, values) in enumerate(states.items(), 1):
        record = {"state": values} if isinstance(values, str) else dict(values)
        default = {"sha256": "", "attempts": 0, "reason": None, "entered": number, "within_s": 60.0, "at": None}
        releases[name.replace("_", "-").replace("v", ".")] = {**default, **record}
    launcher.write_journal(home, {"schema": 1, "releases": releases})


def launched(home: Path, *words: str) -> list[str]:
    """What the launcher started: (runtime, wanted, blocked, words)."""
    command = [sys.executable, "-I", str(home / slots.LAUNCH), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.stdout, done.stderr
    return done.stdout.strip().split("|")


def state(home: Path, name: str) -> tuple[str, int]:
    record = launcher.read_journal(home)["releases"][name]
    return record["state"], record["attempts"]


# -- the launcher ------------------------------------------------------------------------------------------------


def record(state: str, **more: Any) -> dict[str, Any]:
    default = {"attempts": 0, "entered": 1, "within_s": 60.0, "sha256": "", "reason": None}
    return {"state": state, **default, **more}


@pytest.mark.parametrize(
    ("releases", "wish", "there", "starts", "on_trial", "ends_as"),
    [
        ({}, "", {""}, "", False, None),
        ({}, "b", {"b"}, "b", True, PENDING),
        ({"b": record(PENDING)}, "b", {"b"}, "b", True, PENDING),
        ({"b": record(PENDING, attempts=2)}, "b", {"b"}, "b", True, PENDING),
        ({"b": record(PENDING, attempts=3)}, "b", {"b"}, "", False, REJECTED),
        ({"a": record(COMMITTED), "b": record(PENDING, attempts=3)}, "b", {"a", "b"}, "a", False, REJECTED),
        ({"a": record(COMMITTED), "b": record(PENDING, attempts=3)}, "b", {"b"}, "", False, REJECTED),
        ({"b": record(COMMITTED)}, "b", {"b"}, "b", False, COMMITTED),
        ({"b": record(REJECTED)}, "b", {"b"}, "", False, REJECTED),
        ({"a": record(COMMITTED), "b": record(REJECTED)}, "b", {"a", "b"}, "a", False, REJECTED),
        ({"a": record(COMMITTED, entered=1), "c": record(COMMITTED, entered=2)}, "b", {"a", "c"}, "c", False, None),
        ({"a": record(COMMITTED), "b": record(COMMITTED)}, "b", {"a"}, "a", False, COMMITTED),
        ({"a": record(COMMITTED)}, "", {"a"}, "", False, None),
    ],
)
def test_what_is_started_follows_from_link_and_journal(releases, wish, there, starts, on_trial, ends_as) -> None:
    choice = choose({"schema": 1, "releases": releases}, wish, there.__contains__, "now")
    assert (choice.runtime, choice.on_trial) == (starts, on_trial)
    after = (choice.journal or {"releases": releases})["releases"].get(wish)
    assert (after and after["state"]) == ends_as
    if on_trial:
        before = releases.get(wish, {}).get("attempts", 0)
        assert after and after["attempts"] == before + 1, "an attempt is counted before it begins"


def test_no_runtime_is_tried_for_ever_whatever_it_does(tmp_path) -> None:
    home = bare(tmp_path)
    talking(home, "runtime-0.2.0")
    journal(home, runtime_0v2v0=PENDING)
    launcher.point(home, "runtime-0.2.0")
    starts = [launched(home, "run")[0] for _ in range(MAX_ATTEMPTS + 2)]
    assert starts == ["runtime-0.2.0"] * MAX_ATTEMPTS + ["", ""]
    assert state(home, "runtime-0.2.0") == (REJECTED, 0)
    assert "started 3 times" in launcher.read_journal(home)["releases"]["runtime-0.2.0"]["reason"]
    assert launcher.wanted(home) == ""


def test_the_launcher_hands_on_words_and_says_what_runs(tmp_path) -> None:
    home = bare(tmp_path)
    assert launched(home, "run", "--root", "/") == ["", "", "", "-P -m edgekit_device run --root /"]


def test_what_cannot_be_written_down_is_not_tried(tmp_path, monkeypatch) -> None:
    home = bare(tmp_path)
    talking(home, "runtime-0.2.0")
    journal(home, runtime_0v1v0=COMMITTED, runtime_0v2v0=PENDING)
    talking(home, "runtime-0.1.0")
    launcher.point(home, "runtime-0.2.0")

    def refuse(*_: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(launcher, "write_journal", refuse)
    runtime, within_s, wish, blocked = launcher.prepare(home)
    assert (runtime, within_s, wish) == ("runtime-0.1.0", None, "runtime-0.2.0")
    assert "Read-only file system" in (blocked or "")
    monkeypatch.undo()
    assert state(home, "runtime-0.2.0") == (PENDING, 0)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"releases": {"a": {"state": "fine"}}}', b"\xff" * 100])
def test_a_damaged_journal_counts_as_empty(tmp_path, damage) -> None:
    home = bare(tmp_path)
    (home / launcher.JOURNAL).write_bytes(damage)
    assert launcher.read_journal(home)["releases"] == {}
    assert launched(home)[0] == ""


def test_a_committed_runtime_whose_interpreter_is_gone_is_passed_over(tmp_path) -> None:
    home = bare(tmp_path)
    journal(home, runtime_0v2v0=COMMITTED)
    launcher.point(home, "runtime-0.2.0")
    assert launched(home)[0] == ""
    assert state(home, "runtime-0.2.0") == (COMMITTED, 0)


def test_an_interpreter_that_the_kernel_refuses_is_passed_over_too(tmp_path) -> None:
    home = bare(tmp_path)
    talking(home, "runtime-0.2.0")
    launcher.python_of(home, "runtime-0.2.0").write_bytes(b"\x7fELF no more")
    journal(home, runtime_0v2v0=COMMITTED)
    launcher.point(home, "runtime-0.2.0")
    assert launched(home)[0] == ""


@pytest.mark.parametrize("deaf", [False, True], ids=["ends when told", "ignores SIGTERM"])
def test_a_runtime_that_hangs_is_ended_from_outside_and_rejected(tmp_path, monkeypatch, deaf) -> None:
    home = bare(tmp_path)
    talking(home, "runtime-0.2.0")
    trap = "trap '' TERM" if deaf else ""
    script = f"#!/bin/sh\n{trap}\nwhile :; do sleep 0.05; done\n"
    launcher.python_of(home, "runtime-0.2.0").write_text(script)
    journal(home, runtime_0v2v0={"state": PENDING, "within_s": 1.0})
    launcher.point(home, "runtime-0.2.0")
    text = (home / slots.LAUNCH).read_text()
    assert "_GRACE_S, _KILL_S, _LOCK_S = 15.0, 10.0, 5.0" in text
    (home / slots.LAUNCH).write_text(
        text.replace("_GRACE_S, _KILL_S, _LOCK_S = 15.0, 10.0", "_GRACE_S, _KILL_S, _LOCK_S = 0.1, 0.5")
    )
    process = subprocess.Popen([sys.executable, "-I", str(home / slots.LAUNCH)])
    assert process.wait(60) == (-9 if deaf else -15)
    assert state(home, "runtime-0.2.0")[0] == REJECTED
    assert "hangs" in launcher.read_journal(home)["releases"]["runtime-0.2.0"]["reason"]
    assert launched_after_repair(home) == ""


def launched_after_repair(home: Path) -> str:
    return launched(home)[0]


def test_a_runtime_that_ends_by_itself_is_noted_with_the_time_that_took(tmp_path) -> None:
    home = bare(tmp_path)
    talking(home, "runtime-0.2.0")
    journal(home, runtime_0v2v0=PENDING)
    launcher.point(home, "runtime-0.2.0")
    launched(home)
    until = time.monotonic() + 30
    while "note" not in launcher.read_journal(home)["releases"]["runtime-0.2.0"]:
        assert time.monotonic() < until, "the guard never said that the runtime ended"
        time.sleep(0.05)
    assert "ended by itself" in launcher.read_journal(home)["releases"]["runtime-0.2.0"]["note"]


# -- building and entering ---------------------------------------------------------------------------------------


def test_a_release_is_built_offline_and_wanted_and_the_same_bytes_change_nothing(built, good, signer, tmp_path) -> None:
    home = built
    assert launcher.wanted(home) == "runtime-0.2.0"
    assert slots.standing(home)["held"] == {"runtime-0.2.0": "0.2.0"}
    python = launcher.python_of(home, "runtime-0.2.0")
    said = subprocess.run(
        [python, "-c", "import edgekit_device as e; print(e.__file__)"], capture_output=True, text=True
    )
    assert said.stdout.strip().startswith(str(home / "runtimes" / "runtime-0.2.0"))
    left = [path for path in home.rglob("*") if path.name.startswith(".new-") or path.suffix == ".whl"]
    assert not left
    before = (home / launcher.JOURNAL).read_bytes()
    assert slots.install(home, good, [signer.public]) == "runtime-0.2.0"
    assert (home / launcher.JOURNAL).read_bytes() == before


@pytest.mark.parametrize(
    ("release", "error", "words"),
    [
        (Release("0.3.0", python="3.10"), RuntimeUnfitError, "built for Python 3.10"),
        (Release("0.3.0", machine="riscv64"), RuntimeUnfitError, "on riscv64"),
        (Release("0.3.0", system_site_packages=True), RuntimeUnfitError, "packages of its own only"),
        (Release("0.3.0", launcher=9), RuntimeUnfitError, "needs launcher 9"),
        (Release("0.3.0", hashes={wheel("edgekit-device", "0.3.0", {})[0]: "0" * 64}), DigestMismatchError, "0000"),
        (Release("0.3.0", requires=("not-here>=2",)), RuntimeBuildError, "not-here"),
        (Release("0.3.0", {**tiny_files(), "edgekit_device/running.py": b"1/0"}), RuntimeProofError, "ZeroDivision"),
    ],
    ids=["Python", "machine", "system packages", "launcher", "hash", "wheel missing", "crash"],
)
def test_a_bad_release_is_refused_by_name_and_nothing_is_left(built, signer, tmp_path, release, error, words) -> None:
    home = copy_of(built, tmp_path)
    before = (home / launcher.JOURNAL).read_bytes()
    with pytest.raises(error, match=words):
        slots.install(home, release.write(tmp_path, signer), [signer.public])
    assert launcher.wanted(home) == "runtime-0.2.0"
    assert (home / launcher.JOURNAL).read_bytes() == before
    assert [entry.name for entry in (home / "runtimes").iterdir()] == ["runtime-0.2.0"]


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("cli.py", "import time; time.sleep(600)", "hangs"),
        ("running.py", "import os; os.abort()", "exit code -6"),
        ("running.py", "raise SystemExit(3)", "exit code 3"),
        ("publish/mqtt.py", "import paho_is_not_here", "paho_is_not_here"),
        ("__init__.py", "", "__version__"),
    ],
)
def test_what_cannot_be_imported_is_named_in_time(built, tmp_path, file, content, words) -> None:
    venv = tmp_path / "venv"
    shutil.copytree(built / "runtimes" / "runtime-0.2.0" / "venv", venv, symlinks=True)
    (next((venv / "lib").rglob("edgekit_device")) / file).write_text(content)
    with pytest.raises(RuntimeProofError, match=words):
        building.prove("runtime-0.3.0", venv, 5.0 if words == "hangs" else 60.0)


def test_signature_and_key_are_asked_before_anything_else(built, good, signer, tmp_path) -> None:
    home = copy_of(built, tmp_path)
    other = Signer.make(tmp_path / "other")
    path = Release("0.3.0").write(tmp_path, other)
    with pytest.raises(UntrustedKeyError):
        slots.install(home, path, [signer.public])
    path.with_name(path.name + ".minisig").unlink()
    with pytest.raises(UnsignedBundleError):
        slots.install(home, path, [signer.public])
    signer.bundle(tmp_path)
    with pytest.raises(RuntimeFormatError, match="no runtime release"):
        slots.install(home, tmp_path / "toy-1.0.0.edgekit", [signer.public])
    assert is_runtime(good) and not is_runtime(tmp_path / "toy-1.0.0.edgekit") and not is_runtime(tmp_path / "none")


def test_a_board_without_a_launcher_is_told_to_be_flashed(good, signer, tmp_path) -> None:
    home = tmp_path / "opt" / "edgekit"
    home.mkdir(parents=True)
    with pytest.raises(RuntimeUnfitError, match="edgekit flash"):
        slots.install(home, good, [signer.public])


def test_a_rejected_release_is_refused_until_forced(built, good, signer, tmp_path) -> None:
    home = copy_of(built, tmp_path)
    assert launcher.reject(home, "runtime-0.2.0", "it smelled")
    with pytest.raises(RejectedRuntimeError, match="it smelled"):
        slots.install(home, good, [signer.public])
    assert launcher.wanted(home) == "", "the next change mends the link"
    assert slots.install(home, good, [signer.public], force=True) == "runtime-0.2.0"
    assert state(home, "runtime-0.2.0") == (PENDING, 0)
    assert launcher.wanted(home) == "runtime-0.2.0"


def test_other_bytes_under_the_same_version_are_refused(built, signer, tmp_path) -> None:
    home = copy_of(built, tmp_path)
    with pytest.raises(SlotConflictError):
        slots.install(home, Release("0.2.0", tiny_files("pass")).write(tmp_path, signer), [signer.public])


def test_a_release_below_the_floor_is_refused(built, signer, tmp_path) -> None:
    home = copy_of(built, tmp_path)
    journal(home, runtime_0v2v0={"state": COMMITTED, "epoch": 3})
    with pytest.raises(SecurityEpochError):
        slots.install(home, Release("0.3.0", epoch=2).write(tmp_path, signer), [signer.public])


def test_a_full_disk_is_named_before_anything_is_written(built, signer, tmp_path) -> None:
    home = copy_of(built, tmp_path)
    path = Release("0.3.0").write(tmp_path, signer)

    with pytest.raises(SlotFullError, match="no space left"):
        slots.install(home, path, [signer.public], disk=FullDisk(1 << 20))
    assert [entry.name for entry in (home / "runtimes").iterdir()] == ["runtime-0.2.0"]


def test_what_is_half_built_is_taken_away_and_two_releases_stay(built, tmp_path) -> None:
    home = copy_of(built, tmp_path)
    half = home / "runtimes" / "runtime-0.9.0" / "venv"
    half.mkdir(parents=True)
    for version in ("0.1.0", "0.1.1", "0.1.2"):
        talking(home, f"runtime-{version}")
    journal(home, runtime_0v1v0=COMMITTED, runtime_0v1v1=COMMITTED, runtime_0v1v2=REJECTED, runtime_0v2v0=PENDING)
    slots.recover(home)
    assert set(slots.held(home)) == {"runtime-0.2.0", "runtime-0.1.1"}, "what is wanted, and what to go back to"
    assert not half.exists()


def test_rollback_goes_to_what_passed_before_and_then_to_the_first(built, tmp_path, capsys) -> None:
    home = copy_of(built, tmp_path)
    talking(home, "runtime-0.1.0")
    journal(home, runtime_0v1v0=COMMITTED, runtime_0v2v0=COMMITTED)
    root = str(tmp_path)
    assert main(["rollback", "--runtime", "--root", root]) == 0
    assert launcher.wanted(home) == "runtime-0.1.0"
    assert main(["rollback", "--runtime", "--root", root]) == 0
    assert launcher.wanted(home) == ""
    assert main(["rollback", "--runtime", "--root", root]) == NoPreviousSlotError.exit_code
    assert launched(home)[0] == ""
    capsys.readouterr()
    main(["status", "--root", root])
    assert "runtime-0.2.0 with edgekit-device 0.2.0 (committed)" in capsys.readouterr().out


def test_install_takes_a_runtime_release_by_what_is_in_it(built, good, signer, tmp_path, capsys) -> None:
    home = copy_of(built, tmp_path)
    keys = tmp_path / "etc" / "edgekit" / "keys"
    keys.mkdir(parents=True)
    shutil.copy(signer.public, keys)
    launcher.point(home, "")
    assert main(["install", str(good), "--root", str(tmp_path), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["runtime"], answer["wanted"]) == ("runtime-0.2.0", "runtime-0.2.0")
    assert main(["install", str(good), "--root", str(tmp_path), "--within", "0.1"]) == 2


def test_two_installers_never_work_at_the_same_time(built, good, signer, tmp_path) -> None:
    home = copy_of(built, tmp_path)
    with slots._exclusive(home, REAL_DISK), pytest.raises(SlotBusyError):
        slots.install(home, good, [signer.public])


def test_a_disk_that_fails_at_any_of_our_calls_leaves_the_old_runtime_and_the_next_install_ends(
    built, signer, tmp_path, monkeypatch
) -> None:
    """The environment is copied in place of pip, so that every call of our own is struck; A1-RUNTIME strikes pip."""
    path = Release("0.3.0").write(tmp_path, signer)
    made = built / "runtimes" / "runtime-0.2.0" / "venv"
    few = tmp_path / "few"
    (few / "bin").mkdir(parents=True)
    (few / "bin" / "python").symlink_to(launcher.python_of(built, "runtime-0.2.0").resolve())
    shutil.copy(made / "pyvenv.cfg", few)
    package = next((made / "lib").rglob("edgekit_device"))
    shutil.copytree(package, few / package.relative_to(made), ignore=shutil.ignore_patterns("__pycache__"))

    def quick(release: Any, folder: Path, disk: Any, **_: Any) -> None:
        shutil.copytree(few, folder / "venv", symlinks=True)
        building.make_durable(folder, disk)

    monkeypatch.setattr(slots, "build", quick)
    runs = 0
    for first, error in enumerate((None, NO_SPACE, BAD_DISK)):
        for at in itertools.count(first, 8):  # The gate strikes at every one.
            home = copy_of_links(built, tmp_path / f"struck-{error}-{at}")
            disk = FailingDisk(at, error)
            with contextlib.suppress(SlotDiskError, SlotFullError, PowerCut):
                slots.install(home, path, [signer.public], disk=disk)
            assert launcher.wanted(home) in ("runtime-0.2.0", "runtime-0.3.0")
            assert slots.install(home, path, [signer.public]) == "runtime-0.3.0"
            assert set(slots.held(home)) == {"runtime-0.2.0", "runtime-0.3.0"}
            runs += 1
            if len(disk.made) <= at:
                break
    assert runs > 20


def copy_of_links(built: Path, folder: Path) -> Path:
    """A home with the journal of `built`, and of its release only the names."""
    home = folder / "opt" / "edgekit"
    (home / "runtimes").mkdir(parents=True)
    shutil.copy(built / slots.LAUNCH, home)
    talking(home, "")
    shutil.copy(built / launcher.JOURNAL, home)
    talking(home, "runtime-0.2.0")
    launcher.point(home, "runtime-0.2.0")
    return home


def test_every_wheel_is_read_as_the_manifest_lists_it(good, signer) -> None:
    release = open_runtime(good, [signer.public])
    assert release.manifest.device == "0.2.0"
    assert release.manifest.installer == pip_wheel()[0]
    assert RuntimeManifest.from_bytes(release.manifest.to_bytes()) == release.manifest


@pytest.mark.parametrize(
    "wrong",
    [
        {"python": "2.7"},
        {"python": "3.11; rm"},
        {"machine": "../x"},
        {"system_site_packages": "yes"},
        {"launcher": 0},
        {"version": "1"},
        {"name": "Run Time"},
        {"wheels": {}},
        {"wheels": {"../x-1-py3-none-any.whl": {"bytes": 1, "sha256": "0" * 64}}},
        {"wheels": {"x.txt": {"bytes": 1, "sha256": "0" * 64}}},
    ],
    ids=str,
)
def test_a_manifest_that_is_out_of_range_is_refused(good, signer, wrong) -> None:
    values = json.loads(open_runtime(good, [signer.public]).manifest.to_bytes())
    with pytest.raises(FieldError, match="runtime"):
        RuntimeManifest.from_bytes(json.dumps({**values, **wrong}).encode())


@pytest.mark.parametrize(
    ("file", "name", "version"),
    [
        ("ai_edge_litert-2.3.0-cp311-cp311-manylinux_2_27_x86_64.whl", "ai-edge-litert", "2.3.0"),
        ("opencv_python_headless-4.11.0.86-cp37-abi3-manylinux_2_17_aarch64.manylinux2014_aarch64.whl",
         "opencv-python-headless", "4.11.0.86"),
        ("a.b-1.0+local-1-py3-none-any.whl", "a-b", "1.0+local"),
    ],
)  # fmt: skip
def test_a_wheel_is_named_as_packages_are(file, name, version) -> None:
    assert wheel_of(file) == (name, version)


# -- the runtime's own side --------------------------------------------------------------------------------------


def watch_of(home: Path, *, publishes: bool = True, now_s: float = 0.0, **environ: str) -> RuntimeWatch:
    words = {"EDGEKIT_RUNTIME": "runtime-0.2.0", "EDGEKIT_RUNTIME_WANTED": launcher.wanted(home), **environ}
    return RuntimeWatch(home, words, publishes=publishes, now_s=now_s)


def link(*stored: tuple[int, int], reason: str | None = None) -> list[OutletState]:
    return [OutletState(True, None, 5, 0, 0), OutletState(reason is None, reason, 5, 0, 0, stored)]


def test_only_a_reading_with_frames_that_is_stored_commits_a_runtime(built, tmp_path) -> None:
    home = copy_of(built, tmp_path)
    watch = watch_of(home)
    watch.made(1, 1.0, 0.0)
    watch.made(2, 1.0, 9.0)
    assert watch.tick(1.0, lambda: link((0, 1))) == [("runtime_started", "runtime-0.2.0, on trial for 300 s")]
    assert watch.on_trial, "an event and a Reading without frames prove nothing"
    assert watch.tick(3.0, lambda: link((0, 2))) == [("runtime_committed", "runtime-0.2.0")]
    assert state(home, "runtime-0.2.0") == (COMMITTED, 0)
    assert watch.leaving is None and watch.trouble is None


@pytest.mark.parametrize(
    ("fps", "reason", "words"),
    [
        (0.0, None, "no Reading with frames"),
        (9.0, None, "no collector"),
        (9.0, "mqtt://x: refused", "mqtt://x: refused"),
    ],
)
def test_a_runtime_that_is_not_acknowledged_in_time_makes_way_with_the_reason(
    built, tmp_path, fps, reason, words
) -> None:
    home = copy_of(built, tmp_path)
    watch = watch_of(home)
    watch.made(1, 1.0, fps)
    watch.tick(299.0, lambda: link(reason=reason))
    assert watch.leaving is None
    said = dict(watch.tick(301.0, lambda: link(reason=reason)))
    assert words in said["runtime_rejected"]
    assert watch.leaving
    assert state(home, "runtime-0.2.0") == (REJECTED, 0)


def test_a_board_that_publishes_nowhere_proves_its_runtime_by_frames_alone(built, tmp_path) -> None:
    home = copy_of(built, tmp_path)
    watch = watch_of(home, publishes=False)
    for second in range(1, 60):
        watch.made(second, 1.0, 5.0)
        watch.tick(float(second), list)
    assert watch.on_trial
    watch.made(60, 1.0, 5.0)
    assert ("runtime_committed", "runtime-0.2.0") in watch.tick(61.0, list)


def test_a_stop_by_the_system_is_no_attempt(built, tmp_path) -> None:
    home = copy_of(built, tmp_path)
    assert launcher.prepare(home)[0] == "runtime-0.2.0"
    assert state(home, "runtime-0.2.0") == (PENDING, 1)
    watch_of(home).close()
    assert state(home, "runtime-0.2.0") == (PENDING, 0)


def test_a_run_ends_when_another_runtime_is_wanted_and_not_otherwise(built, tmp_path) -> None:
    home = copy_of(built, tmp_path)
    journal(home, runtime_0v2v0=COMMITTED)
    watch = watch_of(home)
    watch.tick(1.0, list)
    assert watch.leaving is None
    launcher.point(home, "")
    kinds = [kind for kind, _ in watch.tick(3.0, list)]
    assert kinds == ["runtime_leaving"] and "flash made" in (watch.leaving or "")


def test_the_old_runtime_says_what_became_of_the_new_one(built, tmp_path) -> None:
    home = copy_of(built, tmp_path)
    launcher.reject(home, "runtime-0.2.0", "it hangs")
    launcher.point(home, "")
    watch = watch_of(home, EDGEKIT_RUNTIME="", EDGEKIT_RUNTIME_WANTED="")
    assert watch.tick(1.0, list) == [("runtime_rejected", "runtime-0.2.0: it hangs")]
    assert watch.trouble == "runtime_rejected: runtime-0.2.0: it hangs"


def test_a_blocked_trial_is_said_and_tried_when_the_disk_writes_again(built, tmp_path) -> None:
    home = copy_of(built, tmp_path)
    watch = watch_of(home, EDGEKIT_RUNTIME="", EDGEKIT_RUNTIME_BLOCKED="no space")
    assert watch.tick(1.0, list) == [("runtime_blocked", "no space")]
    assert watch.trouble == "runtime_blocked: no space"
    assert watch.leaving is None
    watch.tick(70.0, list)
    assert watch.leaving


def test_a_run_that_nobody_would_start_again_follows_no_runtime(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("EDGEKIT_RUNTIME", raising=False)
    assert RuntimeWatch.from_environment(tmp_path, publishes=True, now_s=0.0) is None
    monkeypatch.setenv("EDGEKIT_RUNTIME", "")
    assert RuntimeWatch.from_environment(tmp_path, publishes=True, now_s=0.0) is not None
    assert "EDGEKIT_RUNTIME" not in os.environ, "children are not launched"
