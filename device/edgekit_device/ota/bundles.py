"""Bundles as something to follow: how one stands in the slots."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit_device.ota.follower import Standing
from edgekit_device.releases import current, entered
from edgekit_device.verdicts import verdict_of

if TYPE_CHECKING:
    from edgekit_device.contract.desired import Desired


class BundleGoal:
    """The bundle that `desired` names.

    Args:
        slots: Folder of the slots.
        serving: Names the bundle that serves now.
    """

    kind = "bundle"

    def __init__(self, slots: Path, serving: Callable[[], str]) -> None:
        self._slots, self._serving = slots, serving

    def wanted(self, desired: Desired) -> str | None:
        """What is asked for."""
        return desired.bundle

    def standing(self, name: str) -> Standing:
        """How it stands here.

        Raises:
            SlotError: The releases cannot be read.
            OSError: The same.
        """
        serving = current(self._slots)
        verdict = verdict_of(self._slots, name)
        return Standing(
            verdict.state,
            verdict.reason,
            serving is not None and serving.bundle_id == name,
            self._serving() == name,
            name in entered(self._slots),
        )
