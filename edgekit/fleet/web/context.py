"""What every page, stream and API route works with."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import select
from starlette.exceptions import HTTPException
from starlette.requests import Request

from edgekit.fleet.alerts import Alarm
from edgekit.fleet.batch import BoardKey
from edgekit.fleet.store import Store
from edgekit.fleet.tables import desired, reported
from edgekit.fleet.web.board_now import BoardNow
from edgekit.fleet.web.guard import Keeper
from edgekit.fleet.web.sessions import Session
from edgekit.fleet.web.wall import Wall
from edgekit_device.contract.asking import Answer


class Joins(Protocol):
    """Boards that ask to join, and who decides about them; see `edgekit.trust.joining`."""

    @property
    def open_s(self) -> float:
        """For how many more seconds boards may ask."""
        ...

    @property
    def pin(self) -> str:
        """Fingerprint of the fleet's authority."""
        ...

    @property
    def place(self) -> str:
        """Where boards ask."""
        ...

    def open(self) -> None:
        """Let boards ask for a while."""
        ...

    def close(self) -> None:
        """Let no more ask."""
        ...

    def waiting(self) -> Sequence[Any]:
        """Who waits."""
        ...

    def decide(self, number: str, code: str, *, admit: bool) -> str:
        """Admit a board or refuse it; gives its name."""
        ...


@dataclass
class Context:
    """The parts of a running dashboard.

    Attributes:
        watch: Asks a board for faster Readings while somebody looks; False if it cannot be asked.
        stopping: True once the program ends: streams then end too.
        note: Shown on every page, e.g. that this is a demo; empty for none.
        now: Seconds since 1970.
        members: Boards that were enrolled; None where nothing is enrolled.
        joins: Boards that ask to join; None where none can.
        ask: Asks a board; None where nothing can be asked.
        updates: Folder of the repository that boards fetch releases from; None for none.
        check_release: Refuses, by an error of ours, a release that boards could not fetch.
    """

    store: Store
    wall: Wall
    alarm: Alarm
    keeper: Keeper
    watch: Callable[[BoardKey], bool] = lambda board: False
    stopping: Callable[[], bool] = lambda: False
    note: str = ""
    now: Callable[[], float] = time.time
    every_s: float = 1.0
    members: Callable[[], list[dict[str, object]]] | None = None
    ask: Callable[[BoardKey, str], Answer] | None = None
    joins: Joins | None = None
    updates: Path | None = None
    check_release: Callable[[str], None] = lambda _: None
    streams: list[int] = field(default_factory=lambda: [0])

    def now_ms(self) -> int:
        """The host's clock."""
        return int(self.now() * 1000)

    def board(self, request: Request, site: str, device: str) -> BoardNow:
        """A board that this person may see.

        Raises:
            HTTPException: 404; the same whether there is none or it is somebody else's.
        """
        found = self.wall.latest().boards.get(BoardKey(site, device))
        if found is None or not who(request).may_see(site):
            raise HTTPException(404, "there is no such board")
        return found

    def wishes(self, board: BoardNow) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        """What the board should run, and what it says it runs: documents of the contract, or None."""
        with self.store.reading() as connection:
            found = [
                connection.execute(select(table.c.document).where(table.c.board == board.number)).scalar()
                for table in (desired, reported)
            ]
        documents = [json.loads(bytes(document)) if document else None for document in found]
        return documents[0], documents[1]


def who(request: Request) -> Session:
    """Who asks; the guard has let them in."""
    session: Session = request.scope["session"]
    return session
