"""What a board holds for the host survives kills, damage and disks that do not work."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgekit_device.contract.ack import Ack, merge_ranges
from edgekit_device.contract.dropped import read_dropped
from edgekit_device.contract.errors import OutboxCorruptError, OutboxDiskError
from edgekit_device.contract.telemetry import Reading
from edgekit_device.contract.topics import EVENT, TELEMETRY
from edgekit_device.publish.courier import Courier
from edgekit_device.publish.envelope import pack, unpack
from edgekit_device.publish.messages import Key, Limits, Message
from edgekit_device.publish.outbox import NAME, Outbox, set_aside

HERE = Path(__file__).parent
_spec = importlib.util.spec_from_file_location("edgekit_test_readings", HERE / "readings.py")
assert _spec
assert _spec.loader
readings = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(readings)
BOOT, NEXT_BOOT = readings.BOOT, "7a" * 16
QUICK = Limits(spool_after_s=0.1, settle_s=0.0)


def eventually(true: Callable[[], object], timeout_s: float = 15.0) -> bool:
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        if true():
            return True
        time.sleep(0.02)
    return bool(true())


@pytest.fixture
def courier(tmp_path: Path) -> Iterator[Callable[..., Courier]]:
    made: list[Courier] = []

    def start(boot: str = BOOT, folder: Path | None = tmp_path, limits: Limits = QUICK, clock="synced") -> Courier:
        state = clock if callable(clock) else lambda: clock
        one = Courier(boot, folder, limits, state)
        one.start()
        made.append(one)
        return one

    yield start
    for one in made:
        one.close()


def feed(courier: Courier, numbers, boot: str = BOOT, **more) -> None:
    for seq in numbers:
        courier.take(TELEMETRY, readings.reading(seq, boot, **more).to_bytes())


def send_all(courier: Courier, timeout_s: float = 10.0) -> list[Message]:
    """A broker that takes everything at once."""
    sent: list[Message] = []
    quiet_s = time.monotonic()
    until = quiet_s + timeout_s
    while time.monotonic() < until and time.monotonic() - quiet_s < 1.0:
        message = courier.next()
        if message is None:
            time.sleep(0.01)
            continue
        sent.append(message)
        courier.delivered(message.key)
        quiet_s = time.monotonic()
    return sent


def on_disk(folder: Path) -> dict[str, set[int]]:
    outbox = Outbox(folder)
    found: dict[str, set[int]] = {}
    try:
        for batch in outbox.index()[0]:
            for message in outbox.read(batch.number):
                found.setdefault(message.key.boot, set()).add(message.key.seq)
    finally:
        outbox.close()
    return found


def test_messages_come_back_as_they_were() -> None:
    group = [
        Message(Key(BOOT, seq), kind, payload, 1.5 + seq, unsure=bool(seq % 2))
        for seq, (kind, payload) in enumerate(
            [("telemetry", readings.reading(0).to_bytes()), ("event", readings.event(1).to_bytes())]
        )
    ]
    assert unpack(pack(group)) == group


def test_an_hour_offline_at_one_a_second_is_a_24th_of_the_budget(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    estimate = 0
    for start in range(0, 3600, 60):
        group = [
            Message(Key(BOOT, n), "telemetry", readings.reading(n).to_bytes(), n) for n in range(start, start + 60)
        ]
        ((_, size),) = outbox.write([(group, None)])
        estimate += size
    outbox.shrink()
    outbox.close()
    size = (tmp_path / NAME).stat().st_size
    assert size * 24 <= 64_000_000
    assert size <= estimate * 1.1 + 65_536  # What bounds the outbox is an estimate that errs on the high side.


def test_what_no_ack_covers_is_on_disk_after_the_window_and_gone_when_one_does(courier, tmp_path: Path) -> None:
    board = courier(limits=Limits(spool_after_s=0.1, settle_s=0.0))
    feed(board, range(30))
    assert eventually(lambda: board.unsent == 0)
    board.connected()
    assert {m.key.seq for m in send_all(board)} == set(range(30))
    board.acknowledge(Ack({BOOT: ((0, 20),)}))
    board.close()
    assert on_disk(tmp_path) == {BOOT: set(range(30))}  # One batch: its rest keeps it.
    again = courier(NEXT_BOOT)
    again.acknowledge(Ack({BOOT: ((0, 29),)}))
    again.close()
    assert on_disk(tmp_path) == {}


def test_a_later_start_sends_what_is_left_under_its_own_boot_and_number(courier, tmp_path: Path) -> None:
    first = courier()
    feed(first, range(40))
    first.close()
    second = courier(NEXT_BOOT)
    assert eventually(lambda: second.counts()[1] == 40)
    second.connected()
    second.acknowledge(Ack({BOOT: ((0, 9),)}))
    feed(second, range(3), NEXT_BOOT)
    sent = send_all(second)
    # Live messages first, whatever waits.
    assert [m.key for m in sent[:3]] == [Key(NEXT_BOOT, n) for n in range(3)]
    assert [m.key for m in sent[3:]] == [Key(BOOT, n) for n in range(10, 40)]
    assert {m.key.boot for m in sent[3:]} == {json.loads(m.payload)["boot"] for m in sent[3:]} == {BOOT}
    second.close()
    assert on_disk(tmp_path)[BOOT] == set(range(40))  # Delivered is not stored.


def test_the_oldest_goes_first_and_the_ranges_say_exactly_what_went(courier, tmp_path: Path) -> None:
    limits = Limits(spool_after_s=0.05, outbox_bytes=100_000, settle_s=0.0)
    board = courier(limits=limits)
    for start in range(0, 1500, 300):
        feed(board, range(start, start + 300))
        assert eventually(lambda: board.unsent == 0)
    lost = board.counts()[2]
    assert lost > 300
    board.close()
    held = on_disk(tmp_path)[BOOT]
    assert held == set(range(lost, 1500))
    assert (tmp_path / NAME).stat().st_size < 100_000 + 64_000
    # It is told in what comes next, after a restart too, until something that told it is stored.
    later = courier(NEXT_BOOT, limits=limits)
    assert eventually(lambda: later.counts()[2] == lost)
    later.connected()
    feed(later, [0], NEXT_BOOT)
    told = later.next()
    assert told is not None
    assert read_dropped(json.loads(told.payload)) == {BOOT: ((0, lost - 1),)}
    Reading.from_bytes(told.payload)
    later.acknowledge(Ack({NEXT_BOOT: ((0, 0),)}))
    feed(later, [1], NEXT_BOOT)
    after = later.next()
    assert after is not None
    assert after.key == Key(NEXT_BOOT, 1)
    assert read_dropped(json.loads(after.payload)) == {}


def test_without_any_collector_memory_and_disk_stay_bounded_and_live_data_flows(courier, tmp_path: Path) -> None:
    limits = Limits(spool_after_s=0.05, outbox_bytes=60_000, memory_messages=100, settle_s=0.0)
    board = courier(limits=limits)
    board.connected()
    for start in range(0, 2000, 50):
        feed(board, range(start, start + 50))
        sent = []
        while (message := board.next()) is not None:
            sent.append(message.key.seq)
            board.delivered(message.key)
        assert set(range(start, start + 50)) & set(sent), "live data waits"
        time.sleep(0.01)
    assert eventually(lambda: (tmp_path / NAME).stat().st_size < 140_000)
    # The broker has them; where no collector ever was, that is the end of the way and no loss.
    assert board.counts()[2] == 0


def test_without_an_outbox_a_full_memory_gives_the_oldest_up_and_says_so(courier) -> None:
    board = courier(folder=None, limits=Limits(memory_messages=50))
    assert board.loss_window_s is None
    feed(board, range(80))
    assert eventually(lambda: board.counts()[2] == 30)
    feed(board, [80])
    board.connected()
    assert eventually(lambda: board.next() is not None) or True
    assert board.counts()[2] >= 30


def test_a_killed_process_loses_nothing_that_was_committed(tmp_path: Path) -> None:
    kills = int(os.environ.get("EDGEKIT_KILLS", "8"))
    promised: dict[str, set[int]] = {}
    rng = random.Random(9)
    for kill in range(kills):
        boot = f"{kill:032x}"
        command = [sys.executable, str(HERE / "spooling.py"), str(tmp_path), boot]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline()]
            time.sleep(rng.uniform(0.0, 0.15))
            process.kill()
            lines += process.stdout.readlines()
        lines = [line for line in lines if line.endswith("\n")]  # The last word may be cut.
        promised[boot] = {n for low, high in (map(int, line.split()) for line in lines) for n in range(low, high + 1)}
    found = on_disk(tmp_path)
    for boot, numbers in promised.items():
        assert numbers <= found[boot]
    assert not list(tmp_path.glob("*.corrupt-*"))


@pytest.mark.parametrize("damage", ["head", "middle", "short", "text", "other"])
def test_a_damaged_file_is_set_aside_by_name_and_the_board_goes_on(courier, tmp_path: Path, damage: str) -> None:
    first = courier()
    feed(first, range(200))
    first.close()
    file = tmp_path / NAME
    data = bytearray(file.read_bytes())
    if damage == "head":
        data[:40] = b"\0" * 40
    elif damage == "middle":
        data[4096:] = bytes(b ^ 0x5A for b in data[4096:])
    elif damage == "short":
        del data[len(data) // 2 :]
    elif damage == "text":
        data[:] = b"not a database at all"
    file.write_bytes(data)
    if damage == "other":
        import sqlite3

        file.unlink()
        with sqlite3.connect(file) as other:
            other.execute("create table things (a)")
        other.close()
    second = courier(NEXT_BOOT)
    notices: list = []
    assert eventually(lambda: notices.extend(second.notices()) or notices)
    assert [n.kind for n in notices] == ["outbox_corrupt"]
    aside = tmp_path / notices[0].detail["set_aside"]
    assert aside.name.startswith("outbox.db.corrupt-2")
    assert aside.exists()
    feed(second, range(5), NEXT_BOOT)
    second.close()
    assert on_disk(tmp_path) == {NEXT_BOOT: set(range(5))}


def test_damage_during_the_run_is_counted_to_the_last_message(courier, tmp_path: Path) -> None:
    board = courier()
    feed(board, range(100))
    assert eventually(lambda: board.unsent == 0)
    board._keeper._outbox.close()  # The file is exchanged under the board, as a failing card does.
    board._keeper._outbox = None
    for file in tmp_path.glob("outbox.db*"):
        file.unlink()
    (tmp_path / NAME).write_bytes(b"rubbish" * 1000)
    assert eventually(lambda: board.counts()[2] == 100)
    feed(board, [100])
    board.close()
    (message,) = _messages(tmp_path)
    assert read_dropped(json.loads(message.payload)) == {BOOT: ((0, 99),)}


def _messages(folder: Path) -> list[Message]:
    outbox = Outbox(folder)
    found = [m for batch in outbox.index()[0] for m in outbox.read(batch.number)]
    outbox.close()
    return found


def test_only_two_damaged_files_are_kept(tmp_path: Path) -> None:
    for _ in range(4):
        (tmp_path / NAME).write_bytes(b"x")
        set_aside(tmp_path / NAME)
    assert len(list(tmp_path.glob("*.corrupt-*"))) == 2


def test_a_second_run_on_the_same_outbox_goes_on_without_it(courier, tmp_path: Path) -> None:
    first = courier()
    feed(first, range(5))
    assert eventually(lambda: first.unsent == 0)
    with pytest.raises(OutboxDiskError, match="locked"):
        Outbox(tmp_path)
    second = courier(NEXT_BOOT)
    notices: list = []
    assert eventually(lambda: notices.extend(second.notices()) or notices)
    assert [n.kind for n in notices] == ["outbox_unavailable"]
    feed(second, [0], NEXT_BOOT)
    second.connected()
    assert [m.key for m in send_all(second)] == [Key(NEXT_BOOT, 0)]


def test_a_batch_that_cannot_be_unpacked_is_dropped_by_its_numbers(tmp_path: Path, courier) -> None:
    outbox = Outbox(tmp_path)
    outbox.write([([Message(Key(BOOT, n), "telemetry", b"{}", 0.0) for n in range(3)], None)])
    outbox._db.execute("UPDATE batches SET documents = zeroblob(20)")
    outbox.close()
    board = courier(NEXT_BOOT)
    assert eventually(lambda: board.counts()[1] == 3)
    board.connected()
    assert eventually(lambda: board.next() is None and board.counts()[2] == 3)


@pytest.mark.parametrize("mode", ["full", "readonly", "eio"])
def test_a_disk_that_refuses_costs_one_event_and_heals_by_itself(tmp_path: Path, require_tool, mode: str) -> None:
    require_tool("unshare", "apt install util-linux")
    if mode == "eio":
        require_tool("strace", "apt install strace")
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        message = "this user may not make namespaces: sysctl kernel.unprivileged_userns_clone=1"
        pytest.fail(message) if os.environ.get("EDGEKIT_REQUIRE") == "all" else pytest.skip(message)
    command = ["unshare", "-rm", sys.executable, str(HERE / "full_disk.py"), str(tmp_path), mode]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["spooled_before"] == (0 if mode == "readonly" else 50)
    assert found["events"] == ["outbox_unavailable", "outbox_restored"]
    assert found["live_is_newest"]
    assert found["lost"] == 0
    assert found["held_after"] == found["made"]
    assert found["healed_s"] <= 2.0


class LateClock:
    """A board that learns the time while it runs."""

    def __init__(self) -> None:
        self.state = "unsynced"

    def __call__(self) -> str:
        return self.state


def test_the_time_is_mended_once_known_but_never_after_sending(courier, tmp_path: Path) -> None:
    clock = LateClock()
    limits = Limits(spool_after_s=0.1, settle_s=0.0, clock_wait_s=60.0)
    board = courier(limits=limits, clock=clock)
    began_s = time.time()
    board.connected()
    feed(board, [0], clock="unsynced", at_s=100.0)
    live = send_all(board)[0]
    assert json.loads(live.payload)["at"].startswith("1970")  # Live data does not wait for a clock.
    board.disconnected()
    feed(board, range(1, 20), clock="unsynced", at_s=100.0)
    assert eventually(lambda: board.unsent == 0)  # On disk.
    feed(board, [20], clock="unsynced", at_s=100.0)
    board.take(EVENT, readings.event(21).to_bytes())
    clock.state = "synced"
    time.sleep(0.7)
    board.connected()
    sent = {0: json.loads(live.payload)} | {m.key.seq: json.loads(m.payload) for m in send_all(board)}
    for seq in range(1, 22):
        assert sent[seq]["clock"] == "corrected"
        made_s = Reading.from_bytes(json.dumps(sent[seq]).encode()).at if seq < 21 else sent[seq]["at"]
        assert abs(_seconds(made_s) - began_s) < 15
    # Another start sends the same bytes: the host keys rows by the day.
    board.close()
    again = courier(NEXT_BOOT)
    kept = {m.key.seq: json.loads(m.payload) for m in _after_close(again, tmp_path)}
    assert kept.keys() == sent.keys()
    assert all(kept[seq] == sent[seq] for seq in kept)


def _after_close(courier: Courier, folder: Path) -> list[Message]:
    courier.close()
    return _messages(folder)


def _seconds(at: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(at).timestamp()


def test_a_missing_folder_is_made_and_a_hopeless_one_named(tmp_path: Path) -> None:
    Outbox(tmp_path / "a" / "b").close()
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutboxDiskError, match="file"):
        Outbox(tmp_path / "file")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / NAME).write_text("x" * 5000)
    with pytest.raises(OutboxCorruptError, match=NAME):
        Outbox(tmp_path / "c")
    shutil.rmtree(tmp_path / "a")
    assert merge_ranges([]) == ()
