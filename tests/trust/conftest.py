"""A fleet in a folder of its own, and a running one with a real mosquitto."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit.trust.fleet_folder import Fleet
from edgekit.trust.mosquitto import APT, find_mosquitto, find_plugin
from tests.conftest import absent
from tests.worlds.trusted_fleet import World, config_home, found_fleet, trusted_fleet


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """The user's configuration lies here meanwhile."""
    with config_home(tmp_path / "config") as folder:
        yield folder


@pytest.fixture
def fleet(home: Path) -> Fleet:
    return found_fleet(home / "fleet")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    need_mosquitto()
    with trusted_fleet(tmp_path) as running:
        yield running


def need_mosquitto() -> None:
    if find_mosquitto() is None or find_plugin() is None:
        absent("mosquitto", APT)
