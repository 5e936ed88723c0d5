"""Updates in Home Assistant: what runs, what is offered, its notes, how far it is; and the button that installs it.

The host says all of it, for only the host knows what is published. The button begins a rollout of one board, with the
same gates.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from edgekit.errors import EdgeKitError
from edgekit.fleet import audit
from edgekit.fleet.rollouts import orders
from edgekit.fleet.rollouts.looking import Look, Standing
from edgekit.fleet.rollouts.plan import Plan
from edgekit_device.contract.ids import split_bundle_id

if TYPE_CHECKING:
    from edgekit.fleet.announcing import Announcer
    from edgekit.fleet.batch import BoardKey
    from edgekit.fleet.store import Store

WHO = "Home Assistant"
_BUSY = ("waiting", "fetching", "verifying", "trying")
_EVERY_S = 3.0
# Home Assistant cuts it there.
_NOTES = 255


class Offered(NamedTuple):
    """A published bundle.

    Attributes:
        bundle: ``NAME-VERSION``.
        notes: What its publisher wrote.
    """

    bundle: str
    notes: str = ""


def newest_for(release: str | None, offered: Sequence[Offered]) -> Offered | None:
    """The latest published version of what runs; None if there is none of this name."""
    if release is None:
        return None
    name, _ = split_bundle_id(release)
    same = [offer for offer in offered if split_bundle_id(offer.bundle)[0] == name]
    return max(same, key=lambda offer: _number(offer.bundle), default=None)


def state_of(board: Standing, offered: Sequence[Offered]) -> bytes:
    """The document that Home Assistant's update entity reads.

    Args:
        board: What it says of itself.
        offered: What is published.
    """
    newest = newest_for(board.release, offered)
    later = newest is not None and _number(newest.bundle) > _number(board.release or "")
    update = board.update
    busy = update is not None and update.state in _BUSY and update.bundle != board.release
    latest = newest.bundle if newest is not None and later else board.release
    if busy and update is not None:
        latest = update.bundle
    share = update.progress if busy and update is not None and update.state == "fetching" else None
    document: Mapping[str, object] = {
        "installed_version": board.release,
        "latest_version": latest,
        "title": "Model",
        "release_summary": (newest.notes[:_NOTES] or None) if newest is not None and latest == newest.bundle else None,
        "in_progress": busy,
        "update_percentage": None if share is None else round(100 * share),
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8")


class HomeUpdates:
    """Keeps Home Assistant's picture up to date; used by one thread.

    Args:
        store: What boards say.
        announcer: The connection to Home Assistant's broker.
        offered: What is published now.
    """

    def __init__(self, store: Store, announcer: Announcer, offered: Callable[[], Sequence[Offered]]) -> None:
        self._store, self._announcer, self._offered = store, announcer, offered
        self._look, self._next_s = Look(), 0.0
        self.problem: str | None = None

    def step(self) -> None:
        """Announce, say what changed, and begin what somebody asked for; cheap to call often."""
        wanted = self._announcer.wanted()
        if not wanted and time.monotonic() < self._next_s:
            return
        self._next_s = time.monotonic() + _EVERY_S
        try:
            with self._store.reading() as connection:
                boards = list(self._look.boards(connection).values())
            offered = self._offered()
            self._announcer.tell(board.board for board in boards)
            for board in boards:
                if board.release is not None:
                    self._announcer.show(board.board, state_of(board, offered))
            for key in wanted:
                self._install(key, boards, offered)
            self.problem = None
        except (EdgeKitError, OSError) as error:
            self.problem = f"Home Assistant: {error}"

    def _install(self, key: BoardKey, boards: Sequence[Standing], offered: Sequence[Offered]) -> None:
        board = next((each for each in boards if each.board == key), None)
        newest = newest_for(board.release, offered) if board else None
        if board is None or newest is None or newest.bundle == board.release:
            return
        plan = Plan(waves=("100%",), where=f"site={key.site} and device={key.device}")
        try:
            orders.start(self._store, newest.bundle, plan, WHO)
        except EdgeKitError as error:
            audit.record(self._store, audit.on_board(WHO, "update asked for", key, str(error), newest.bundle))


def _number(bundle: str) -> tuple[int, ...]:
    return tuple(map(int, split_bundle_id(bundle)[1].split("."))) if bundle else ()
