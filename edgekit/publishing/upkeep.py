"""Keeps a repository fresh: signed again online while `fleet up` runs, and an alarm before anything in it ends."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from edgekit.publishing.errors import PublishingError
from edgekit.publishing.keys import UpdateKeys
from edgekit.publishing.reading import alarm_at
from edgekit.publishing.repository import Repository

LOOK_S = 60.0
_REMEDY = {
    "root": "sign it again where the offline keys are: edgekit fleet publish --renew",
    "targets": "sign it again where the offline keys are: edgekit fleet publish --renew",
    "snapshot": "edgekit fleet up signs it each day, where online.key is",
    "timestamp": "edgekit fleet up signs it each day, where online.key is",
}
_ONLINE = ("snapshot", "timestamp")


class Upkeep:
    """One repository, looked after.

    Args:
        folder: Where it lies; it may come later.
        keys: The online one is enough.
        say: Told what goes wrong, one line each.
    """

    def __init__(
        self, folder: Path, keys: UpdateKeys | None = None, say: Callable[[str], None] = lambda line: None
    ) -> None:
        self._repository, self._say = Repository(folder, keys), say
        self._trouble = ""
        self._ends: dict[str, datetime] = {}

    def run(self, stop: threading.Event) -> None:
        """Look until `stop` is set; the first look is at once."""
        while True:
            self.look()
            if stop.wait(LOOK_S):
                return

    def look(self, now: datetime | None = None) -> bool:
        """Show what was published elsewhere, sign again what is a day old; True if something was signed."""
        signed = False
        try:
            if self._repository.exists:
                signed = self._repository.resign(now)
                self._ends = self._repository.expiries()
            self._trouble = ""
        except (PublishingError, OSError) as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                self._say(f"the repository of releases cannot be kept fresh: {error}")
        return signed

    def ends(self, now_s: float) -> list[tuple[str, str]]:
        """What ends soon, as (severity, text): 90 days before, for what lives so long.

        Args:
            now_s: Seconds since 1970.
        """
        now = datetime.fromtimestamp(now_s, UTC)
        found = []
        for role, end in self._ends.items():
            if now < alarm_at(end, role):
                continue
            left = (end - now).days
            word = f"ends in {left} days, on {end:%Y-%m-%d}" if now < end else f"has ended on {end:%Y-%m-%d}"
            late = now >= end or (role not in _ONLINE and left < 14)
            text = f"updates over the air: {role} {word}; {_REMEDY[role]}. What runs goes on"
            found.append(("critical" if late else "warning", text))
        if self._trouble:
            found.append(("warning", f"updates over the air: {self._trouble}"))
        return found
