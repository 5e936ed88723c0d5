"""`edgekit fleet up`: broker, collector, store and dashboard as one program that ends clean."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from edgekit.errors import EdgeKitError, NotInitialisedError
from edgekit.fleet.access import present_host
from edgekit.fleet.announcing import REMOVE, Announcer
from edgekit.fleet.asking import Asker
from edgekit.fleet.broker import EmbeddedBroker
from edgekit.fleet.collector import Collector
from edgekit.fleet.home_updates import HomeUpdates, Offered
from edgekit.fleet.operation import Duty
from edgekit.fleet.proof import prove
from edgekit.fleet.rollouts.engine import Engine
from edgekit.fleet.store import Store
from edgekit.fleet.web.running import Dashboard, DashboardOptions, Fleet, dashboard
from edgekit.fleet.web.serving import listen, require_packages
from edgekit.fleet.web.tables import settle
from edgekit.fleet.web.users import everyone
from edgekit_device.bundle import user_public_key
from edgekit_device.publish.broker_url import BrokerAddress

LOOPBACK = ("127.0.0.1", "::1", "localhost")
_PRUNE_S = 3600.0
ALERTS_TOPIC = "edgekit/v1/alerts"


@dataclass(frozen=True)
class Plan:
    """What to bring up.

    Attributes:
        store_url: An SQLAlchemy URL.
        broker: The broker's address; None to start the embedded one on loopback.
        broker_port: Port of the embedded one.
        host: Address that the dashboard listens on.
        port: Its port.
        duty: How the collector works.
        dashboard: How the dashboard works.
        folder: What `fleet init` made.
        offered: What is published, for Home Assistant; the duty says whether boards are announced there.
    """

    store_url: str
    broker: BrokerAddress | None = None
    broker_port: int = 1883
    host: str = "127.0.0.1"
    port: int = 8080
    duty: Duty = field(default_factory=Duty)
    dashboard: DashboardOptions = field(default_factory=DashboardOptions)
    folder: Path = field(default_factory=lambda: fleet_folder())
    offered: Callable[[], Sequence[Offered]] = tuple


class Up(NamedTuple):
    """What is running.

    Attributes:
        embedded: Whether the broker is our own, on loopback.
    """

    dashboard: Dashboard
    broker: BrokerAddress
    embedded: bool
    collector: Collector


def fleet_folder() -> Path:
    """Where `fleet init` puts what a fleet beyond loopback needs."""
    return user_public_key().parent.parent / "fleet"


def is_initialised(folder: Path) -> bool:
    """Whether `fleet init` has been done: it writes the settings last."""
    return (folder / "fleet.toml").is_file()


def check_reach(plan: Plan) -> None:
    """Refuse to be reached from other machines before anything protects the fleet.

    Raises:
        NotInitialisedError: `fleet init` has not been done, or there is no certificate.
    """
    if plan.host in LOOPBACK:
        return
    if not is_initialised(plan.folder):
        raise NotInitialisedError(plan.host, "the fleet is not initialised; do it first: edgekit fleet init")
    if plan.dashboard.certificate is None:
        raise NotInitialisedError(plan.host, "there is no certificate; give --cert and --key")


@contextmanager
def up(plan: Plan, say: Callable[[str], None] = lambda text: None) -> Iterator[Up]:
    """Everything, while the block runs; what was taken is stored and acknowledged before it ends.

    Args:
        plan: What to bring up.
        say: Told each step.

    Raises:
        DashboardPortError: The dashboard's port is taken.
        PortTakenError: The embedded broker's port is taken.
        NotInitialisedError: It would be reached from other machines, unprotected.
        BrokerUnreachableError: Nothing answers at the broker's address.
        BrokerAbilityError: The broker cannot do what the collector relies on.
        StoreError: The database cannot be used.
    """
    require_packages()
    check_reach(plan)
    with ExitStack() as stack:
        host = "127.0.0.1" if plan.host == "localhost" else plan.host
        listener = stack.enter_context(listen(host, plan.port))
        store = stack.enter_context(Store(plan.store_url))
        options = _options(plan, store)
        address = plan.broker
        if address is None:
            address = stack.enter_context(EmbeddedBroker(plan.broker_port)).address
        prove(address, shared=not plan.duty.alone)
        collector = stack.enter_context(Collector(address, store, plan.duty.options()))
        say(f"collecting from {address.url}")
        asker = Asker(address)
        stack.callback(asker.close)
        fleet = Fleet(collector.watch, lambda: collector.latest().problem, _publisher(address, stack), asker.ask)
        stop = threading.Event()
        stack.callback(stop.set)
        threading.Thread(target=_prune, args=(store, plan.duty, stop), name="retention", daemon=True).start()
        engine = Engine(store, collector.desire)
        rollouts = threading.Thread(target=engine.run, args=(stop,), name="rollouts", daemon=True)
        rollouts.start()
        # Its lease is given back while the store is open.
        stack.callback(rollouts.join, 10.0)
        stack.callback(stop.set)
        if plan.duty.home_assistant is not None:
            stack.enter_context(_at_home(plan, address, store, stop))
        running = stack.enter_context(dashboard(store, listener, options, fleet))
        yield Up(running, address, plan.broker is None, collector)


@contextmanager
def _at_home(plan: Plan, address: BrokerAddress, store: Store, stop: threading.Event) -> Iterator[None]:
    """Boards and their updates in Home Assistant."""
    from edgekit import __version__

    remove = plan.duty.home_assistant == REMOVE
    with Announcer(address, __version__, remove=remove, retry_s=plan.duty.reconnect_s, updates=True) as announcer:
        home = HomeUpdates(store, announcer, plan.offered)

        def keep() -> None:
            while not stop.wait(0.5):
                home.step()

        thread = threading.Thread(target=keep, name="home assistant", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(10)


def _options(plan: Plan, store: Store) -> DashboardOptions:
    if plan.host in LOOPBACK:
        return plan.dashboard
    settle(store)
    if not everyone(store):
        raise NotInitialisedError(
            plan.host, "nobody may log in; add somebody: edgekit fleet user add NAME --role administrator"
        )
    # Beyond loopback a token in a URL is a password in a log.
    return replace(plan.dashboard, url_token=None)


def _publisher(address: BrokerAddress, stack: ExitStack) -> Callable[[str, bytes], None]:
    """Publishes alerts, on a connection of its own made when the first one is due."""
    import paho.mqtt.client as paho
    from paho.mqtt.enums import CallbackAPIVersion

    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    present_host(client, address, "web")
    began = threading.Event()

    def publish(kind: str, payload: bytes) -> None:
        if not began.is_set():
            client.connect(address.host, address.port)
            client.loop_start()
            began.set()
        refused: list[str] = []
        client.on_publish = lambda c, d, mid, code, more: refused.append(str(code)) if code.is_failure else None
        info = client.publish(f"{ALERTS_TOPIC}/{kind}", payload, qos=1)
        try:
            info.wait_for_publish(10)
        except (RuntimeError, ValueError) as cause:
            raise OSError(f"the broker did not take it: {cause}") from cause
        if refused or not info.is_published():
            raise OSError(f"the broker did not take it: {', '.join(refused) or 'no answer'}")

    def end() -> None:
        if began.is_set():
            client.disconnect()
            client.loop_stop()

    stack.callback(end)
    return publish


def _prune(store: Store, duty: Duty, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            if store.claim("prune", _PRUNE_S * 0.9):
                store.prune(duty.keep)
        except EdgeKitError:
            # The collector meets the same database and says so.
            pass
        stop.wait(_PRUNE_S)


def report(running: Up) -> dict[str, object]:
    """For --json: where everything is."""
    return {
        "dashboard": running.dashboard.url,
        "broker": running.broker.url,
        "embedded_broker": running.embedded,
        "started_ms": int(time.time() * 1000),
    }
