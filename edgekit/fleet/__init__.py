"""Watching boards: a broker for one machine, a store, a collector, a live table.

SQLAlchemy, iotcore and rich load when the verb that needs them is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgekit.fleet.broker import EmbeddedBroker
    from edgekit.fleet.collector import Collector, CollectorOptions
    from edgekit.fleet.live import render
    from edgekit.fleet.snapshot import BoardSnapshot, FleetSnapshot
    from edgekit.fleet.store import Store

__all__ = [
    "BoardSnapshot",
    "Collector",
    "CollectorOptions",
    "EmbeddedBroker",
    "FleetSnapshot",
    "Store",
    "render",
]

_HOMES = {
    "BoardSnapshot": "snapshot",
    "Collector": "collector",
    "CollectorOptions": "collector",
    "EmbeddedBroker": "broker",
    "FleetSnapshot": "snapshot",
    "Store": "store",
    "render": "live",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
