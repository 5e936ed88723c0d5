"""The MQTT topics: ``edgekit/v1/<site>/<device>/<kind>``, MQTT 5 only."""

from __future__ import annotations

from typing import NamedTuple

from edgekit_device.contract.errors import UsageError
from edgekit_device.contract.ids import check_id

PREFIX = "edgekit/v1"


class Kind(NamedTuple):
    """How one kind of message is sent."""

    name: str
    qos: int
    retain: bool
    sender: str


STATUS = Kind("status", 1, True, "device")
TELEMETRY = Kind("telemetry", 1, False, "device")
EVENT = Kind("event", 1, False, "device")
RESULT = Kind("result", 0, False, "device")
REPORTED = Kind("reported", 1, True, "device")
DESIRED = Kind("desired", 1, True, "host")
ACK = Kind("ack", 1, True, "host")
WATCH = Kind("watch", 0, False, "host")
REQUEST = Kind("request", 0, False, "host")
ANSWER = Kind("answer", 0, False, "device")
KINDS = {kind.name: kind for kind in (STATUS, TELEMETRY, EVENT, RESULT, REPORTED, DESIRED, ACK, WATCH, REQUEST, ANSWER)}


class Address(NamedTuple):
    """Where a message came from or goes to."""

    site: str
    device: str
    kind: Kind


def topic(site: str, device: str, kind: Kind) -> str:
    """Build one topic; site and device are checked, so no topic level can be smuggled in."""
    return f"{PREFIX}/{check_id('site', site)}/{check_id('device', device)}/{kind.name}"


def subscription(kind: Kind, site: str = "+", device: str = "+") -> str:
    """Build a topic filter; ``+`` stands for every site or device."""
    levels = [level if level == "+" else check_id("id", level) for level in (site, device)]
    return f"{PREFIX}/{levels[0]}/{levels[1]}/{kind.name}"


def parse(name: str) -> Address | None:
    """Take a topic apart; None where it is not one of ours."""
    parts = name.split("/")
    if len(parts) != 5 or "/".join(parts[:2]) != PREFIX or parts[4] not in KINDS:
        return None
    try:
        return Address(check_id("site", parts[2]), check_id("device", parts[3]), KINDS[parts[4]])
    except UsageError:
        return None
