"""A board that was off for more than a year comes back by itself, with a right clock and with none."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.conftest import absent
from tests.trust.conftest import need_mosquitto

ROOT = Path(__file__).parents[2]


def test_a_board_that_was_off_for_400_days_comes_back_without_a_hand(tmp_path: Path) -> None:
    need_mosquitto()
    if shutil.which("gcc") is None:
        absent("gcc", "apt install gcc libc6-dev")
    library, shift = tmp_path / "clock_shift.so", tmp_path / "shift"
    shift.write_text("0\n")
    source = ROOT / "tools" / "gates" / "clock_shift.c"
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    world = {**os.environ, "LD_PRELOAD": str(library), "CLOCK_SHIFT": str(shift)}
    words = [sys.executable, "-m", "tests.worlds.year_away", str(tmp_path / "fleet")]
    done = subprocess.run(words, cwd=ROOT, env=world, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["before"]
    assert found["days"] == 400
    assert "its certificate expired on" in found["broker_expired"]
    assert found["broker_days_left"] > 390
    assert "this board's certificate expired" in found["board_expired"]
    assert not found["with_the_old"]
    assert found["due"]
    assert found["said"] == ["certificate and password were renewed"]
    assert found["after"]
    assert "barn" not in found
    assert found["after_in_1970"]
