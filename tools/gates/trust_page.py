"""docs/results/trust.md: what the gates of trust found, each section written by its own gate."""

from __future__ import annotations

import json
from typing import Any

from tools.results import RESULTS, heading

STORE = RESULTS / "trust.json"
COMMAND = "make gates ONLY=E5,E6,E9"
_ORDER = ("E5", "restart", "E6", "E9")


def add(section: str, title: str, lines: list[str]) -> None:
    """Replace one section and write the page again."""
    found: dict[str, Any] = json.loads(STORE.read_text("utf-8")) if STORE.exists() else {}
    found[section] = {"title": title, "lines": lines}
    STORE.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", "utf-8")
    page = heading("Trust", COMMAND, "cryptography", "paho-mqtt")
    page += [
        "mosquitto is Debian's 2.0.11, with the configuration and the accounts that `edgekit fleet broker` writes.",
        "",
    ]
    for name in (*_ORDER, *sorted(set(found) - set(_ORDER))):
        if name in found:
            page += [f"## {found[name]['title']}", "", *found[name]["lines"], ""]
    (RESULTS / "trust.md").write_text("\n".join(page), "utf-8")
