"""E3: two hundred hostile strings through MQTT, the store and every page, in Chromium."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.worlds.hostile_pages import hostile_fleet, look
from tests.worlds.hostile_texts import hostile_texts


def run(arguments: Sequence[str]) -> dict[str, Any]:
    """One board a string, each board's page and all of the wall."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        return {"gate": "E3", "passed": False, "figure": "not run: no Chromium; apt install chromium", "detail": ""}
    texts = hostile_texts()
    with TemporaryDirectory() as folder, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        with hostile_fleet(Path(folder), texts) as world:
            seen = look(browser, world, texts)
        browser.close()
    found = [*seen.ran, *seen.violations, *seen.foreign, *seen.errors]
    return {
        "gate": "E3",
        "passed": not found and seen.texts > len(texts),
        "figure": f"{len(texts)} strings in 9 fields, {seen.pages} pages: {len(seen.ran)} ran, "
        f"{len(seen.violations)} stopped by the policy, "
        f"{len(seen.foreign)} foreign requests; shown as text {seen.texts} times",
        "detail": "\n".join(f"- {line}" for line in found[:50]),
    }
