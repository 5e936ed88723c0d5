"""A real dashboard on a real store, people who log in to it, and a real browser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from edgekit.fleet.alerts_rules import Rules
from edgekit.fleet.database import sqlite_url
from edgekit.fleet.store import Store
from edgekit.fleet.web import users
from edgekit.fleet.web.roles import RULES, Role
from edgekit.fleet.web.running import Dashboard, DashboardOptions, Fleet, dashboard
from edgekit.fleet.web.serving import listen
from edgekit.fleet.web.tables import settle

PASSWORD = "a pass phrase of some length"
PROGRAM_TOKEN = "program-token-" + "x" * 24
PEOPLE = {
    "victor": ("viewer", ()), "olga": ("operator", ()), "adam": ("administrator", ()),
    "harriet": ("viewer", ("harbour",)),
}  # fmt: skip
# At once: these promises are about who may do what, not about how long trouble must hold.
AT_ONCE = Rules(raise_s={}, clear_s=0.0)


@dataclass
class Shown:
    """A running dashboard and who is logged in to it."""

    dashboard: Dashboard
    store: Store
    clients: dict[str, httpx.Client] = field(default_factory=dict)

    @property
    def origin(self) -> str:
        return self.dashboard.origin

    def client(self, **more: Any) -> httpx.Client:
        """A browser's first visit; HTML is what it wants only where a test says so."""
        made = httpx.Client(base_url=self.origin, timeout=20, trust_env=False, **more)
        self.clients[f"#{len(self.clients)}"] = made
        return made

    def owner(self) -> httpx.Client:
        """Whoever opened the URL that `fleet up` printed."""
        client = self.client()
        assert client.get(self.dashboard.url).status_code == 303
        return client

    def person(self, name: str) -> httpx.Client:
        """Somebody, logged in once."""
        if name not in self.clients:
            client = self.client()
            answer = client.post("/login", data={"name": name, "password": PASSWORD}, headers={"origin": self.origin})
            assert answer.status_code == 303, answer.text
            self.clients[name] = client
        return self.clients[name]

    def csrf(self, client: httpx.Client) -> str:
        """What a page of this session would send along."""
        secret = client.cookies[self.dashboard.context.keeper.door.cookie]
        session = self.dashboard.context.keeper.sessions.find(secret)
        assert session is not None
        return session.csrf

    def program(self) -> httpx.Client:
        """Prometheus."""
        return self.client(headers={"authorization": f"Bearer {PROGRAM_TOKEN}"})


@contextmanager
def shown(
    url: str, options: DashboardOptions | None = None, fleet: Fleet | None = None, people: tuple[str, ...] = ()
) -> Iterator[Shown]:
    """Serve a store on a free port."""
    options = options or DashboardOptions(rules=AT_ONCE, program_token=PROGRAM_TOKEN, every_s=0.2)
    with Store(url) as store, listen("127.0.0.1", 0) as listener:
        settle(store)
        for name in people:
            role, sites = PEOPLE[name]
            users.add(store, name, role, PASSWORD, sites)
        with dashboard(store, listener, options, fleet) as running:
            made = Shown(running, store)
            try:
                yield made
            finally:
                for client in made.clients.values():
                    client.close()


def copied(source: Path, folder: Path) -> str:
    """The URL of a copy of a filled SQLite store."""
    shutil.copy(source, folder / "fleet.db")
    return sqlite_url(folder / "fleet.db")


IDENTITIES = ("nobody", "program", "viewer", "other site", "operator", "administrator", "owner")
_ROLES = {
    "nobody": Role.NOBODY, "program": Role.VIEWER, "viewer": Role.VIEWER, "other site": Role.VIEWER,
    "operator": Role.OPERATOR, "administrator": Role.ADMINISTRATOR, "owner": Role.ADMINISTRATOR,
}  # fmt: skip
# A board of a site that Harriet may not see.
PLACES = {"{number}": "1", "{site}": "orchard", "{device}": "row-02", "{path:path}": "edgekit.css"}


def identity(world: Shown, name: str) -> httpx.Client:
    """A client of this identity."""
    names = {"viewer": "victor", "other site": "harriet", "operator": "olga", "administrator": "adam"}
    if name in names:
        return world.person(names[name])
    if name not in world.clients:
        made = {"nobody": world.client, "program": world.program, "owner": world.owner}[name]()
        world.clients[name] = made
    return world.clients[name]


def expected(method: str, path: str, name: str) -> set[int]:
    """Status codes that the authorisation table allows for a route and an identity."""
    needed = RULES[method, path]
    fine = {200, 303} if path != "/stream/wall" else {200}
    if path in ("/login",):
        # Opening it logged in leads home; a wrong password is refused, whoever tries.
        return {200, 303, 403, 429}
    if path.startswith("/enrol/"):
        fine = {303, 404, 409}  # 409 where nothing is enrolled.
    if path.endswith("/ask"):
        fine = {200, 409}  # 409 where no broker stands beside the dashboard.
    if path.startswith("/updates/"):
        fine = {404}  # No repository is here; whoever asks is told so, as any board would be.
    if "/rollouts/" in path:
        # No rollout is here: who may ask for one is told so, or what is missing in the form.
        fine = {404} if "{number}" in path else {400, 404}
    if path.startswith("/updates/"):
        return {404}  # Open to everybody, and there is no repository here.
    if needed is Role.NOBODY:
        return fine
    if name == "program":
        if method != "GET":
            return {401, 403}
        if not path.startswith(("/metrics", "/api/v1/")):
            return {401}
        return fine
    if name == "nobody":
        return {401, 403}
    if _ROLES[name] < needed:
        return {403}
    if name == "other site" and ("{site}" in path):
        return {404}
    return fine


def ask(world: Shown, client: httpx.Client, method: str, path: str) -> int:
    """Ask for a route as one of our pages would; the status code."""
    where = path
    for place, value in PLACES.items():
        where = where.replace(place, value)
    if method == "GET":
        with client.stream("GET", where) as answer:
            return answer.status_code
    document: dict[str, Any] = {"site": "orchard", "device": "row-02", "kind": "rung_lost", "what": "logs"}
    if path.endswith("silence"):
        document["minutes"] = 0
    headers = {"origin": world.origin}
    try:
        headers["x-csrf-token"] = world.csrf(client)
    except KeyError:
        pass
    if path.startswith("/api/"):
        del document["what"]
        return client.post(where, json=document, headers=headers).status_code
    return client.post(where, data={k: str(v) for k, v in document.items()}, headers=headers).status_code
