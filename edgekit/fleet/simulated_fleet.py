"""A fleet that is not there: boards through the public contract, on any broker or on one of their own."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.errors import SimulationError
from edgekit.event_loop import run_to_end
from edgekit.fleet.simulated_updates import Updating
from edgekit.fleet.simulation import Habits, SimulatedBoard, ledger
from edgekit.fleet.swarm import Swarm, SwarmOptions, SwarmResult

if TYPE_CHECKING:
    from edgekit_device.publish.broker_url import BrokerAddress


def simulate_fleet(
    address: BrokerAddress | None,
    boards: int,
    *,
    habits: Habits | None = None,
    updating: Updating | None = None,
    options: SwarmOptions | None = None,
    prefix: str = "board",
    seed: int = 0,
    ledger_path: Path | None = None,
    progress: Callable[[SwarmResult], None] = lambda result: None,
) -> SwarmResult:
    """Run simulated boards until everything they made is acknowledged.

    Args:
        address: The broker; with None one of our own, with a collector and a store that are gone afterwards.
        boards: How many.
        habits: How they behave.
        updating: How they take updates over the air; None takes none.
        options: How they send.
        prefix: How the boards' ids begin.
        seed: The same seed makes the same boards.
        ledger_path: Where to write what was made, as JSON, for comparing with a store.
        progress: Called about once a second.

    Raises:
        SimulationError: Not everything was acknowledged in time.
    """
    options = options or SwarmOptions()
    fleet = [
        SimulatedBoard(f"{prefix}-{number:05d}", habits or Habits(), seed, updating=updating)
        for number in range(boards)
    ]
    with _somewhere(address) as there:
        result = run_to_end(_run(there, fleet, options, progress))
    if ledger_path is not None:
        ledger_path.write_text(ledger(fleet), encoding="utf-8")
    if result.acked < result.made:
        raise SimulationError(result.made, result.acked, options.wait_s, result.problem)
    return result


async def _run(
    address: BrokerAddress,
    fleet: list[SimulatedBoard],
    options: SwarmOptions,
    progress: Callable[[SwarmResult], None],
) -> SwarmResult:
    return await Swarm(address, fleet, options, progress).run()


@contextmanager
def _somewhere(address: BrokerAddress | None) -> Iterator[BrokerAddress]:
    if address is not None:
        yield address
        return
    from edgekit.fleet.broker import EmbeddedBroker
    from edgekit.fleet.collector import Collector, CollectorOptions
    from edgekit.fleet.database import sqlite_url
    from edgekit.fleet.store import Store

    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="edgekit-simulate-"))
        broker = stack.enter_context(EmbeddedBroker())
        store = stack.enter_context(Store(sqlite_url(Path(folder) / "fleet.db")))
        stack.enter_context(Collector(broker.address, store, CollectorOptions(ack_s=2.0)))
        yield broker.address
