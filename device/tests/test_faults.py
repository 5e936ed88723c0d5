"""Gate C1 in short: a worker is struck at random; frames come back, and nothing is left behind."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import faults

COUNT = 20


def test_twenty_random_faults_are_all_recovered_from_and_leak_nothing(workshop: Any, tmp_path: Path) -> None:
    bundle = workshop.write(tmp_path / "toy-1.0.0.edgekit")
    # Hangs take the watchdog's six seconds each; the gate strikes with more of them.
    quick = tuple(faults.KILLS)
    siege = faults.besiege(bundle, workshop.public, COUNT, kinds=quick)
    assert sum(map(len, siege.recovered_s.values())) == COUNT
    assert set(siege.recovered_s) == set(quick)
    assert not siege.leaks
    assert siege.restarts_named >= COUNT
    assert siege.code == 0
