"""TensorFlow's own output, kept in a file while it works and shown only when something fails.

TensorFlow writes from C++ to the file descriptors, from Python through absl's and its own logger, and as warnings.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from types import ModuleType
from typing import IO, Any, TextIO

from edgekit.errors import MissingPackageError

# A log is evidence for a person: the end of it, not all of it.
MAX_LOG_BYTES = 64 * 1024
_LOGGERS = ("absl", "tensorflow", "h5py", "jax")
# File descriptors belong to the whole process, so one thread at a time may bend them.
_LOCK = threading.RLock()


class Log:
    """What was written while `captured` was open."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._kept: str | None = None

    def text(self) -> str:
        """The last 64 KiB."""
        if self._kept is not None:
            return self._kept
        size = self._file.seek(0, os.SEEK_END)
        self._file.seek(max(0, size - MAX_LOG_BYTES))
        read = self._file.read().decode("utf-8", errors="replace")
        self._file.seek(0, os.SEEK_END)
        return read

    def _keep(self) -> None:
        self._kept = self.text()


def load_tensorflow() -> ModuleType:
    """Import TensorFlow without a word on the terminal.

    Raises:
        MissingPackageError: It is not installed.
    """
    # Only of use before the first import, and a value of the user's own stands.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # A block of its own: absl must make its logger itself, and does so on import.
    with captured():
        try:
            return import_module("tensorflow")
        except ImportError as cause:
            raise MissingPackageError("TensorFlow", "converting a model", "pip install 'edgekit[build]'") from cause


@contextmanager
def captured() -> Iterator[Log]:
    """Send file descriptors 1 and 2, TensorFlow's loggers and warnings to a temporary file.

    ``sys.stdout`` and ``sys.stderr`` keep reaching the terminal, so a progress bar goes on drawing. Everything is put
    back on leaving, whatever happened inside.

    Yields:
        The log; it can still be read after leaving.
    """
    with _LOCK, tempfile.TemporaryFile(buffering=0) as file:
        log = Log(file)
        try:
            with _descriptors(file), _loggers(file), _warnings(file):
                yield log
        finally:
            log._keep()


@contextmanager
def _descriptors(file: IO[bytes]) -> Iterator[None]:
    saved: dict[int, int] = {}
    bridges: dict[str, _Bridge] = {}
    try:
        for name, descriptor in (("stdout", 1), ("stderr", 2)):
            stream = getattr(sys, name)
            with suppress(OSError, ValueError, AttributeError):
                stream.flush()
            try:
                saved[descriptor] = os.dup(descriptor)
            except OSError:
                # Closed by whoever started us: nothing to bend and nothing to put back.
                continue
            if _descriptor_of(stream) == descriptor:
                bridges[name] = _Bridge(stream, saved[descriptor])
                setattr(sys, name, bridges[name])
            os.dup2(file.fileno(), descriptor)
        yield
    finally:
        for name, bridge in bridges.items():
            if getattr(sys, name) is bridge:
                setattr(sys, name, bridge.stream)
            bridge.close_copy()
        for descriptor, copy in saved.items():
            os.dup2(copy, descriptor)
            os.close(copy)


def _descriptor_of(stream: Any) -> int | None:
    try:
        return int(stream.fileno())
    except (OSError, ValueError, AttributeError):
        return None


class _Bridge:
    """Stands for ``sys.stdout`` or ``sys.stderr`` meanwhile, and leads to the terminal all the time.

    A library imported meanwhile may hold on to it (absl's log handler does), so it must stay usable afterwards.
    """

    def __init__(self, stream: Any, descriptor: int) -> None:
        self.stream = stream
        self._copy: IO[str] = open(  # noqa: SIM115 - closed by close_copy, and there is no path
            descriptor, "w", encoding=stream.encoding, errors=stream.errors, buffering=1, closefd=False
        )
        self._target: Any = self._copy

    def close_copy(self) -> None:
        self._target = self.stream
        with suppress(OSError, ValueError):
            self._copy.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)


@contextmanager
def _loggers(file: IO[bytes]) -> Iterator[None]:
    handler = logging.StreamHandler(_Text(file))
    known = [logging.getLogger(name) for name in _LOGGERS if name in logging.Logger.manager.loggerDict]
    before = [(logger, logger.handlers[:], logger.propagate) for logger in known]
    for logger in known:
        logger.handlers[:] = [handler]
        logger.propagate = False
    try:
        yield
    finally:
        for logger, handlers, propagate in before:
            logger.handlers[:], logger.propagate = handlers, propagate


@contextmanager
def _warnings(log: IO[bytes]) -> Iterator[None]:
    def note(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        log.write(f"{filename}:{lineno}: {category.__name__}: {message}\n".encode(errors="replace"))

    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.showwarning = note
        yield


class _Text:
    """A text stream on the log, for `logging`."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, text: str) -> int:
        self._file.write(text.encode(errors="replace"))
        return len(text)

    def flush(self) -> None:
        self._file.flush()
