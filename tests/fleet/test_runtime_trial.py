"""A whole board tries a new runtime: real environments, launcher, broker, collector. A8-RUNTIME has the rest."""

from __future__ import annotations

from pathlib import Path

from edgekit.fleet.broker import EmbeddedBroker
from edgekit.fleet.collector import Collector, CollectorOptions
from edgekit.fleet.database import sqlite_url
from edgekit.fleet.store import Store
from edgekit_device.runtimes.launcher import COMMITTED, REJECTED
from tests.worlds.boards import eventually
from tests.worlds.runtime_board import RuntimeBoard, tried_runtimes

QUICK = CollectorOptions(batch_s=0.05, ack_s=0.2)


def test_an_acknowledged_reading_commits_a_runtime_and_one_that_is_never_heard_goes_back(
    broker: EmbeddedBroker, tmp_path: Path
) -> None:
    with Store(sqlite_url(tmp_path / "s")) as store, RuntimeBoard(tmp_path) as board:
        with Collector(broker.address, store, QUICK):
            board.serve("--broker", broker.address.url, "--site", "home", "--id", "porch")
            board.wait_reading(board.model, 90)
            good = board.take(board.release("0.2.0"), 240)
            board.wait(f"runtime_committed: {good}", 300)
            assert board.record(good)["state"] == COMMITTED
            silent = tried_runtimes()["READY, never acknowledged: sends no Reading"]
            bad = board.take(board.release("0.3.0", silent), 20)
            line = board.wait(f"runtime_rejected: {bad}", 300)
            assert "no collector stored any" in line
            assert eventually(lambda: board.wanted == good, 120), "the link still names the runtime that was rejected"
            board.wait_reading(board.model, 120)
        assert board.record(bad)["state"] == REJECTED
        assert board.status()["runtime"]["wanted"] == good


def test_a_board_without_a_broker_proves_a_runtime_by_frames_and_one_that_crashes_is_left(tmp_path: Path) -> None:
    with RuntimeBoard(tmp_path) as board:
        board.serve()
        board.wait_reading(board.model, 90)
        crash = board.take(board.release("0.3.0", tried_runtimes()["crash at start"]), 240)
        assert "started 3 times" in board.wait(f"runtime_rejected: {crash}", 300)
        assert eventually(lambda: board.wanted == "", 120), "the link still names the runtime that crashes"
        board.wait_reading(board.model, 120)
