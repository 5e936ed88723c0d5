"""What `edgekit fleet up` runs after `fleet init`: the fleet's own broker and enrolment, beside the dashboard."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgekit.fleet.store import Store
    from edgekit.fleet.up import Plan
    from edgekit.trust.registry import Registry

_ACTS_S = 2.0


@contextmanager
def own_fleet(plan: Plan, stop: threading.Event) -> Iterator[Plan]:
    """The broker and the enrolment that `fleet init` made; its certificate serves the pages too.

    Args:
        plan: What is brought up.
        stop: Set when the program ends.
    """
    from edgekit.fleet.access import broker_address
    from edgekit.fleet.store import Store
    from edgekit.fleet.web.serving import Certificate
    from edgekit.trust.fleet_folder import Fleet
    from edgekit.trust.founding import LOCAL_COLLECTOR, add_collector
    from edgekit.trust.registry import is_board
    from edgekit.trust.upkeep import Service

    fleet = Fleet(plan.folder)

    def members() -> list[dict[str, object]]:
        return [
            {"name": m.account.name, "state": m.state, "until_s": m.until_s, "made_s": m.made_s}
            for m in fleet.registry.members()
            if is_board(m)
        ]

    # A fleet of an earlier version lacks accounts for what this one does beside it.
    add_collector(fleet, LOCAL_COLLECTOR)
    with Store(plan.store_url) as store:
        service = Service(fleet, say=_say)
        service.start()
        threads = [
            threading.Thread(target=service.run, args=(stop,), name="broker", daemon=True),
            threading.Thread(target=_take_acts, args=(fleet.registry, store, stop), name="acts", daemon=True),
        ]
        for thread in threads:
            thread.start()
        try:
            settings, options = fleet.settings, replace(plan.dashboard, members=members, joins=service.joining)
            if options.certificate is None and plan.host not in ("127.0.0.1", "::1", "localhost"):
                pem = fleet.broker_file
                options = replace(options, certificate=Certificate(pem, pem), names=(*options.names, *settings.names))
            yield replace(plan, broker=broker_address(f"mqtts://localhost:{settings.port}"), dashboard=options)
        finally:
            stop.set()
            for thread in threads:
                thread.join(15)
            service.stop()


def take_acts(registry: Registry, store: Store) -> int:
    """Move what was done to accounts into the audit log; returns how much.

    The log is written before the registry forgets: power that fails between the two makes a line twice, never none.
    """
    from edgekit.fleet import audit

    acts = registry.acts()
    if acts:
        with store.writing() as connection:
            for act in acts:
                site = act.name.partition(".")[0]
                audit.write(connection, audit.Act(act.who, act.what, act.name, site=site), act.at_s * 1000)
        registry.forget_acts(acts[-1].number)
    return len(acts)


def _take_acts(registry: Registry, store: Store, stop: threading.Event) -> None:
    from edgekit.errors import EdgeKitError

    while True:
        last = stop.is_set()
        try:
            take_acts(registry, store)
        except EdgeKitError:
            # Collector and broker meet the same database and folder, and say so; the acts wait.
            pass
        if last:
            return
        stop.wait(_ACTS_S)


def _say(line: str) -> None:
    sys.stderr.write(f"edgekit: {line}\n")
