"""A collector in a process of its own, to be killed: python -m tests.worlds.collector_process URL STORE."""

from __future__ import annotations

import sys

from edgekit.fleet.collector import Collector, CollectorOptions
from edgekit.fleet.store import Store
from edgekit_device.publish.broker_url import parse_broker_url


def main() -> None:
    """Collect until standard input ends."""
    options = CollectorOptions(batch_messages=25, batch_s=0.05, ack_s=0.2)
    with Store(sys.argv[2]) as store, Collector(parse_broker_url(sys.argv[1]), store, options):
        print("ready", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
