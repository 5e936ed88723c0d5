"""How one board speaks MQTT, with the defaults in sight."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgekit_device import health
from edgekit_device.publish.access import AccessSource
from edgekit_device.publish.home_assistant import Discovery
from edgekit_device.publish.messages import Limits
from edgekit_device.publish.reconnecting import reconnect_delay_s
from edgekit_device.publish.session import KEEPALIVE_S


@dataclass(frozen=True)
class MqttOptions:
    """How one board speaks.

    Attributes:
        access: Where user name, password and certificates are read at each connection; None is nobody.
        outbox: Folder of the outbox; None keeps unacknowledged messages in memory only.
        limits: How much is kept, and when it is sent again.
        clock: Says ``synced``, ``unsynced`` or ``unknown``.
        delay_s: Seconds before the next attempt to connect, by its number.
        keepalive_s: Longest silence before a ping.
        home_assistant: What to announce there; None announces nothing.
    """

    access: AccessSource | None = None
    outbox: Path | None = None
    limits: Limits | None = None
    clock: Callable[[], str] = health.clock
    delay_s: Callable[[int], float] = reconnect_delay_s
    keepalive_s: int = KEEPALIVE_S
    home_assistant: Discovery | None = None
