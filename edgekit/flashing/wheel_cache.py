"""`edgekit wheels fetch`: a folder of wheels, so that boards need no network.

The folder is flat: ``DIR/*.whl``, for as many Pythons and machines as were fetched, edgekit-device's own wheel of this
version among them. ``edgekit flash`` chooses from it by the wheels' tags and sends each board a list with a hash a
file; ``--wheels DIR`` names another folder than the cache. A wheel appears under its name only when it is whole and
is the one that the lock names.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgekit.errors import EdgeKitError, MissingPackageError
from edgekit.flashing.device_wheel import device_wheel
from edgekit.flashing.wheel_lock import LockedWheel, WheelLock, read_lock
from edgekit_device import disk

# pip waits for the network most of the time.
_AT_ONCE = 4
_DEADLINE_S = 1800.0
_PART, _LOCK = ".part-", ".lock"


class WheelFetchError(EdgeKitError):
    """A wheel could not be fetched; those that arrived are kept, and the next fetch goes on there.

    Args:
        wheel: Name of the file.
        problem: What is wrong.
        remedy: What to type next.
    """

    def __init__(self, wheel: str, problem: str, remedy: str) -> None:
        super().__init__(f"{wheel}: {problem}; {remedy}")
        self.wheel, self.problem, self.remedy = wheel, problem, remedy


@dataclass(frozen=True)
class Fetched:
    """What a fetch did.

    Attributes:
        folder: Where the wheels lie.
        fetched: Names of files that were brought now.
        kept: Names of files that were there already, and whole.
        device: Name of edgekit-device's own wheel.
        bytes: Of all of them.
    """

    folder: Path
    fetched: tuple[str, ...]
    kept: tuple[str, ...]
    device: str
    bytes: int


def cache_folder() -> Path:
    """``~/.cache/edgekit/wheels``, or below XDG_CACHE_HOME; EDGEKIT_WHEELS names another folder."""
    named = os.environ.get("EDGEKIT_WHEELS")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(named) if named else cache / "edgekit" / "wheels"


def fetch(
    folder: str | Path | None = None,
    *,
    pythons: Sequence[str] = (),
    machines: Sequence[str] = (),
    lock: WheelLock | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Fetched:
    """Fill a folder with the wheels of the lock; what is there and whole is not fetched again.

    Args:
        folder: Where to; the cache by default.
        pythons: Of the boards, such as ``3.11``; all by default.
        machines: Of the boards, such as ``aarch64``; all 64-bit ones by default.
        lock: Another lock than the one that ships.
        progress: Called with (stage, files there, files in all).

    Raises:
        UsageError: The lock has no such board.
        WheelFetchError: pip does not find a wheel, or finds another file under its name.
        MissingPackageError: This environment has no pip.
    """
    wanted = (lock or read_lock()).select(pythons, machines)
    out = Path(folder) if folder else cache_folder()
    tell = progress or (lambda stage, done, total: None)
    if importlib.util.find_spec("pip") is None:
        raise MissingPackageError("pip", "fetching wheels", "python -m ensurepip")
    with _locked(out):
        kept = [wheel for wheel in wanted if _is_whole(out / wheel.file_name, wheel)]
        missing = [wheel for wheel in wanted if wheel not in kept]
        tell("fetch", len(kept), len(wanted))
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            waiting = [pool.submit(_bring, out, wheel) for wheel in missing]
            try:
                for number, future in enumerate(as_completed(waiting), 1):
                    future.result()
                    tell("fetch", len(kept) + number, len(wanted))
            except BaseException:
                for future in waiting:
                    future.cancel()
                raise
        device = device_wheel()
        if not (out / device.file_name).is_file() or (out / device.file_name).read_bytes() != device.data:
            _put(out / device.file_name, device.data)
    names = [wheel.file_name for wheel in wanted]
    size = sum((out / name).stat().st_size for name in [*names, device.file_name])
    return Fetched(
        out, tuple(wheel.file_name for wheel in missing), tuple(w.file_name for w in kept), device.file_name, size
    )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One fetch at a time; what a killed one left behind goes."""
    try:
        disk.make_folders(folder)
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as cause:
        raise WheelFetchError(str(folder), f"cannot be written ({cause.strerror})", "name another: -o DIR") from cause
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as cause:
            raise WheelFetchError(str(folder), "another fetch fills it", "wait for it to end") from cause
        for left in folder.glob(f"{_PART}*"):
            left.unlink(missing_ok=True)
        yield
    finally:
        os.close(descriptor)


def _is_whole(path: Path, wheel: LockedWheel) -> bool:
    try:
        if path.stat().st_size != wheel.bytes:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == wheel.sha256
    except FileNotFoundError:
        return False


def _bring(folder: Path, wheel: LockedWheel) -> None:
    with tempfile.TemporaryDirectory(prefix="edgekit-wheels-") as place:
        wish = Path(place) / "wanted.txt"
        wish.write_text(f"{wheel.requirement} --hash=sha256:{wheel.sha256}\n", "utf-8")
        dest = Path(place) / "brought"
        words = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        words += ["--require-hashes", "--no-input", "--disable-pip-version-check", "--dest", str(dest)]
        words += ["--python-version", wheel.python, "-r", str(wish)]
        words += [word for name in wheel.platforms for word in ("--platform", name)]
        try:
            ran = subprocess.run(words, capture_output=True, text=True, timeout=_DEADLINE_S, errors="replace")
        except subprocess.TimeoutExpired as cause:
            raise WheelFetchError(wheel.file_name, f"did not arrive within {_DEADLINE_S:.0f} s", _AGAIN) from cause
        found = sorted(dest.glob("*.whl"))
        if ran.returncode or len(found) != 1:
            raise _named(wheel, ran.stderr)
        data = found[0].read_bytes()
    if hashlib.sha256(data).hexdigest() != wheel.sha256:
        raise WheelFetchError(wheel.file_name, "is not the file that the lock names", _OTHER)
    _put(folder / wheel.file_name, data)


_AGAIN = "run the same command again: it goes on where it stopped"
_OTHER = "somebody replaced it; do not install it, and look at: pip config list"


def _named(wheel: LockedWheel, said: str) -> WheelFetchError:
    """Pip's words, by name."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    last = next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1] if lines else "no reason")
    if "DO NOT MATCH THE HASHES" in said:
        return WheelFetchError(wheel.file_name, "pip finds another file under this name", _OTHER)
    if "No matching distribution" in said or "Could not find a version" in said:
        return WheelFetchError(
            wheel.file_name, "pip does not find it", "is there a network? then: pip config list; pip download -v"
        )
    if "No space left" in said or "Errno 28" in said:
        return WheelFetchError(wheel.file_name, "the disk is full", "make room, then run this again")
    return WheelFetchError(wheel.file_name, last.removeprefix("ERROR: ")[:300], _AGAIN)


def _put(path: Path, data: bytes) -> None:
    """Write a file that appears whole: what is on its way is not called a wheel."""
    part = path.with_name(f"{_PART}{path.name}.part")
    try:
        disk.discard(part)
        disk.write_new(part, data)
        part.rename(path)
        disk.sync_folder(path.parent)
    except OSError as cause:
        part.unlink(missing_ok=True)
        raise WheelFetchError(path.name, f"cannot be written ({cause.strerror})", _AGAIN) from cause
