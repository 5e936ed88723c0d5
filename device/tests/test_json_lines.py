"""Readings on stdout: whole lines in order, and a reader who stops reading stops nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from edgekit_device.contract.topics import TELEMETRY
from edgekit_device.publish import jsonl
from edgekit_device.publish.jsonl import JsonLines

sys.path.insert(0, str(Path(__file__).parent))
import runs


def lines(reader: int) -> list[int]:
    with os.fdopen(reader, "rb") as stream:
        return [json.loads(line)["seq"] for line in stream]


def say(outlet: JsonLines, seq: int, width: int = 200) -> None:
    outlet.send(TELEMETRY, json.dumps({"seq": seq, "filling": "x" * width}).encode())


def test_every_line_is_whole_and_in_order_and_written_before_the_end() -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream:
        outlet = JsonLines(stream)
        outlet.start(b"")
        for seq in range(100):
            say(outlet, seq)
        outlet.close(b"")
    assert lines(reader) == list(range(100))
    assert outlet.state().sent == 100


def test_a_reader_that_does_not_read_costs_the_oldest_lines_and_they_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(jsonl, "_WAITING_LINES", 50)
    monkeypatch.setattr(jsonl, "_CLOSE_S", 0.2)
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream:
        outlet = JsonLines(stream)
        outlet.start(b"")
        for seq in range(200):  # Far more than the pipe and the queue hold together.
            say(outlet, seq, width=4000)
        outlet.close(b"")
        state = outlet.state()
        assert state.lost > 0
        assert state.sent + state.waiting + state.lost in (199, 200)  # One may be half in the pipe.
        os.close(reader)


def test_a_reader_that_has_gone_is_told_by_name() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        outlet = JsonLines(stream)
        outlet.start(b"")
        with pytest.raises(BrokenPipeError):
            while True:
                say(outlet, 0)
                time.sleep(0.01)
        outlet.close(b"")


def test_a_board_whose_output_nobody_reads_still_replaces_its_worker(workshop: Any, tmp_path: Path) -> None:
    """The pipe is full after seconds; the supervisor must not wait in it."""
    bundle = workshop.write(tmp_path / "toy-1.0.0.edgekit")
    words = ("--source", "synthetic:64x48@60", "--interval", "0.05", "--threads", "1")
    process = runs.start(bundle, workshop.public, *words, stderr=subprocess.DEVNULL)
    try:
        worker = runs.worker_of(process)
        time.sleep(4)  # 80 Readings of some 1.4 kB: more than the pipe's 64 KiB.
        os.kill(worker, 9)
        assert runs.worker_of(process, unlike=worker) != worker
    finally:
        assert runs.stop(process).code == 0
