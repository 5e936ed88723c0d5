"""A whole fleet for a test: authority, mosquitto with its accounts, enrolment, in one folder and gone afterwards."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from edgekit.trust.dynamic_security import hash_password, new_password
from edgekit.trust.fleet_folder import Fleet
from edgekit.trust.fleet_settings import FleetSettings
from edgekit.trust.founding import init
from edgekit.trust.upkeep import Service
from edgekit_device.contract.enrolment import Invitation
from edgekit_device.enrolling import join
from edgekit_device.identity import Identity, IdentityStore
from tests.worlds.services import free_port

OBSERVER = "observer"


@contextmanager
def config_home(folder: Path) -> Iterator[Path]:
    """The user's own keys and fleet lie below this folder meanwhile."""
    before = os.environ.get("EDGEKIT_CONFIG_HOME")
    os.environ["EDGEKIT_CONFIG_HOME"] = str(folder)
    try:
        yield folder
    finally:
        if before is None:
            del os.environ["EDGEKIT_CONFIG_HOME"]
        else:
            os.environ["EDGEKIT_CONFIG_HOME"] = before


def found_fleet(folder: Path, **settings: object) -> Fleet:
    """A fleet on free loopback ports."""
    chosen = {"hosts": ("127.0.0.1",), "listen": "127.0.0.1", "port": free_port(), "enroll_port": free_port()}
    fleet, _ = init(folder, FleetSettings(**{**chosen, **settings}))  # type: ignore[arg-type]
    return fleet


class World:
    """A running fleet, and boards in folders."""

    def __init__(self, fleet: Fleet, place: Path) -> None:
        self.fleet, self.place = fleet, place
        self.said: list[str] = []
        self.service = Service(fleet, say=self.said.append)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.service.run, args=(self._stop,), daemon=True)

    def start(self) -> None:
        self.service.start()
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(20)
        self.service.stop()

    def invite(self, name: str, *, again: bool = False) -> Invitation:
        return self.service.enrolment.invite(name, again=again)

    def board(self, name: str) -> IdentityStore:
        """A board in a folder of its own."""
        return IdentityStore(self.place / "boards" / name)

    def enroll(self, name: str) -> tuple[IdentityStore, Identity]:
        store = self.board(name)
        return store, join(self.invite(name), store)

    def add_observer(self) -> str:
        """An account that hears and says everything: the eye of a test. Gives its password."""
        password = new_password()
        kinds = ("publishClientSend", "publishClientReceive", "subscribePattern")
        # No wildcard of MQTT reaches a topic that begins with a dollar.
        acls = [{"acltype": kind, "topic": "#", "priority": 0, "allow": True} for kind in kinds]
        self.service.accounts._control.apply(
            [
                {"command": "createRole", "rolename": OBSERVER, "acls": acls},
                {
                    "command": "createClient",
                    "username": OBSERVER,
                    "password": password,
                    "roles": [{"rolename": OBSERVER}],
                },
            ]
        )
        return password


@contextmanager
def trusted_fleet(place: Path, **settings: object) -> Iterator[World]:
    """Everything running."""
    with config_home(place / "config"):
        world = World(found_fleet(place / "config" / "fleet", **settings), place)
        world.start()
        try:
            yield world
        finally:
            world.stop()


def eventually(true: Callable[[], object], timeout_s: float = 20.0) -> bool:
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        if true():
            return True
        time.sleep(0.02)
    return bool(true())


def hashes_of(accounts_file: Path) -> dict[str, str]:
    """User name -> hash, as the broker holds them."""
    document = json.loads(accounts_file.read_bytes())
    return {client["username"]: client["password"] for client in document["clients"]}


__all__ = [
    "OBSERVER",
    "World",
    "config_home",
    "eventually",
    "found_fleet",
    "hash_password",
    "hashes_of",
    "trusted_fleet",
]
