"""A collector and a dashboard on one folder, for a demo: what `fleet up` does, without a port or a file of its own."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from edgekit.fleet.collector import Collector, CollectorOptions
from edgekit.fleet.database import sqlite_url
from edgekit.fleet.store import Store
from edgekit.fleet.web.running import DashboardOptions, Fleet, dashboard
from edgekit.fleet.web.serving import listen, require_packages

if TYPE_CHECKING:
    from edgekit_device.publish.broker_url import BrokerAddress


class Watched(NamedTuple):
    """What watches boards.

    Attributes:
        url: Of the dashboard, with its token.
    """

    collector: Collector
    url: str


@contextmanager
def watched(folder: Path, broker: BrokerAddress, note: str) -> Iterator[Watched]:
    """Collect into ``fleet.db`` and show it, while the block runs.

    Args:
        folder: Where the database goes; bundles in it give baselines.
        broker: Where boards publish.
        note: Shown on every page.
    """
    require_packages()
    with ExitStack() as stack:
        store = stack.enter_context(Store(sqlite_url(folder / "fleet.db")))
        collector = stack.enter_context(Collector(broker, store, CollectorOptions(batch_s=0.2, ack_s=2.0)))
        fleet = Fleet(collector.watch, lambda: collector.latest().problem)
        listener = stack.enter_context(listen("127.0.0.1", 0))
        shown = stack.enter_context(dashboard(store, listener, DashboardOptions(bundles=folder, note=note), fleet))
        yield Watched(collector, shown.url)


def shows(url: str, words: str, wait_s: float) -> bool:
    """Whether a page comes to hold some words, opened as a browser does: the token in the URL becomes a cookie.

    Raises:
        OSError: Nothing answers there, or it refuses.
    """
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    until = time.monotonic() + wait_s
    while True:
        with browser.open(url, timeout=wait_s) as answer:
            if words in answer.read().decode("utf-8"):
                return True
        if time.monotonic() > until:
            return False
        time.sleep(0.2)
