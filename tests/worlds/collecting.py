"""A collector service in a process of its own: python -m tests.worlds.collecting BROKER STORE NAME ACK_S.

Does what `edgekit fleet collect` does, with the waits of a test, and starts over while broker or database is away, as
systemd would.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time

from edgekit.errors import StoreUnavailableError
from edgekit.fleet.operation import Duty, collect, report
from edgekit.fleet.snapshot import FleetSnapshot
from edgekit_device.contract.errors import BrokerError
from edgekit_device.publish.broker_url import parse_broker_url


def main() -> None:
    """Collect until SIGTERM; the last line is the report."""
    broker, store, name, ack_s = sys.argv[1:]
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    duty = Duty(name=name, ack_s=float(ack_s), batch_s=0.2, reconnect_s=(1, 2))

    def say(latest: FleetSnapshot) -> None:
        print("collecting", json.dumps(report(latest)), flush=True)

    while not stop.is_set():
        try:
            print(
                json.dumps(report(collect(parse_broker_url(broker), store, duty, stop, say, every_s=1.0))), flush=True
            )
        except (BrokerError, StoreUnavailableError) as error:
            print(error, flush=True)
            time.sleep(0.3)


if __name__ == "__main__":
    main()
