"""Real brokers and a real database for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edgekit.fleet.broker import EmbeddedBroker
from tests.conftest import absent
from tests.worlds.services import MOSQUITTO, POSTGRESQL, PostgreSQL, find_mosquitto, find_postgresql, postgresql


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as running:
        yield running


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgreSQL]:
    """One real server for all tests; each asks it for a database of its own."""
    if find_postgresql() is None:
        absent("a PostgreSQL server", POSTGRESQL)
    with postgresql() as server:
        yield server


@pytest.fixture
def mosquitto_tool() -> str:
    program = find_mosquitto()
    if program is None:
        absent("mosquitto", MOSQUITTO)
    return str(program)
