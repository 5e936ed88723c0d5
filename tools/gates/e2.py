"""E2: every route and event stream, as everybody who might ask."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from edgekit.fleet.database import sqlite_url
from edgekit.fleet.web.app import make_app, routes_of
from edgekit.fleet.web.roles import RULES
from tests.worlds.dashboards import IDENTITIES, PEOPLE, ask, expected, identity, shown
from tests.worlds.showroom import boards, fill


def run(arguments: Sequence[str]) -> dict[str, Any]:
    """Hold the table against the routes, then try each cell."""
    with TemporaryDirectory() as folder:
        url = sqlite_url(Path(folder) / "fleet.db")
        fill(url, boards(), minutes=36, window_s=3600.0)
        with shown(url, people=tuple(PEOPLE)) as world:
            _, app = make_app(world.dashboard.context)
            routes = {
                (method, f"{route.path}/{{path:path}}" if route.path in ("/static", "/updates") else route.path)
                for route in routes_of(app)
                for method in (getattr(route, "methods", None) or {"GET"}) - {"HEAD"}
            }
            unruled = routes ^ set(RULES)
            wrong, cells = [], 0
            for name in IDENTITIES:
                client = identity(world, name)
                for method, path in RULES:
                    if path == "/logout" and name != "nobody":
                        continue  # It would end the session that the rest of the row is tried with; E4 logs out.
                    cells += 1
                    code = ask(world, client, method, path)
                    if code not in expected(method, path, name):
                        wrong.append(f"- {name}: {method} {path} gave {code}")
    return {
        "gate": "E2",
        "passed": not wrong and not unruled,
        "figure": f"{len(routes)} routes x {len(IDENTITIES)} identities, {cells} cells: {len(wrong)} wrong; "
        f"{len(unruled)} routes without a rule",
        "detail": "\n".join(wrong + [f"- no rule: {method} {path}" for method, path in unruled]),
    }
