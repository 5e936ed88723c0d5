"""Gate E5: everybody tries everything on somebody else's topics, and an observer says what really happened.

What is expected comes from the table that the broker's rules were written from; what happened comes from the broker.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from edgekit.trust.registry import REVOKED
from edgekit.trust.rules import ADMINISTRATOR, BOARD, COLLECTOR, VIEWER, Rule, may, rules_for
from edgekit_device.contract.topics import KINDS, PREFIX
from tests.worlds.peer import V5, V311, Peer
from tests.worlds.trusted_fleet import OBSERVER, World, eventually

VERBS = ("publish", "retain", "will", "subscribe", "client id")
VICTIM = "home.victim"
FILTERS = (
    "#", "+/+/+/+/+", f"{PREFIX}/#", f"{PREFIX}/home/+/ack", f"{PREFIX}/home/+/answer", f"$share/g/{PREFIX}/+/+/answer",
    f"{PREFIX}/+/victim/#", "$SYS/#", "$CONTROL/#",
    f"$share/g/{PREFIX}/home/victim/telemetry", f"$share/g/{PREFIX}/#", "$share/g/#",
)  # fmt: skip


class Who(NamedTuple):
    """One identity that tries.

    Attributes:
        name: For people.
        user: User name; None sends none.
        password: Password; None sends none.
        rules: What the table allows it; nothing for those who should not get in.
    """

    name: str
    user: str | None
    password: str | None
    rules: tuple[Rule, ...]


class Cell(NamedTuple):
    """One try."""

    who: str
    verb: str
    topic: str
    version: int
    expected: bool
    happened: bool
    own: bool = False


def topics_of(board: str) -> list[str]:
    """Twelve topics: every kind of the contract for this board, and two that are nobody's."""
    site, _, device = board.partition(".")
    kinds = [f"{PREFIX}/{site}/{device}/{kind}" for kind in sorted(KINDS)]
    return [*kinds, "$CONTROL/dynamic-security/v1", f"homeassistant/device/edgekit_{site}_{device}/config"]


def identities(world: World, boards: int) -> list[Who]:
    """Boards, a board of that id at another site, a revoked one, strangers, and the accounts of the host."""
    found = []
    for name in [f"home.b{number:02d}" for number in range(boards)] + ["away.victim", "home.victim-2"]:
        _, identity = world.enroll(name)
        found.append(Who(name, name, identity.password, rules_for(BOARD, *name.split("."))))
    _, gone = world.enroll("home.gone")
    world.fleet.registry.set_state("home.gone", REVOKED, time.time())
    assert eventually(lambda: any("1 account" in line for line in world.said))
    found.append(Who("home.gone, revoked", "home.gone", gone.password, ()))
    found.append(Who("wrong password", VICTIM, "guess", ()))
    found.append(Who("never enrolled", "home.stranger", "guess", ()))
    found.append(Who("anonymous", None, None, ()))
    collector, administrator = world.fleet.account("collector-local"), world.fleet.account("administrator")
    found.append(Who("collector", f"{collector.user}.link", collector.password, rules_for(COLLECTOR)))
    found.append(Who("administrator", administrator.user, administrator.password, rules_for(ADMINISTRATOR)))
    assert VIEWER
    return found


def run(world: World, whos: Sequence[Who], versions: Sequence[int] = (V311, V5)) -> list[Cell]:
    """Everybody tries everything; gives a cell for each."""
    port, authority = world.fleet.settings.port, world.fleet.authority_file
    eye = Peer(port, authority, OBSERVER, world.add_observer())
    assert eye.connected, eye.refusal
    eye.subscribe("#")
    cells: list[Cell] = []
    for version in versions:
        for who in whos:
            cells += _tries(world, eye, who, topics_of(VICTIM), version, own=False)
            if who.rules and who.rules[0].role == BOARD and version == V5:
                cells += _tries(world, eye, who, topics_of(str(who.user)), version, own=True)
            cells += _filters(world, eye, who, version)
    eye.close()
    return cells + _takeovers(world, port, authority, whos, versions)


def _connect(world: World, who: Who, version: int, **more: object) -> Peer:
    settings = world.fleet.settings
    return Peer(
        settings.port,
        world.fleet.authority_file,
        who.user,
        who.password,
        version=version,
        client_id="x",
        **more,  # type: ignore[arg-type]
    )


def _tries(world: World, eye: Peer, who: Who, topics: Sequence[str], version: int, *, own: bool) -> list[Cell]:
    cells = []

    def mark(verb: str, topic: str) -> bytes:
        return f"{verb}:{who.name}:{version}:{topic}".encode()

    def add(verb: str, topic: str, happened: bool) -> None:
        # A retained message is sent first and kept then: both must be allowed.
        expected = version == V5 and may(who.rules, "publish" if verb in ("retain", "will") else verb, topic)
        if verb == "retain":
            expected = expected and may(who.rules, "retain", topic)
        # The broker knows no verb for wills: it sends them as the client would have.
        cells.append(Cell(who.name, verb, topic, version, expected, happened, own))

    speaker = _connect(world, who, version)
    answers = speaker.subscribe(*topics)
    told = {}
    for topic in topics:
        told[topic] = speaker.publish(topic, mark("publish", topic))
        speaker.publish(topic, mark("retain", topic), retain=True)
    for topic in topics:
        if not topic.startswith("$"):
            eye.publish(topic, mark("subscribe", topic))
    eye.barrier()
    speaker.barrier()
    for topic in topics:
        heard = mark("subscribe", topic) in speaker.payloads()
        if topic.startswith("$"):
            # No observer can speak there; the broker's answers say what was allowed.
            heard = bool(answers) and "Granted" in answers[topics.index(topic)]
            add("subscribe", topic, heard)
            add("publish", topic, told[topic] not in (None, "Not authorized"))
            continue
        add("subscribe", topic, heard)
        add("publish", topic, mark("publish", topic) in eye.payloads())
        add("retain", topic, (topic, mark("retain", topic), True) in eye.messages)
    speaker.close()
    for topic in topics:
        if topic.startswith("$"):
            continue
        dying = _connect(world, who, version, will=(topic, mark("will", topic), False))
        dying.vanish()
        for _ in range(3):
            eye.publish("edgekit/barrier", b"")
        eye.barrier()
        add("will", topic, mark("will", topic) in eye.payloads())
    # The next one must not meet what this one left.
    for topic in topics:
        if not topic.startswith("$"):
            eye.publish(topic, b"", retain=True)
    return cells


def _filters(world: World, eye: Peer, who: Who, version: int) -> list[Cell]:
    """A granted filter is harmless if nothing of others comes by it: what counts is what arrives."""
    if not who.rules or who.rules[0].role != BOARD:
        return []
    speaker = _connect(world, who, version)
    cells = []
    for wanted in FILTERS:
        speaker.subscribe(wanted)
        secret = f"secret:{who.name}:{version}:{wanted}".encode()
        for topic in topics_of(VICTIM)[:8]:
            eye.publish(topic, secret)
        eye.barrier()
        speaker.barrier()
        cells.append(Cell(who.name, "subscribe", wanted, version, False, secret in speaker.payloads()))
    speaker.close()
    return cells


def _takeovers(world: World, port: int, authority: Path, whos: Sequence[Who], versions: Sequence[int]) -> list[Cell]:
    """Everybody connects under the client ids of ten who are connected."""
    victims = [who for who in whos if who.rules and who.rules[0].role == BOARD][:9]
    _, identity = world.enroll(VICTIM)
    victims.append(Who(VICTIM, VICTIM, identity.password, rules_for(BOARD, "home", "victim")))
    cells = []
    held = {victim.name: _connect(world, victim, V5) for victim in victims}
    assert all(peer.connected for peer in held.values())
    for version in versions:
        for who in whos:
            for victim in victims:
                if victim.user == who.user and who.rules:
                    continue
                thief = Peer(port, authority, who.user, who.password, version=version, client_id=str(victim.user))
                thief.barrier()
                held[victim.name].barrier()
                gone = not held[victim.name].connected
                cells.append(Cell(who.name, "client id", str(victim.user), version, False, gone))
                thief.close()
                # The thief's own connection, if it has one, was thrown off by itself: it is the same account.
                if who.name in held and not held[who.name].connected:
                    held[who.name] = _connect(world, who, V5)
                if gone:
                    held[victim.name] = _connect(world, victim, V5)
            if who.name in held:
                held[who.name].close()
                held[who.name] = _connect(world, who, V5)
    for peer in held.values():
        peer.close()
    return cells
