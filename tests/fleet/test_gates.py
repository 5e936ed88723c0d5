"""Short forms of the gates: what boards made against what the store holds, while something breaks.

The whole ones are tools/gates/telemetry_*.py.
"""

from __future__ import annotations

import pytest

from tests.worlds import fleet_gates
from tests.worlds.services import PostgreSQL

pytestmark = pytest.mark.usefixtures("mosquitto_tool")


def test_a_broker_that_is_away_costs_nothing_and_news_does_not_wait_for_the_backlog() -> None:
    found = fleet_gates.broker_away(20, 2.0, 1.0, 3.0, 6.0)
    assert found.passed, found
    assert found.account.made > 350


def test_a_stock_broker_that_is_killed_loses_only_what_boards_still_hold() -> None:
    found = fleet_gates.broker_killed(2, 5.0, 20, 5.0)
    assert found.passed, found
    assert found.detail["connections"] >= 40


def test_a_killed_collector_loses_and_doubles_nothing() -> None:
    found = fleet_gates.collector_killed(2, 6.0, 20, 5.0)
    assert found.account.exact, found


def test_a_database_that_stops_at_once_loses_and_doubles_nothing(postgres: PostgreSQL) -> None:
    found = fleet_gates.database_stopped(postgres, 1, 5.0, 20, 5.0)
    assert found.account.exact, found


def test_a_full_disk_loses_and_doubles_nothing() -> None:
    found = fleet_gates.disk_full(1, 4.0, 20, 5.0)
    assert found.account.exact, found
    assert found.detail["refused_commits"] >= 1


def test_a_slow_database_keeps_memory_bounded_and_loses_nothing() -> None:
    found = fleet_gates.slow_database(3.0, 1.0, 50, 5.0)
    assert found.passed, found


def test_mutated_payloads_are_named_quickly_and_never_stored() -> None:
    found = fleet_gates.mutated(3000)
    assert found["passed"], found
    assert found["detail"]["valid"] > 100
