"""Both databases keep the same promises."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.fleet.database import sqlite_url
from tests.suites.store_promises import StorePromises
from tests.worlds.services import PostgreSQL


class TestSQLite(StorePromises):
    @pytest.fixture
    def store_url(self, tmp_path: Path) -> str:
        return sqlite_url(tmp_path / "fleet.db")


class TestPostgreSQL(StorePromises):
    @pytest.fixture
    def store_url(self, postgres: PostgreSQL) -> str:
        return postgres.fresh("promises")
