"""Running a collector as a service: prove the broker, collect, delete what is too old, and say how it goes."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from edgekit.errors import EdgeKitError, UsageError
from edgekit.fleet.announcing import REMOVE, Announcer
from edgekit.fleet.batch import BoardKey
from edgekit.fleet.collector import Collector, CollectorOptions
from edgekit.fleet.proof import prove
from edgekit.fleet.retention import Keep
from edgekit.fleet.snapshot import FleetSnapshot
from edgekit.fleet.store import Store
from edgekit_device.publish.broker_url import BrokerAddress

SHARE = "edgekit"
_PRUNE_S = 3600.0
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}", re.ASCII)


@dataclass(frozen=True)
class Duty:
    """What one collector is asked to do.

    Attributes:
        name: Its own name among the collectors of a broker.
        alone: It takes every message; otherwise the broker divides them among the collectors.
        keep: How long rows are kept.
        ack_s: A board hears of its stored messages after so long at the latest.
        batch_s: Longest wait before a batch is written.
        reconnect_s: Shortest and longest wait between two tries to reach a broker that went away.
        home_assistant: ``announce`` every board there, or ``remove`` them; None does neither.
    """

    name: str = field(default_factory=lambda: default_name())
    alone: bool = False
    keep: Keep = field(default_factory=Keep)
    ack_s: float = 30.0
    batch_s: float = 0.5
    reconnect_s: tuple[int, int] = (1, 30)
    home_assistant: str | None = None

    def options(self) -> CollectorOptions:
        """For the collector itself."""
        return CollectorOptions(
            client_id=f"edgekit-collector-{self.name}",
            share=None if self.alone else SHARE,
            ack_s=self.ack_s,
            batch_s=self.batch_s,
            reconnect_s=self.reconnect_s,
        )


def default_name() -> str:
    """This machine's name, as the contract writes names."""
    plain = re.sub(r"[^a-z0-9]+", "-", socket.gethostname().partition(".")[0].lower()).strip("-")
    return plain[:63].strip("-") or "host"


def collect(
    address: BrokerAddress,
    store_url: str,
    duty: Duty,
    stop: threading.Event,
    say: Callable[[FleetSnapshot], None] = lambda snapshot: None,
    every_s: float = 10.0,
) -> FleetSnapshot:
    """Collect until told to stop.

    Args:
        address: The broker.
        store_url: An SQLAlchemy URL.
        duty: How.
        stop: Set it to end; what was taken is stored and acknowledged first.
        say: Called at once and then every `every_s`, and when a problem comes or goes.
        every_s: Between two reports.

    Returns:
        How the fleet looked at the end.

    Raises:
        UsageError: The name is none.
        BrokerUnreachableError: Nothing answers at the broker's address.
        BrokerAbilityError: The broker cannot do what the collector relies on.
        StoreError: The database cannot be used.
    """
    if not _NAME.fullmatch(duty.name):
        raise UsageError(f"--name {duty.name[:80]!r}: it is made of a-z, 0-9 and dashes, 63 at most")
    prove(address, shared=not duty.alone)
    with ExitStack() as stack:
        store = stack.enter_context(Store(store_url))
        collector = stack.enter_context(Collector(address, store, duty.options()))
        announcer = stack.enter_context(_announcer(address, duty)) if duty.home_assistant else None
        keeper = threading.Thread(target=_keep_up, args=(store, duty.keep, stop), name="retention", daemon=True)
        keeper.start()
        said_s, problem = float("-inf"), None
        while True:
            latest = collector.latest()
            if announcer is not None:
                announcer.tell(BoardKey(board.site, board.device) for board in latest.boards)
                latest = replace(latest, problem=latest.problem or announcer.problem)
            if time.monotonic() - said_s >= every_s or latest.problem != problem:
                say(latest)
                said_s, problem = time.monotonic(), latest.problem
            if stop.wait(0.5):
                break
        keeper.join()
        collector.stop()
        return collector.latest()


def _announcer(address: BrokerAddress, duty: Duty) -> Announcer:
    from edgekit import __version__

    remove = duty.home_assistant == REMOVE
    return Announcer(address, __version__, remove=remove, retry_s=duty.reconnect_s)


def _keep_up(store: Store, keep: Keep, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            if store.claim("prune", _PRUNE_S * 0.9):
                store.prune(keep)
        except EdgeKitError:
            # The collector meets the same database and says so.
            pass
        stop.wait(_PRUNE_S)


def status(store_url: str) -> dict[str, Any]:
    """What a store holds: boards, online, stored, gaps, and what came late or not at all."""
    with Store(store_url) as store:
        return asdict(store.summary())


def report(snapshot: FleetSnapshot) -> dict[str, Any]:
    """A collector's counts, for --json."""
    lag = snapshot.lag
    return {
        "boards": len(snapshot.boards),
        "online": sum(board.state == "online" for board in snapshot.boards),
        "received": snapshot.received,
        "stored": snapshot.stored,
        "duplicates": snapshot.duplicates,
        "rejected": snapshot.rejected,
        "lag_p50_ms": lag.quantile_ms(0.5),
        "lag_p99_ms": lag.quantile_ms(0.99),
        "problem": snapshot.problem,
    }
