"""A dashboard at work on a store: the wall is kept up to date, alerts are judged and sent, pages are served."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from edgekit.errors import EdgeKitError
from edgekit.fleet.alerts import Alarm, Sender
from edgekit.fleet.alerts_rules import Outlets, Rules
from edgekit.fleet.alerts_sending import ways
from edgekit.fleet.batch import BoardKey
from edgekit.fleet.web.app import make_app
from edgekit.fleet.web.baselines import read_baselines
from edgekit.fleet.web.context import Context, Joins
from edgekit.fleet.web.guard import Door, Keeper
from edgekit.fleet.web.serving import Certificate, Server
from edgekit.fleet.web.tables import settle
from edgekit.fleet.web.wall import Wall
from edgekit_device.contract.addresses import url_host

if TYPE_CHECKING:
    import socket

    from edgekit.fleet.store import Store
    from edgekit_device.contract.asking import Answer

_REVIEW_S = 3.0


@dataclass(frozen=True)
class DashboardOptions:
    """How a dashboard works.

    Attributes:
        rules: When a board needs somebody.
        outlets: Where alerts go.
        bundles: Folder with the operator's .edgekit files, for baselines; None for none.
        certificate: For TLS.
        names: Host names under which browsers reach it, beside its address.
        url_token: Opens the door from the URL; None where users log in. Made new each time by default.
        program_token: For Prometheus and scripts; None for nobody.
        proxy_header: Header in which a trusted proxy names the user.
        proxy_addresses: Where it speaks from.
        note: Shown on every page.
        every_s: Between two looks at the store.
        members: Boards that were enrolled; None where nothing is enrolled.
        joins: Boards that ask to join; None where none can.
        updates: Folder of the repository that boards fetch releases from; None for none.
        check_release: Refuses, by an error of ours, a release that boards could not fetch.
        ends: What of the fleet's own signatures and certificates ends soon.
    """

    rules: Rules = field(default_factory=Rules)
    outlets: Outlets = field(default_factory=Outlets)
    bundles: Path | None = None
    certificate: Certificate | None = None
    names: tuple[str, ...] = ()
    url_token: str | None = field(default_factory=lambda: secrets.token_urlsafe(24))
    program_token: str | None = None
    proxy_header: str | None = None
    proxy_addresses: tuple[str, ...] = ()
    note: str = ""
    every_s: float = 1.0
    members: Callable[[], list[dict[str, object]]] | None = None
    joins: Joins | None = None
    updates: Path | None = None
    check_release: Callable[[str], None] = lambda _: None
    ends: Callable[[float], Sequence[tuple[str, str]]] = lambda _: ()


class Fleet(NamedTuple):
    """What a dashboard needs of the collector beside it; the defaults fit one without.

    Attributes:
        watch: Ask a board for faster Readings.
        problem: Why nothing can be heard of any board now.
        publish: Publish an alert (topic suffix, payload).
        ask: Ask a board for its log, its doctor or a picture; None where nothing can be asked.
    """

    watch: Callable[[BoardKey], bool] = lambda board: False
    problem: Callable[[], str | None] = lambda: None
    publish: Callable[[str, bytes], None] | None = None
    ask: Callable[[BoardKey, str], Answer] | None = None


class Dashboard(NamedTuple):
    """A running dashboard.

    Attributes:
        url: For people; holds the token where there is one.
        origin: Without it.
    """

    url: str
    origin: str
    context: Context


@contextmanager
def dashboard(
    store: Store, listener: socket.socket, options: DashboardOptions | None = None, fleet: Fleet | None = None
) -> Iterator[Dashboard]:
    """Serve a dashboard while the block runs.

    Args:
        store: Whose boards it shows.
        listener: A port taken by `serving.listen`.
        options: How.
        fleet: The collector beside it.

    Raises:
        StoreSchemaError: The dashboard's tables are of a later version.
        UsageError: An outlet of alerts is not configured right.
    """
    options, fleet = options or DashboardOptions(), fleet or Fleet()
    settle(store)
    host, port = listener.getsockname()[:2]
    scheme = "https" if options.certificate else "http"
    origins = _origins(scheme, host, port, options.names)
    door = Door(
        origins, options.certificate is not None, port, options.url_token, options.program_token,
        options.proxy_header, options.proxy_addresses,
    )  # fmt: skip
    stop = threading.Event()
    wall = Wall(store)
    alarm = Alarm(store, options.rules, read_baselines(options.bundles), fleet.problem, ends=options.ends)
    alarm.sender = Sender(ways(options.outlets, fleet.publish))
    context = Context(
        store,
        wall,
        alarm,
        Keeper(door, store),
        fleet.watch,
        stop.is_set,
        options.note,
        every_s=options.every_s,
        members=options.members,
        ask=fleet.ask,
        joins=options.joins,
        updates=options.updates,
        check_release=options.check_release,
    )
    guarded, _ = make_app(context)
    wall.refresh()
    _judge(context)
    keeper = threading.Thread(target=_keep, args=(context, options, stop), name="wall", daemon=True)
    keeper.start()
    alarm.sender.start()
    try:
        with Server(guarded, listener, options.certificate):
            token = f"/?token={options.url_token}" if options.url_token else "/"
            yield Dashboard(origins[0] + token, origins[0], context)
            stop.set()
    finally:
        stop.set()
        keeper.join(10)
        alarm.sender.stop()


def _keep(context: Context, options: DashboardOptions, stop: threading.Event) -> None:
    reviewed_s = time.monotonic()

    def judged(seconds: float) -> bool:
        nonlocal reviewed_s
        if not stop.is_set():
            _judge(context)
        if time.monotonic() - reviewed_s > _REVIEW_S:
            reviewed_s = time.monotonic()
            _review(context)
        return stop.wait(seconds)

    context.wall.run(stop, options.every_s, judged)


def _judge(context: Context) -> None:
    try:
        context.alarm.step(context.wall.latest())
    except EdgeKitError:
        # The wall meets the same database and shows it.
        pass


def _review(context: Context) -> None:
    try:
        context.keeper.review()
    except EdgeKitError:
        pass


def _origins(scheme: str, host: str, port: int, names: tuple[str, ...]) -> tuple[str, ...]:
    usual = 443 if scheme == "https" else 80
    hosts = [url_host(host)]
    if host in ("127.0.0.1", "::1"):
        hosts += ["localhost", "127.0.0.1", "[::1]"]
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound.
        hosts = []
    hosts = [*names, *hosts] if host not in ("127.0.0.1", "::1") else [*hosts, *names]
    made = [f"{scheme}://{name}:{port}" for name in hosts]
    if port == usual:
        made = [f"{scheme}://{name}" for name in hosts] + made
    return tuple(dict.fromkeys(name.lower() for name in made))
