"""What the host asks of a board, what the board makes of it, and how it says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit_device.board_kind import own_kind
from edgekit_device.contract.desired import WATCH_S, Desired, Watch
from edgekit_device.contract.reported import Reported

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgekit_device.contract.reported import Update

_NOT_LIVE = "this version takes it from device.toml or the bundle only"
_UNKNOWN = "this version does not know it"
_MOST_NAMED = 32
_NO_UPDATES = "this run does not update over the air: it follows no slots; flash the board"
_NO_RUNTIMES = "this run was not started by the launcher, so its runtime stays; flash the board"


class Wishes:
    """Follows `desired` and `watch`; times are monotonic and given.

    Args:
        interval_s: Seconds between Readings that the board was started with.
    """

    def __init__(self, interval_s: float) -> None:
        self._own_s = interval_s
        self._desired = Desired()
        self._watch_s, self._watched_until_s = interval_s, 0.0

    def hear(self, wish: Desired | Watch, now_s: float) -> None:
        """Take a wish; a watcher who stops asking is forgotten after a minute at most."""
        if isinstance(wish, Watch):
            self._watch_s = wish.interval_s
            self._watched_until_s = now_s + min(wish.seconds, WATCH_S)
        else:
            self._desired = wish

    def interval_s(self, now_s: float) -> float:
        """Seconds between Readings now: never slower for being watched."""
        settled = self.settled_s
        return min(settled, self._watch_s) if now_s < self._watched_until_s else settled

    @property
    def settled_s(self) -> float:
        """Seconds between Readings when nobody watches."""
        return self._own_s if self._desired.interval_s is None else self._desired.interval_s

    def refused(
        self, bundle: str | None, update: Update | None = None, runtime: Update | None = None
    ) -> Mapping[str, str]:
        """What of `desired` this board does not follow, and why.

        Args:
            bundle: What runs.
            update: How far the board is with the bundle; None where it follows none.
            runtime: The same of the runtime.
        """
        wanted = self._desired
        found = {key: _NOT_LIVE for key in ("thresholds", "region") if getattr(wanted, key) is not None}
        found |= dict.fromkeys(sorted(wanted.extra)[:_MOST_NAMED], _UNKNOWN)
        if wanted.bundle is not None and wanted.bundle != bundle:
            if update is None:
                found["bundle"] = _NO_UPDATES
            elif update.state in ("refused", "rolled_back"):
                found["bundle"] = update.reason or update.state
        if wanted.runtime is not None and runtime is None:
            found["runtime"] = _NO_RUNTIMES
        elif runtime is not None and runtime.state in ("refused", "rolled_back"):
            found["runtime"] = runtime.reason or runtime.state
        return found

    def reported(
        self,
        boot: str,
        bundle: str | None,
        delegate: str | None,
        reason: str | None,
        update: Update | None = None,
        runtime: Update | None = None,
    ) -> Reported:
        """The document that answers `desired`.

        Args:
            boot: This start of the board.
            bundle: What runs.
            delegate: The rung that serves; None before it does.
            reason: Trouble in words.
            update: How far the board is with the bundle that is asked for.
            runtime: How far it is with the runtime that is asked for.
        """
        health = "serving" if delegate else "trouble" if reason else "starting"
        refused = self.refused(bundle, update, runtime)
        kind = own_kind()
        return Reported(
            boot,
            bundle,
            health,
            reason,
            self.settled_s,
            refused=refused,
            update=update,
            runtime_update=runtime,
            kind=kind,
        )
