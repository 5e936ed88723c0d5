"""What every publisher promises."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from edgekit_device.contract.topics import Kind


class OutletState(NamedTuple):
    """How publishing stands.

    Attributes:
        connected: Whether messages leave now.
        reason: Why not, with the remedy; None while connected.
        sent: Messages handed over and, on MQTT, acknowledged by the broker.
        waiting: Messages held back until the link is there again.
        lost: Messages that did not fit into memory while the link was away.
    """

    connected: bool
    reason: str | None
    sent: int
    waiting: int
    lost: int


class Outlet(Protocol):
    """A way out for one board's documents."""

    def start(self, status: bytes) -> None:
        """Begin; `status` is announced as soon as there is a link."""
        ...

    def announce(self, status: bytes) -> None:
        """Replace the retained status."""
        ...

    def send(self, kind: Kind, payload: bytes) -> None:
        """Hand over one document; never waits for the link."""
        ...

    def state(self) -> OutletState:
        """How publishing stands."""
        ...

    def close(self, status: bytes) -> None:
        """Say goodbye with a last status and give the link back."""
        ...
