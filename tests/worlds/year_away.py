"""A board is switched off for 400 days: its certificate has ended, the broker's was renewed. Then it comes back.

A program of its own: the wall clock of every process in it is stepped, by tools/gates/clock_shift.c.
"""

from __future__ import annotations

import json
import os
import ssl
import sys
import time
from pathlib import Path

from edgekit.trust import authority
from edgekit_device.contract.errors import EnrolmentError
from edgekit_device.enrolling import renew
from edgekit_device.identity import IdentityStore
from edgekit_device.publish.tls import client_context, words_of
from edgekit_device.renewing import Renewer
from edgekit_device.trusted_time import TrustedTime
from tests.worlds.peer import Peer
from tests.worlds.trusted_fleet import World, trusted_fleet

_DAYS = 400


def connects(world: World, store: IdentityStore) -> bool:
    """Whether the board gets in with what it has."""
    held = store.read()
    peer = Peer(world.fleet.settings.port, world.fleet.authority_file, held.name, held.password, identity=store.pair)
    found = peer.connected
    peer.close()
    return found


def why(world: World, store: IdentityStore) -> str:
    """What the board's own TLS says of the broker."""
    import socket

    held = store.read()
    try:
        context = client_context(held.authority, store.pair, store.times)
        with socket.create_connection(("127.0.0.1", world.fleet.settings.port)) as link:
            with context.wrap_socket(link, server_hostname="127.0.0.1") as secure:
                secure.settimeout(5)
                secure.recv(1)
    except (OSError, ssl.SSLError) as error:
        return words_of(error)
    return ""


def main() -> None:
    """Enrol, wait, come back; says what happened at each step."""
    place, shift = Path(sys.argv[1]), Path(os.environ["CLOCK_SHIFT"])
    found: dict[str, object] = {}
    with trusted_fleet(place, require_certificate=True) as world:
        porch, barn = world.enroll("home.porch")[0], world.enroll("home.barn")[0]
        porch.times = TrustedTime(porch.folder / "seen", lambda: "synced")
        found["before"] = connects(world, porch)
        fresh = shift.with_suffix(".new")
        fresh.write_text(f"{_DAYS * 86_400}\n")
        fresh.replace(shift)
        found["days"] = round((time.time() - os.stat(shift).st_mtime) / 86_400)
        found["broker_expired"] = why(world, porch)
        world.service.renew()
        found["broker_days_left"] = (
            authority.expiry(world.fleet.broker.certificate).timestamp() - time.time()
        ) / 86_400
        until = time.monotonic() + 10
        while "broker says" not in why(world, porch) and time.monotonic() < until:
            time.sleep(0.1)
        found["board_expired"] = why(world, porch)
        found["with_the_old"] = connects(world, porch)
        said: list[str] = []
        renewer = Renewer(porch, said.append)
        found["due"] = renewer.due()
        renewer.start()
        while not said and time.monotonic() < until + 10:
            time.sleep(0.05)
        renewer.stop()
        found["said"] = said
        found["after"] = connects(world, porch)
        # The other one has no battery: its clock begins in 1970.
        barn.times = TrustedTime(barn.folder / "seen", lambda: "unsynced", lambda: 12.0)
        try:
            renew(barn)
        except EnrolmentError as error:
            found["barn"] = str(error)
        found["after_in_1970"] = connects(world, barn)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
