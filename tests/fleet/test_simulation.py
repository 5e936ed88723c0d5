"""Simulated boards: they keep the contract, behave like boards, and there may be thousands."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.errors import SimulationError
from edgekit.fleet.broker import EmbeddedBroker
from edgekit.fleet.collector import Collector, CollectorOptions
from edgekit.fleet.database import sqlite_url
from edgekit.fleet.mqtt_asyncio import Connection
from edgekit.fleet.simulated_fleet import simulate_fleet
from edgekit.fleet.simulation import CALM, Habits, SimulatedBoard
from edgekit.fleet.store import Store
from edgekit.fleet.swarm import SwarmOptions
from edgekit_device.contract.ack import Ack
from edgekit_device.contract.telemetry import Event, Reading
from edgekit_device.contract.topics import ACK, TELEMETRY, subscription, topic
from tests.worlds.boards import eventually
from tests.worlds.fleets import HASTY, Fleet, settle

LIVELY = Habits(rate_hz=1.0, reboot_s=50, offline_s=60, offline_for_s=5, clock_jump_s=40, throttle_s=60, events_each=20)


def a_day(seed: int = 1) -> tuple[SimulatedBoard, list[Reading], list[Event]]:
    board = SimulatedBoard("board-00000", LIVELY, seed)
    board.start(0.0)
    messages = board.step(3600.0, 1_800_000_000.0)
    readings = [Reading.from_bytes(held.payload) for held in messages if held.kind is TELEMETRY]
    events = [Event.from_bytes(held.payload) for held in messages if held.kind is not TELEMETRY]
    return board, readings, events


def test_a_board_reboots_jumps_overheats_and_changes_what_it_sees() -> None:
    board, readings, events = a_day()
    assert len(board.made) > 20
    assert sum(board.made.values()) == len(readings) + len(events) == len(board.held) > 3500
    assert {"synced", "unsynced"} == {reading.clock for reading in readings}
    hot = [reading.fps for reading in readings if reading.throttled_now]
    cool = [reading.fps for reading in readings if not reading.throttled_now]
    assert max(hot) < min(cool)
    first, last = readings[50].class_counts, readings[-50].class_counts
    assert first.keys() == last.keys() and first != last
    for boot, count in board.made.items():
        numbers = [m.seq for m in (*readings, *events) if m.boot == boot]
        assert sorted(numbers) == list(range(count))


def test_the_same_seed_makes_the_same_board() -> None:
    assert a_day(3)[1] == a_day(3)[1]
    assert a_day(3)[1] != a_day(4)[1]


def test_a_board_holds_what_no_ack_covers() -> None:
    board, *_ = a_day()
    boot, count = next(iter(board.made.items()))
    gone = board.learn(Ack({boot: ((0, count - 2),)}))
    assert len(gone) == count - 1
    assert (boot, count - 1) in board.held
    assert board.acked == count - 1


def test_everything_a_lively_fleet_makes_is_stored(broker: EmbeddedBroker, tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "fleet.db")
    habits = Habits(reboot_s=4, offline_s=3, offline_for_s=1, clock_jump_s=4, throttle_s=5)
    with Store(url) as store, Collector(broker.address, store, CollectorOptions(batch_s=0.1, ack_s=0.5)):
        with Fleet(broker.address, 15, 5.0, replace(HASTY, seconds=5), habits) as fleet:
            result = fleet.join()
        assert (result.made, result.sent, result.acked) == (fleet.made,) * 3
        assert eventually(lambda: store.summary().online == 0)
        summary = store.summary()
        assert (summary.stored, summary.gaps) == (fleet.made, 0)
    assert settle(fleet.boards, url).exact


def test_more_boards_than_select_can_watch(broker: EmbeddedBroker, tmp_path: Path) -> None:
    # A board's first reading is due within two seconds; of the first of them a busy machine may lose most.
    options = SwarmOptions(seconds=4.0, wait_s=60, first_delay_s=1.0)
    with Store(sqlite_url(tmp_path / "fleet.db")) as store:
        with Collector(broker.address, store, CollectorOptions(ack_s=1.0)):
            habits = replace(CALM, rate_hz=0.5)
            result = simulate_fleet(broker.address, 1100, habits=habits, options=options)
            assert result.acked == result.made > 300
            assert result.connections >= 1100


def test_without_a_collector_a_simulation_says_so(broker: EmbeddedBroker, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.json"
    options = SwarmOptions(seconds=1.0, wait_s=1.0)
    with pytest.raises(SimulationError, match="is a collector running") as caught:
        simulate_fleet(broker.address, 3, habits=Habits(rate_hz=5), options=options, ledger_path=ledger)
    assert caught.value.acked == 0
    made = json.loads(ledger.read_text())
    assert sum(sum(boots.values()) for boots in made.values()) == caught.value.made


def test_many_messages_in_one_piece_of_network_data_all_arrive(broker: EmbeddedBroker) -> None:
    # A hundred retained messages come right behind the answer to the subscription, and nothing after them.
    def address(number: int) -> str:
        return topic("sim", f"board-{number:05d}", ACK)

    async def receive() -> set[str]:
        loop, heard = asyncio.get_running_loop(), set[str]()
        with ThreadPoolExecutor(1) as executor:
            sender = Connection(broker.address, "sender", loop, executor, None)
            await sender.connect(20)
            for number in range(100):
                sender.publish(address(number), b"x" * 50, ACK)
            await asyncio.sleep(0.5)
            receiver = Connection(broker.address, "receiver", loop, executor, None)
            receiver.on_message = lambda name, payload: heard.add(name)
            await receiver.connect(20)
            receiver.subscribe(subscription(ACK))
            until = loop.time() + 5
            while len(heard) < 100 and loop.time() < until:
                await asyncio.sleep(0.05)
            sender.leave()
            receiver.leave()
            await asyncio.sleep(0.2)
        return heard

    assert asyncio.run(receive()) == {address(number) for number in range(100)}
