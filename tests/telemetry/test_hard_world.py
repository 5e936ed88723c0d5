"""Short forms of B4 and B7: power cuts while a board spools, and a network that loses packets.

The whole ones are tools/gates/telemetry_b4.py and telemetry_b7.py.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.conftest import absent
from tests.worlds import bad_net, outbox_crashes


@pytest.fixture(autouse=True)
def _tools() -> None:
    if shutil.which("strace") is None:
        absent("strace", "apt install strace")


def test_whatever_a_power_cut_leaves_holds_every_message_that_was_promised(tmp_path: Path) -> None:
    found = outbox_crashes.replay(tmp_path / "replay", 6, 3, 4)
    assert (found.lost, found.unopened) == (0, 0)
    assert found.states > 50


def test_the_replay_of_power_cuts_sees_a_board_that_does_not_sync(tmp_path: Path) -> None:
    assert outbox_crashes.replay(tmp_path / "control", 4, 2, 6, synced=False).lost > 0


def test_a_network_that_loses_every_tenth_packet_costs_no_message() -> None:
    lacking = bad_net.missing()
    if lacking and lacking.startswith("needs root"):
        pytest.skip(lacking)  # Of the kernel: nothing that could be installed.
    if lacking:
        absent("what a bad network needs", lacking)
    found = bad_net.suffer(bad_net.Phases(lossy_s=4, narrow_s=0, silent_s=0, rate_hz=4))
    assert (found["lost"], found["doubled"]) == (0, 0)
    assert found["made"] >= 12
