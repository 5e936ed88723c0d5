"""The service where systemd is not: started once, started again, ended for good, and a hang is not a life."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from edgekit_device import resident
from edgekit_device.resident import Resident, alive, command_of, start, stop

NOTIFY = """
import os, socket, sys, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
a = os.environ["NOTIFY_SOCKET"]
s.connect("\\0" + a[1:])
open(sys.argv[1], "a").write("x")
s.send(b"READY=1")
while sys.argv[2] == "well":
    time.sleep(0.1); s.send(b"WATCHDOG=1")
time.sleep(600)
"""


def eventually(true: Callable[[], object], timeout_s: float = 60.0) -> bool:
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        if true():
            return True
        time.sleep(0.05)
    return bool(true())


def count(path: Path) -> int:
    return len(path.read_text()) if path.exists() else 0


def test_one_is_started_and_a_second_start_leaves_it(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    command = [sys.executable, "-c", NOTIFY, str(mark), "well"]
    assert start(tmp_path, command) == 0
    try:
        pid = alive(tmp_path)
        assert pid is not None
        assert start(tmp_path, command) == 0
        assert alive(tmp_path) == pid
        assert eventually(lambda: count(mark) == 1)
    finally:
        assert stop(tmp_path) == 0
    assert alive(tmp_path) is None
    assert stop(tmp_path) == 0


def test_what_ends_is_started_again(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    made = Resident([sys.executable, "-c", f"open({str(mark)!r}, 'a').write('x')"], restart_s=0.1)
    thread = threading.Thread(target=made.run)
    thread.start()
    try:
        assert eventually(lambda: count(mark) >= 3)
    finally:
        made.stopping = True
        thread.join(60)
    assert made.starts >= 3


def test_a_hang_after_ready_is_ended_and_started_again_and_one_that_pings_is_left(tmp_path: Path) -> None:
    for how, least, most in (("hangs", 2, 99), ("well", 1, 1)):
        mark = tmp_path / how
        made = Resident([sys.executable, "-c", NOTIFY, str(mark), how], watchdog_s=2.0, restart_s=0.1)
        thread = threading.Thread(target=made.run)
        thread.start()
        try:
            assert eventually(lambda mark=mark, least=least: count(mark) >= least)
            if how == "well":
                time.sleep(5.0)  # More than twice the limit.
            assert least <= count(mark) <= most
        finally:
            made.stopping = True
            thread.join(60)


def test_a_pid_file_of_a_process_that_is_gone_is_no_life(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (tmp_path / "run/edgekit").mkdir(parents=True)
    (tmp_path / "run/edgekit" / resident.PID_FILE).write_text(f"{ended.pid} 12345\n")
    assert alive(tmp_path) is None


def test_the_launcher_is_what_is_started_where_it_was_installed(tmp_path: Path) -> None:
    assert command_of(tmp_path)[1:3] == ["-m", "edgekit_device"]
    (tmp_path / "opt/edgekit").mkdir(parents=True)
    (tmp_path / "opt/edgekit/launch").touch()
    assert command_of(tmp_path) == [str(tmp_path / "opt/edgekit/launch"), "run", "--root", str(tmp_path)]


def test_two_boards_that_share_a_network_and_a_process_id_both_start(tmp_path: Path) -> None:
    marks = [tmp_path / "one", tmp_path / "two"]
    made = [Resident([sys.executable, "-c", NOTIFY, str(mark), "well"]) for mark in marks]
    threads = [threading.Thread(target=each.run) for each in made]
    for thread in threads:
        thread.start()
    try:
        assert eventually(lambda: all(count(mark) for mark in marks))
    finally:
        for each in made:
            each.stopping = True
        for thread in threads:
            thread.join(60)
