"""The Edge TPU's library and the lock round it.

A USB Coral that a second process opens aborts the first (google-coral/edgetpu#645), and libedgetpu takes the whole
process with it when something is wrong. So it is only ever loaded in a worker or a probe, by one process at a time.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path
from typing import Any

from edgekit_device.contract.errors import DelegateError

NAME = "edgetpu"
LIBRARY = "libedgetpu.so.1"
LIBRARY_VARIABLE = "EDGEKIT_LIBEDGETPU"
LOCK_VARIABLE = "EDGEKIT_EDGETPU_LOCK"
_held: list[int] = []


def library() -> str:
    """The library to load: the loader's own ``libedgetpu.so.1``, or the file that EDGEKIT_LIBEDGETPU names."""
    return os.environ.get(LIBRARY_VARIABLE) or LIBRARY


def lock_path() -> Path:
    """Where every process of this machine looks for the lock."""
    named = os.environ.get(LOCK_VARIABLE)
    if named:
        return Path(named)
    shared = Path("/run/lock")
    return (shared if os.access(shared, os.W_OK) else Path(tempfile.gettempdir())) / "edgekit-edgetpu.lock"


def take_lock() -> None:
    """Make this process the one that may open the Edge TPU, until it ends.

    Raises:
        DelegateError: Another process has it.
    """
    path = lock_path()
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    except OSError as cause:
        raise DelegateError(NAME, f"its lock {path} cannot be opened ({cause.strerror})") from cause
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as cause:
        owner = os.pread(fd, 20, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(fd)
        raise DelegateError(NAME, f"in use by process {owner}; a second user would abort it") from cause
    os.ftruncate(fd, 0)
    os.pwrite(fd, str(os.getpid()).encode(), 0)
    _held.append(fd)  # Given back by the kernel when this process ends, however it ends.


def give_back() -> None:
    """Let another process open the Edge TPU; call it when this one's last delegate is gone."""
    while _held:
        os.close(_held.pop())


def in_use() -> bool:
    """Whether some process holds the Edge TPU now; nothing is opened."""
    try:
        fd = os.open(lock_path(), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def open_delegate(module: Any) -> Any:
    """Load the delegate; the caller must be a process that may die.

    Args:
        module: The interpreter's module.

    Raises:
        DelegateError: The lock is taken, the library is missing or foreign, or no device answers.
    """
    take_lock()
    name = library()
    try:
        return module.load_delegate(name)
    except OSError as cause:
        raise DelegateError(NAME, f"library missing ({name}): {_words(cause)}") from cause
    except AttributeError as cause:
        raise DelegateError(NAME, f"{name} is no TFLite delegate ({_words(cause)})") from cause
    except (ValueError, RuntimeError) as cause:
        raise DelegateError(NAME, f"no device answers ({_words(cause)})") from cause


def _words(cause: BaseException) -> str:
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0][:160]
