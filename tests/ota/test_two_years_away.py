"""A board that was off for two years updates again by itself, with a right clock and with none."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.conftest import absent

ROOT = Path(__file__).parents[2]


def test_a_board_that_was_off_for_two_years_updates_again_without_a_hand(tmp_path: Path) -> None:
    if shutil.which("gcc") is None:
        absent("gcc", "apt install gcc libc6-dev")
    library, shift = tmp_path / "clock_shift.so", tmp_path / "shift"
    shift.write_text("0\n")
    source = ROOT / "tools" / "gates" / "clock_shift.c"
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    world = {**os.environ, "LD_PRELOAD": str(library), "CLOCK_SHIFT": str(shift)}
    words = [sys.executable, "-m", "tests.worlds.two_years_away"]
    done = subprocess.run(words, cwd=ROOT, env=world, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["roots"] == 5
    assert found["after"] == "toy-1.2.0"
    assert found["in_1970"] == "toy-1.2.0"
    # Expiry blocks updates, never what runs.
    assert found["serves_meanwhile"] == "toy-1.1.0"
