"""Build the environment of a runtime release beside the one that runs: offline, with hashes, and proved to start.

pip's own wheel travels in the release and puts the others in place, so a board needs neither pip nor ensurepip.
"""

from __future__ import annotations

import ctypes
import io
import os
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from edgekit_device.contract.errors import SlotFullError
from edgekit_device.contract.runtime_errors import RuntimeBuildError, RuntimeProofError
from edgekit_device.contract.runtime_manifest import INSTALLER, SYSTEMS_OWN, wheel_of
from edgekit_device.disk import Disk, discard, make_folders, sync_folder, write_new
from edgekit_device.runtimes.release import RuntimeRelease

BUILD_S, PROOF_S = 900.0, 60.0
"""A Pi's card takes minutes to write OpenCV; importing takes seconds."""
_WORDS = 300
# What an environment takes of the disk, of what its wheels hold: files are rounded up, and modules compiled.
_SPREAD, _SLACK_BYTES = 1.6, 4 << 20
# Everything that a start imports, and nothing that a start does.
_PROOF = (
    "import sys, edgekit_device, edgekit_device.cli, edgekit_device.running, edgekit_device.publish.mqtt;"
    "assert sys.prefix != sys.base_prefix; sys.stdout.write(edgekit_device.__version__)"
)


def has_system_packages(prefix: Path = Path(sys.prefix)) -> bool:
    """Whether an environment sees the system's packages, by its pyvenv.cfg; False where it has none."""
    try:
        lines = (prefix / "pyvenv.cfg").read_text("utf-8").splitlines()
    except (OSError, ValueError):
        return False
    values = {key.strip().lower(): value.strip().lower() for key, _, value in (line.partition("=") for line in lines)}
    return values.get("include-system-site-packages") == "true"


def build(
    release: RuntimeRelease, folder: Path, disk: Disk, *, lock: int, build_s: float = BUILD_S, proof_s: float = PROOF_S
) -> None:
    """Make `folder/venv` with what the release holds, and make it durable.

    Args:
        release: Checked.
        folder: An empty folder, where the environment stays: scripts in it name its path.
        disk: Where our own system calls go; pip's are its own.
        lock: The installers' lock. pip inherits it: should this process be killed, nobody builds beside what is left.
        build_s: Time limit of each step.
        proof_s: Time limit of the proof.

    Raises:
        SlotFullError: There is no room.
        RuntimeBuildError: pip refuses, or takes too long.
        RuntimeProofError: The result cannot be imported.
        OSError: The disk refuses.
    """
    name, manifest, venv = release.manifest.release_id, release.manifest, folder / "venv"
    wheels = folder / "wheels"
    make_folders(wheels, disk=disk)
    for file, content in release.wheels.items():
        write_new(wheels / file, bytes(content), disk=disk)
    pinned = [
        f"{package}=={version} --hash=sha256:{manifest.wheels[file].sha256}"
        for file in sorted(manifest.wheels)
        for package, version in [wheel_of(file)]
        if package != INSTALLER
    ]
    write_new(wheels / "requirements.txt", ("\n".join(pinned) + "\n").encode("ascii"), disk=disk)
    site = ["--system-site-packages"] if manifest.system_site_packages else []
    base = str(getattr(sys, "_base_executable", sys.executable))
    _step(name, [base, "-I", "-m", "venv", "--without-pip", *site, str(venv)], folder, lock, build_s)
    python = str(venv / "bin" / "python")
    pip = [python, "-I", str(wheels / manifest.installer / INSTALLER)]
    words = ["--isolated", "install", "--no-index", "--require-hashes", "--no-cache-dir", "--no-input", "--quiet"]
    words += ["--disable-pip-version-check", "--only-binary", ":all:", "--find-links", str(wheels)]
    _step(name, [*pip, *words, "-r", str(wheels / "requirements.txt")], folder, lock, build_s)
    prove(name, venv, proof_s)
    discard(wheels, disk)
    make_durable(folder, disk)


def own_packages(prefix: Path = Path(sys.prefix)) -> frozenset[str]:
    """Which of numpy and OpenCV an environment has of its own."""
    sites = list((prefix / "lib").glob("python3.*/site-packages"))
    return frozenset(name for name, folder in SYSTEMS_OWN.items() if any((site / folder).is_dir() for site in sites))


def needed_bytes(release: RuntimeRelease) -> int:
    """How much of the disk building a release takes."""
    inside = 0
    for content in release.wheels.values():
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as wheel:
                inside += sum(entry.file_size for entry in wheel.infolist())
        except (zipfile.BadZipFile, ValueError, OverflowError):
            inside += 3 * len(content)  # pip will say what is wrong with it.
    return int(inside * _SPREAD) + sum(map(len, release.wheels.values())) + _SLACK_BYTES


def prove(name: str, venv: Path, proof_s: float = PROOF_S) -> str:
    """Import what a start imports, in a child.

    Returns:
        The version of edgekit-device that it found.

    Raises:
        RuntimeProofError: It crashes, hangs, or is not installed there.
    """
    command = [str(venv / "bin" / "python"), "-I", "-c", _PROOF]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=proof_s, check=False)
    except subprocess.TimeoutExpired as cause:
        raise RuntimeProofError(name, f"it hangs: not imported after {proof_s:.0f} s") from cause
    except OSError as cause:
        raise RuntimeProofError(name, f"{command[0]}: {cause.strerror}") from cause
    if done.returncode != 0:
        words, code = _last_words(done.stderr), f"exit code {done.returncode}"
        # 1 is an exception of Python's, whose words say it all; a signal leaves words of whoever saw it, if any.
        alone = words and done.returncode == 1
        raise RuntimeProofError(name, words if alone else ": ".join(part for part in (code, words) if part))
    return done.stdout.strip()


def make_durable(folder: Path, disk: Disk) -> None:
    """Have everything below a folder on the disk.

    A `syncfs` first writes in one go what thousands of single calls would write one by one; the calls after it cost
    little and are what reports an error.

    Raises:
        OSError: The disk did not take it.
    """
    _sync_file_system(folder)
    for place, folders, files in os.walk(folder):
        here = Path(place)
        for file in files:
            if (here / file).is_symlink():
                continue
            descriptor = disk.open(here / file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                disk.fsync(descriptor)
            finally:
                disk.close(descriptor)
        sync_folder(here, disk)
        folders.sort()


def _sync_file_system(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Not os.sync(): a slow stick elsewhere on the board must not hold this up.
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(folder))
    finally:
        os.close(descriptor)


def _step(name: str, command: Sequence[str], folder: Path, lock: int, limit_s: float) -> None:
    # A clean environment: neither a proxy, nor a pip.conf, nor a PYTHONPATH decides what a board gets.
    environ = {"PATH": os.defpath, "HOME": str(folder), "TMPDIR": str(folder), "LANG": "C.UTF-8"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=limit_s, check=False, env=environ,
            stdin=subprocess.DEVNULL, pass_fds=(lock,), cwd=folder,
        )  # fmt: skip
    except subprocess.TimeoutExpired as cause:
        raise RuntimeBuildError(name, f"{_what(command)} took longer than {limit_s:.0f} s") from cause
    if done.returncode == 0:
        return
    if "No space left on device" in done.stderr + done.stdout:
        raise SlotFullError(str(folder), None, None)
    said = _last_words(done.stderr) or _last_words(done.stdout) or f"exit code {done.returncode}"
    raise RuntimeBuildError(name, f"{_what(command)}: {said}")


def _what(command: Sequence[str]) -> str:
    return "pip" if any(word.endswith(INSTALLER) for word in command) else "python -m venv"


def _last_words(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    return " ".join(errors[:2] if errors else lines[-1:])[:_WORDS]
