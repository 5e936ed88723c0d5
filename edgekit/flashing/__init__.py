"""Putting a bundle on a board: targets, the steps that change it, and the verb `flash`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgekit.flashing.flashed import Flashed
    from edgekit.flashing.procedure import flash
    from edgekit.flashing.targets import FolderTarget, parse_target

__all__ = ["Flashed", "FolderTarget", "flash", "parse_target"]

_WHERE = {"Flashed": "flashed", "FolderTarget": "targets", "flash": "procedure", "parse_target": "targets"}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
