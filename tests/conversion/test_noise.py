"""Promises of the capture: nothing escapes, nothing is lost, everything is put back."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from edgekit.conversion.noise import MAX_LOG_BYTES, captured


def test_what_is_written_to_descriptors_loggers_and_warnings_is_kept_and_not_shown(
    capfd: pytest.CaptureFixture[str],
) -> None:
    logging.getLogger("absl")
    with captured() as log:
        os.write(1, b"from C, out\n")
        os.write(2, b"from C, err\n")
        logging.getLogger("absl").error("from Python")
        warnings.warn("this is old", DeprecationWarning, stacklevel=1)
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")
    for text in ("from C, out", "from C, err", "from Python", "DeprecationWarning: this is old"):
        assert text in log.text()


def test_everything_is_put_back_after_a_failure(capfd: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("absl")
    before = (
        sys.stdout,
        sys.stderr,
        logger.handlers[:],
        logger.propagate,
        warnings.showwarning,
        len(os.listdir("/proc/self/fd")),
    )
    with pytest.raises(ZeroDivisionError), captured():
        os.write(2, b"hidden\n")
        raise ZeroDivisionError
    after = (
        sys.stdout,
        sys.stderr,
        logger.handlers[:],
        logger.propagate,
        warnings.showwarning,
        len(os.listdir("/proc/self/fd")),
    )
    assert before == after
    os.write(2, b"shown\n")
    assert capfd.readouterr().err == "shown\n"


def test_one_capture_inside_another_gives_each_its_own(capfd: pytest.CaptureFixture[str]) -> None:
    with captured() as outer:
        os.write(2, b"one\n")
        with captured() as inner:
            os.write(2, b"two\n")
        os.write(2, b"three\n")
    assert (outer.text(), inner.text()) == ("one\nthree\n", "two\n")
    assert capfd.readouterr().err == ""


def test_a_flood_keeps_its_end() -> None:
    with captured() as log:
        for number in range(20_000):
            os.write(2, b"line %d\n" % number)
    assert log.text().endswith("line 19999\n")
    assert len(log.text()) == MAX_LOG_BYTES


SCRIPT = """
import os, sys
from edgekit.conversion.noise import captured
with captured():
    kept = sys.stderr
    os.write(2, b"hidden\\n")
    print("seen meanwhile", file=sys.stderr)
    print("out meanwhile")
print("seen afterwards", file=kept)
print("out afterwards")
"""


def test_python_streams_reach_the_terminal_meanwhile_and_a_library_may_keep_them() -> None:
    root = Path(__file__).parents[2]
    paths = os.pathsep.join([str(root), str(root / "device")])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.splitlines() == ["seen meanwhile", "seen afterwards"]
    assert done.stdout.splitlines() == ["out meanwhile", "out afterwards"]
