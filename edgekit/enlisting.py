"""What `flash` needs of the fleet: a board that was flashed is a member, one that was taken down is revoked."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.errors import UnknownAccountError

if TYPE_CHECKING:
    from edgekit.flashing.updates import Releases
    from edgekit.trust.fleet_folder import Fleet

DASHBOARD_PORT = 8080
"""Of `edgekit fleet up`, where its ``--port`` says nothing else."""


class FleetMembership:
    """The host's side of trust, as `edgekit.flashing` is handed it.

    Args:
        fleet: Whose boards.
        again: Also a name that is taken or revoked gets a token; its old identity ends.
        updates: Folder of its repository, which may not be there yet; None for none.
    """

    def __init__(self, fleet: Fleet, *, again: bool = False, updates: Path | None = None) -> None:
        self._fleet, self._again = fleet, again
        settings = fleet.settings
        self.broker = f"mqtts://{settings.url_host}:{settings.port}"
        self.releases = _releases(updates, f"https://{settings.url_host}:{DASHBOARD_PORT}/updates/")

    def invite(self, site: str, device: str, hours: float | None = None) -> str:
        """A one-time token.

        Args:
            site: Id of the site.
            device: Id of the board.
            hours: How long it is good; a quarter of an hour by default.

        Raises:
            AlreadyEnrolledError: The name is taken.
        """
        from edgekit.trust.enrolment import Enrolment

        return Enrolment(self._fleet).invite(f"{site}.{device}", again=self._again, hours=hours).to_text()

    def revoke(self, site: str, device: str) -> bool:
        """Throw a board out; False if it is no member."""
        from edgekit.trust.registry import REVOKED

        try:
            self._fleet.registry.set_state(f"{site}.{device}", REVOKED, time.time(), by="flash --remove")
        except UnknownAccountError:
            return False
        return True


def membership(folder: Path | None = None, *, again: bool = False) -> FleetMembership | None:
    """The fleet of this machine; None where `edgekit fleet init` never ran."""
    from edgekit.trust.fleet_folder import SETTINGS, Fleet

    fleet, updates = Fleet(folder), Path(os.environ.get("EDGEKIT_UPDATES") or "updates")
    return FleetMembership(fleet, again=again, updates=updates) if (fleet.folder / SETTINGS).is_file() else None


def _releases(folder: Path | None, url: str) -> Releases | None:
    from edgekit.flashing.updates import Releases
    from edgekit.publishing.reading import RepositoryFiles

    files = RepositoryFiles(folder) if folder is not None else None
    return Releases(url, files.roots()) if files is not None and files.exists else None
