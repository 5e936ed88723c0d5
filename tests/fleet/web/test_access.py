"""E2: who may do what, held against the routes themselves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edgekit.fleet.web.app import make_app, routes_of
from edgekit.fleet.web.roles import RULES, Role, needed
from tests.worlds.dashboards import IDENTITIES, Shown, ask, expected, identity


def routes(world: Shown) -> Iterator[tuple[str, str]]:
    _, app = make_app(world.dashboard.context)
    for route in routes_of(app):
        if route.path in ("/static", "/updates"):
            yield "GET", f"{route.path}/{{path:path}}"
            continue
        yield from ((method, route.path) for method in sorted(route.methods - {"HEAD"}))


def test_every_route_has_a_rule_and_every_rule_a_route(world: Shown) -> None:
    assert set(routes(world)) == set(RULES)


def test_a_route_without_a_rule_is_refused_to_everybody(world: Shown) -> None:
    guarded, app = make_app(world.dashboard.context)

    @app.get("/new")
    def new() -> str:
        return "nobody thought of a rule"

    guarded._routes[:] = routes_of(app)
    assert needed("GET", "/new") is None
    scope = {
        "type": "http", "method": "GET", "path": "/new", "raw_path": b"/new", "query_string": b"", "root_path": "",
        "headers": [(b"host", world.origin.removeprefix("http://").encode())], "client": ("127.0.0.1", 1),
        "scheme": "http",
    }  # fmt: skip
    answer = guarded._stopped(scope)
    assert answer is not None
    assert answer.status_code == 403


@pytest.mark.parametrize("name", IDENTITIES)
def test_each_identity_gets_what_the_table_says_and_no_more(world: Shown, name: str) -> None:
    client = identity(world, name)
    wrong = []
    for method, path in RULES:
        if path == "/logout":
            continue
        code = ask(world, client, method, path)
        if code not in expected(method, path, name):
            wrong.append(f"{method} {path}: {code}, expected one of {sorted(expected(method, path, name))}")
    assert not wrong


def test_somebody_of_one_site_sees_no_other_anywhere(world: Shown) -> None:
    harriet = world.person("harriet")
    for path in ("/", "/?q=row", "/alerts", "/metrics", "/api/v1/boards", "/api/v1/alerts"):
        text = harriet.get(path).text
        assert "orchard" not in text, path
        assert "row-0" not in text.replace('value="row"', ""), path
    assert harriet.get("/api/v1/fleet").json()["boards"] == 5
    with harriet.stream("GET", "/stream/wall") as stream:
        assert "orchard" not in next(line for line in stream.iter_lines() if line.startswith("data:"))


def test_somebody_of_one_site_silences_no_other(world: Shown) -> None:
    from edgekit.fleet.web import users
    from tests.worlds.dashboards import PASSWORD

    users.add(world.store, "hank", "operator", PASSWORD, ("harbour",))
    hank = world.person("hank")
    headers = {"origin": world.origin, "x-csrf-token": world.csrf(hank)}
    document = {"site": "orchard", "device": "row-02", "kind": "rung_lost"}
    assert hank.post("/api/v1/alerts/acknowledge", json=document, headers=headers).status_code == 404
    assert all(a.acknowledged_by != "hank" for a in world.dashboard.context.alarm.standing())


def test_nothing_but_the_door_is_open_without_a_login() -> None:
    open_to_all = {path for (_, path), role in RULES.items() if role is Role.NOBODY}
    assert open_to_all == {"/healthz", "/login", "/static/{path:path}", "/updates/{path:path}"}
    assert all(
        role >= Role.OPERATOR
        for (method, path), role in RULES.items()
        if method == "POST" and path not in ("/login", "/logout")
    )
