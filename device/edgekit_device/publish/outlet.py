"""What every publisher promises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from edgekit_device.contract.ack import Ranges
    from edgekit_device.contract.asking import Request
    from edgekit_device.contract.desired import Desired, Watch
    from edgekit_device.contract.topics import Kind


class OutletState(NamedTuple):
    """How publishing stands.

    Attributes:
        connected: Whether messages leave now.
        reason: Why not, with the remedy; None while connected.
        sent: Messages handed over and, on MQTT, acknowledged by the broker.
        waiting: Messages that the broker does not have, in memory and on disk.
        lost: Messages given up because neither memory nor disk had room.
        stored: Numbers of this start's messages that a collector has committed.
    """

    connected: bool
    reason: str | None
    sent: int
    waiting: int
    lost: int
    stored: Ranges = ()

    def has_stored(self, seq: int) -> bool:
        """Whether a collector has committed the message of this start with that number."""
        return any(low <= seq <= high for low, high in self.stored)


class Notice(NamedTuple):
    """Something that the publisher wants said as an event of the board."""

    kind: str
    reason: str | None
    detail: Mapping[str, Any]


Heard: TypeAlias = "Notice | Desired | Watch | Request"


class Outlet(Protocol):
    """A way out for one board's documents."""

    def start(self, status: bytes) -> None:
        """Begin; `status` is announced as soon as there is a link."""
        ...

    def announce(self, status: bytes) -> None:
        """Replace the retained status."""
        ...

    def send(self, kind: Kind, payload: bytes) -> None:
        """Hand over one document; never waits for the link or the disk."""
        ...

    def heard(self) -> Sequence[Heard]:
        """What came back since the last call: notices to be made events, and what the host asks for."""
        ...

    def state(self) -> OutletState:
        """How publishing stands."""
        ...

    def close(self, status: bytes) -> None:
        """Say goodbye with a last status and give the link back."""
        ...
