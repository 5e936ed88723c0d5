"""A filled store, dashboards on it, and Chromium."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgekit.fleet.database import sqlite_url
from tests.conftest import absent, require
from tests.worlds.dashboards import PEOPLE, Shown, copied, shown
from tests.worlds.showroom import boards, fill


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two dozen boards with half an hour of Readings; copied, never changed."""
    path = tmp_path_factory.mktemp("showroom") / "fleet.db"
    fill(sqlite_url(path), boards(), minutes=36, window_s=3600.0)
    return path


@pytest.fixture(scope="module")
def world(filled: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    """A dashboard with people in it."""
    with shown(copied(filled, tmp_path_factory.mktemp("world")), people=tuple(PEOPLE)) as running:
        yield running


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A real browser; nothing is downloaded."""
    require("playwright", "pip install playwright")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        absent("Chromium", "apt install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()
