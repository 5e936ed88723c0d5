"""A4, conformance: the tests of theupdateframework/tuf-conformance against our client, offline.

The suite is not part of this project. Give its folder with `--suite DIR` or TUF_CONFORMANCE; get it with:
git clone https://github.com/theupdateframework/tuf-conformance
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tools.ota_page import write_section

ROOT = Path(__file__).parents[2]
COMMAND = "TUF_CONFORMANCE=DIR make gates ONLY=A4"
# Names of tests that fail and why; none does.
EXPECTED: dict[str, str] = {}


def run(arguments: Sequence[str]) -> dict[str, Any]:
    """Run the whole suite; `-k WORDS` picks, as pytest does."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suite", type=Path, default=Path(os.environ.get("TUF_CONFORMANCE", "")))
    parser.add_argument("-k", default="")
    args = parser.parse_args(arguments)
    missing = None
    if not (args.suite / "tuf_conformance").is_dir():
        missing = "the suite; git clone https://github.com/theupdateframework/tuf-conformance, then TUF_CONFORMANCE=DIR"
    elif shutil.which("faketime") is None:
        missing = "faketime (apt install faketime)"
    if missing:
        return {"gate": "A4", "passed": None, "figure": f"not run: needs {missing}", "detail": ""}
    with tempfile.TemporaryDirectory() as folder:
        client = Path(folder) / "client"
        path = f"{ROOT}{os.pathsep}{ROOT / 'device'}"
        script = f'#!/bin/sh\nexport PYTHONPATH={path}\nexec {sys.executable} -m tests.worlds.conformance_client "$@"\n'
        client.write_text(script)
        client.chmod(client.stat().st_mode | stat.S_IXUSR)
        client.with_name("client.xfails").write_text("".join(f"{name}\n" for name in EXPECTED))
        words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=line", "tuf_conformance"]
        words += ["--entrypoint", str(client), *(["-k", args.k] if args.k else [])]
        done = subprocess.run(words, cwd=args.suite, capture_output=True, text=True, check=False)
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|xfailed|error)", done.stdout)}
    passed, failed = counts.get("passed", 0), counts.get("failed", 0) + counts.get("error", 0)
    known = counts.get("xfailed", 0)
    detail = "\n".join(line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR")))[:4000]
    known_words = f", {known} as expected ({'; '.join(EXPECTED.values())})" if known else ""
    figure = f"{passed} of {passed + failed + known} tests of tuf-conformance pass with our client, {failed} fail"
    figure += known_words
    lines = [f"    {COMMAND}", "", f"{figure}. The suite at {_suite_commit(args.suite)}, python-tuf {version('tuf')}."]
    write_section("Conformance (gate A4)", "\n".join([*lines, *(f"- {line}" for line in detail.splitlines())]))
    return {"gate": "A4", "passed": done.returncode == 0 and passed > 0, "figure": figure, "detail": detail}


def _suite_commit(suite: Path) -> str:
    """Of the suite, where git knows it."""
    words = ["git", "-C", str(suite), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else "a commit that is not known"


if __name__ == "__main__":
    print(run(sys.argv[1:]))
