"""Who may say and hear what: one table, from which every broker's rules are written and which gate E5 tries.

Pure. What is not in the table is refused. The topics are those of the contract: a new kind of message of the board
or of the host is in the table as soon as the contract names its sender.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from edgekit_device.contract.ids import check_id
from edgekit_device.contract.topics import ANSWER, KINDS, PREFIX, STATUS

BOARD, COLLECTOR, VIEWER, ADMINISTRATOR = "board", "collector", "viewer", "administrator"
ROLES = (BOARD, COLLECTOR, VIEWER, ADMINISTRATOR)
CONTROL = "$CONTROL/dynamic-security"
# The collector tries its broker here before it relies on it.
PROOF_SITE = "edgekit-proof"
# No id holds a dot, and a board's account holds one: these names can never be a board's.
COLLECTOR_PURPOSES = ("link", "voice", "proof", "web", "watch", "ask", "logs")


class Rule(NamedTuple):
    """What one role may do with one filter of topics; False means refused.

    Attributes:
        role: Whose rule.
        topic: A filter; ``{site}`` and ``{device}`` stand for the board's own ids.
        publish: May send there.
        subscribe: May ask for it, and gets it.
        will: May leave it as its last will.
        retain: What it sends may be kept by the broker.
    """

    role: str
    topic: str
    publish: bool = False
    subscribe: bool = False
    will: bool = False
    retain: bool = False


def _own(name: str) -> str:
    return f"{PREFIX}/{{site}}/{{device}}/{name}"


def _any(name: str) -> str:
    return f"{PREFIX}/+/+/{name}"


def _table() -> Iterator[Rule]:
    for kind in KINDS.values():
        if kind.sender == "device":
            # Its own status as well: a Last Will of an earlier connection can come late, and is contradicted.
            own = kind is STATUS
            yield Rule(BOARD, _own(kind.name), publish=True, subscribe=own, will=own, retain=kind.retain)
            yield Rule(COLLECTOR, _any(kind.name), subscribe=True)
            if kind is ANSWER:
                # Logs and pictures are for whoever asked: no share takes them, no viewer sees them.
                continue
            yield Rule(COLLECTOR, f"$share/+/{_any(kind.name)}", subscribe=True)
            yield Rule(VIEWER, _any(kind.name), subscribe=True)
        else:
            yield Rule(BOARD, _own(kind.name), subscribe=True)
            yield Rule(COLLECTOR, _any(kind.name), publish=True, retain=kind.retain)
    proof = f"{PREFIX}/{PROOF_SITE}/+/ack"
    yield Rule(COLLECTOR, proof, publish=True, subscribe=True, retain=True)
    yield Rule(COLLECTOR, f"$share/+/{proof}", subscribe=True)
    # What the dashboard tells of boards that need somebody; no site can be called so and hold a board's topics.
    yield Rule(COLLECTOR, f"{PREFIX}/alerts/+", publish=True)
    yield Rule(VIEWER, f"{PREFIX}/alerts/+", subscribe=True)
    yield Rule(ADMINISTRATOR, f"{CONTROL}/v1", publish=True)
    yield Rule(ADMINISTRATOR, f"{CONTROL}/v1/response", subscribe=True)


TABLE: tuple[Rule, ...] = tuple(_table())
# The last levels of topics on which anybody may leave something behind.
RETAINED = tuple(sorted({kind.name for kind in KINDS.values() if kind.retain}))


def rules_for(role: str, site: str = "", device: str = "") -> tuple[Rule, ...]:
    """The rows of one role; those of a board with its ids filled in.

    Raises:
        UsageError: An id that is no id: it could be topic syntax.
    """
    rows = tuple(rule for rule in TABLE if rule.role == role)
    if role != BOARD:
        return rows
    ids = {"site": check_id("site", site), "device": check_id("device", device)}
    return tuple(rule._replace(topic=rule.topic.format(**ids)) for rule in rows)


def matches(pattern: str, topic: str) -> bool:
    """Whether a topic lies in a filter: ``+`` is one level, ``#`` the rest; neither matches a ``$`` at the front."""
    wanted, found = pattern.split("/"), topic.split("/")
    if topic.startswith("$") and wanted[0] in ("+", "#"):
        return False
    for number, level in enumerate(wanted):
        if level == "#":
            return True
        if number >= len(found) or (level != "+" and level != found[number]):
            return False
    return len(wanted) == len(found)


def may(rules: tuple[Rule, ...], verb: str, topic: str) -> bool:
    """What the table says.

    Args:
        rules: Of one account.
        verb: ``publish``, ``subscribe``, ``will`` or ``retain``.
        topic: A topic, without wildcards.
    """
    return any(getattr(rule, verb) and matches(rule.topic, topic) for rule in rules)


def in_words() -> str:
    """The table for the administrator of another broker, as Markdown."""
    lines = ["| role | topic | publish | subscribe | last will | retain |", "|---|---|---|---|---|---|"]
    for rule in TABLE:
        cells = ("yes" if value else "-" for value in rule[2:])
        lines.append(f"| {rule.role} | `{rule.topic}` | {' | '.join(cells)} |")
    return "\n".join(lines)
