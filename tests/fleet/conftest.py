"""One real broker for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edgekit.fleet.broker import EmbeddedBroker


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as running:
        yield running
