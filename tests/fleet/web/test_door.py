"""E4: foreign hosts, foreign origins, forged forms, sessions and passwords."""

from __future__ import annotations

import threading
from pathlib import Path

import httpx
import pytest

from edgekit.errors import UsageError
from edgekit.fleet.database import sqlite_url
from edgekit.fleet.store import Store
from edgekit.fleet.web import users
from edgekit.fleet.web.answers import POLICY
from edgekit.fleet.web.guard import LOCAL, Door
from edgekit.fleet.web.roles import RULES, Role
from edgekit.fleet.web.running import DashboardOptions
from edgekit.fleet.web.sessions import Attempts, Sessions
from edgekit.fleet.web.tables import settle
from tests.worlds.boards import eventually
from tests.worlds.dashboards import PASSWORD, PLACES, Shown, copied, shown

CHANGES = sorted(path for method, path in RULES if method == "POST")


def filled_in(path: str) -> str:
    for place, value in PLACES.items():
        path = path.replace(place, value)
    return path


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "localhost:1", "", "127.0.0.1.evil.example:80"])
def test_a_foreign_host_gets_nothing(world: Shown, host: str) -> None:
    owner = world.owner()
    for method, path in RULES:
        answer = owner.request(method, filled_in(path), headers={"host": host, "origin": world.origin})
        assert answer.status_code == 421, (method, path)


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:1", "http://127.0.0.1"])
def test_a_change_that_another_site_asks_for_is_refused(world: Shown, origin: str) -> None:
    owner = world.owner()
    for path in CHANGES:
        headers = {"origin": origin, "x-csrf-token": world.csrf(owner)}
        assert owner.post(path, data={}, headers=headers).status_code == 403, path
        headers = {"sec-fetch-site": "cross-site", "x-csrf-token": world.csrf(owner)}
        assert owner.post(path, data={}, headers=headers).status_code == 403, path


def test_a_change_without_the_sessions_own_proof_is_refused(world: Shown) -> None:
    owner, other = world.owner(), world.owner()
    for path in set(CHANGES) - {"/login"}:
        for proof in ({}, {"x-csrf-token": "x"}, {"x-csrf-token": world.csrf(other)}):
            answer = owner.post(path, data={}, headers={"origin": world.origin, **proof})
            assert answer.status_code == 403, path
    assert owner.get("/api/v1/fleet").status_code == 200


def test_another_site_may_not_read_with_the_visitors_cookie(world: Shown) -> None:
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "cors"}
    assert world.owner().get("/api/v1/boards", headers=headers).status_code == 403
    assert world.owner().get("/", headers={**headers, "sec-fetch-mode": "navigate"}).status_code == 200


def test_the_token_leaves_the_address_and_a_wrong_one_opens_nothing(world: Shown) -> None:
    client = world.client()
    answer = client.get(world.dashboard.url)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert world.client().get("/?token=wrong").status_code == 403
    assert world.client().get("/").status_code == 401


def test_guessing_tokens_is_slowed_down(filled: Path, tmp_path: Path) -> None:
    with shown(copied(filled, tmp_path)) as world:
        client = world.client()
        codes = [client.get(f"/?token=guess{n}").status_code for n in range(25)]
    assert codes.count(429) == 5


def test_by_tls_the_cookie_is_bound_to_the_host() -> None:
    assert Door(("https://fleet.example",), tls=True).cookie == "__Host-edgekit"


def test_logging_in_makes_a_new_session_and_ends_the_old_one(world: Shown) -> None:
    client = world.owner()
    name = world.dashboard.context.keeper.door.cookie
    before = client.cookies[name]
    csrf = world.csrf(client)
    headers = {"origin": world.origin, "x-csrf-token": csrf}
    answer = client.post("/login", data={"name": "victor", "password": PASSWORD}, headers=headers)
    assert answer.status_code == 303
    assert client.cookies[name] != before
    assert world.dashboard.context.keeper.sessions.find(before) is None


def test_logging_out_ends_event_streams(world: Shown) -> None:
    client, ended = world.owner(), threading.Event()

    def listen() -> None:
        with httpx.Client(base_url=world.origin, cookies=client.cookies, timeout=30, trust_env=False) as other:
            with other.stream("GET", "/stream/wall") as stream:
                opened.set()
                for line in stream.iter_lines():
                    if line == "event: ended":
                        ended.set()

    opened = threading.Event()
    thread = threading.Thread(target=listen)
    thread.start()
    assert opened.wait(10)
    headers = {"origin": world.origin, "x-csrf-token": world.csrf(client)}
    assert client.post("/logout", headers=headers).status_code == 303
    thread.join(10)
    assert not thread.is_alive()
    assert ended.is_set()
    assert client.get("/api/v1/fleet").status_code == 401


def test_somebody_who_is_taken_away_is_logged_out(filled: Path, tmp_path: Path) -> None:
    with shown(copied(filled, tmp_path), people=("victor",)) as world:
        victor = world.person("victor")
        assert victor.get("/api/v1/fleet").status_code == 200
        users.remove(world.store, "victor")
        world.dashboard.context.keeper.review()
        assert victor.get("/api/v1/fleet").status_code == 401


def test_a_sixth_try_in_a_minute_is_refused_and_others_are_not_locked_out(filled: Path, tmp_path: Path) -> None:
    with shown(copied(filled, tmp_path), people=("victor", "olga")) as world:
        client = world.client()

        def attempt(name: str, password: str) -> int:
            data = {"name": name, "password": password}
            return client.post("/login", data=data, headers={"origin": world.origin}).status_code

        assert [attempt("victor", "wrong") for _ in range(6)] == [403] * 5 + [429]
        assert attempt("victor", PASSWORD) == 429
        assert attempt("olga", PASSWORD) == 303


def test_attempts_are_counted_anew_after_a_while() -> None:
    now = [0.0]
    attempts = Attempts(2, 60.0, lambda: now[0])
    assert [attempts.allowed("a") for _ in range(3)] == [True, True, False]
    now[0] = 61.0
    assert attempts.allowed("a")


def test_passwords_are_argon2id_and_a_short_one_is_refused(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "fleet.db")
    with Store(url) as store:
        settle(store)
        users.add(store, "anna", "operator", PASSWORD, ("home",))
        assert users.check(store, "anna", PASSWORD) == users.User("anna", Role.OPERATOR, frozenset({"home"}))
        assert users.check(store, "anna", PASSWORD + "x") is None
        assert users.check(store, "nobody", PASSWORD) is None
        for name, role, password in (
            ("anna", "root", PASSWORD),
            ("a b", "viewer", PASSWORD),
            ("anna", "viewer", "short"),
        ):
            with pytest.raises(UsageError):
                users.add(store, name, role, password)
        with pytest.raises(UsageError):
            users.add(store, LOCAL, "administrator", PASSWORD)
    raw = (tmp_path / "fleet.db").read_bytes()
    assert b"$argon2id$" in raw
    assert PASSWORD.encode() not in raw


def test_a_session_ends_when_nobody_uses_it_and_after_a_week(world: Shown) -> None:
    now = [0.0]
    sessions = Sessions(lambda: now[0])
    idle, _ = sessions.begin("anna", Role.VIEWER)
    busy, session = sessions.begin("bert", Role.VIEWER)
    for _ in range(24):
        now[0] += 7 * 3600.0
        if now[0] < 7 * 86_400:
            assert sessions.find(busy) is session
    assert sessions.find(idle) is None
    now[0] += 7 * 3600.0
    assert sessions.find(busy) is None
    assert session.ended


def test_every_answer_carries_the_policy_and_is_not_kept(world: Shown) -> None:
    for client in (world.owner(), world.client()):
        for path in ("/", "/login", "/nothing", "/api/v1/fleet", "/healthz", "/static/edgekit.js"):
            answer = client.get(path)
            assert answer.headers["content-security-policy"] == POLICY
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert ("no-store" in answer.headers["cache-control"]) != path.startswith("/static/")
    assert "unsafe" not in POLICY
    assert "http" not in POLICY


def test_a_trusted_proxy_names_the_user_and_nobody_else_can(filled: Path, tmp_path: Path) -> None:
    def asked(addresses: tuple[str, ...], user: str) -> int:
        options = DashboardOptions(url_token=None, proxy_header="x-forwarded-user", proxy_addresses=addresses)
        with shown(copied(filled, tmp_path), options, people=("victor",)) as world:
            return world.client().get("/api/v1/fleet", headers={"x-forwarded-user": user}).status_code

    assert asked(("127.0.0.1",), "victor") == 200
    assert asked(("127.0.0.1",), "mallory") == 401
    assert asked(("192.0.2.1",), "victor") == 401


def test_a_body_that_is_too_large_is_refused(world: Shown) -> None:
    owner = world.owner()
    headers = {"origin": world.origin, "x-csrf-token": world.csrf(owner)}

    def chunks() -> object:
        yield from [b"x" * 10_000] * 10

    assert owner.post("/alerts/silence", content=b"x" * 100_000, headers=headers).status_code == 413
    assert owner.post("/alerts/silence", content=chunks(), headers=headers).status_code == 413  # type: ignore[arg-type]


def test_one_browser_cannot_hold_every_stream(world: Shown) -> None:
    owner = world.owner()
    held = [owner.build_request("GET", "/stream/wall") for _ in range(9)]
    answers = [owner.send(request, stream=True) for request in held]
    try:
        lines = [answer.iter_lines() for answer in answers[:8]]  # Held: a generator that is gone closes its stream.
        for line in lines:
            next(line)
        late = owner.send(owner.build_request("GET", "/stream/wall"), stream=True)
        late.close()
        assert late.status_code == 429
    finally:
        for answer in answers:
            answer.close()
    assert eventually(lambda: world.dashboard.context.streams[0] == 0)
