"""Keeps everything in a list: for tests, and for programs that embed the runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit_device.publish.outlet import OutletState

if TYPE_CHECKING:
    from edgekit_device.contract.topics import Kind
    from edgekit_device.publish.outlet import Heard


class Memory:
    """A publisher without a link.

    Attributes:
        sent: Every document with its kind, oldest first.
        statuses: Every status, oldest first.
    """

    def __init__(self) -> None:
        self.sent: list[tuple[Kind, bytes]] = []
        self.statuses: list[bytes] = []

    def start(self, status: bytes) -> None:
        """Keep the first status."""
        self.statuses.append(status)

    def announce(self, status: bytes) -> None:
        """Keep a status."""
        self.statuses.append(status)

    def send(self, kind: Kind, payload: bytes) -> None:
        """Keep a document."""
        self.sent.append((kind, payload))

    def heard(self) -> tuple[Heard, ...]:
        """Nobody answers here."""
        return ()

    def state(self) -> OutletState:
        """Always connected."""
        return OutletState(True, None, len(self.sent), 0, 0)

    def close(self, status: bytes) -> None:
        """Keep the last status."""
        self.statuses.append(status)
