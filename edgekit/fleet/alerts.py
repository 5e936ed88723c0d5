"""The alerts engine at work: judge every board, note what changed, send it, and never let one outage be a storm."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from edgekit.errors import EdgeKitError
from edgekit.fleet import alerts_records as records
from edgekit.fleet.alerts_judging import SEVERITIES, Finding, judge
from edgekit.fleet.alerts_rules import EXPIRY_KIND, Rules
from edgekit.fleet.alerts_state import FLEET, Alert, AlertKey, Change, Ledger, Message, advance, messages, worth_sending
from edgekit.fleet.batch import BoardKey
from edgekit.fleet.web.baselines import NOTHING, Baseline

if TYPE_CHECKING:
    from edgekit.fleet.alerts_sending import Way
    from edgekit.fleet.store import Store
    from edgekit.fleet.web.board_now import BoardNow
    from edgekit.fleet.web.wall import Picture

_LOG = logging.getLogger(__name__)
# So many boards silent at once are not so many broken boards.
_MASS, _MASS_SHARE = 5, 0.5
_RETRY_S = (1.0, 5.0, 30.0)
_WAITING = 500


class Alarm:
    """Watches a picture of the fleet; `step` is called by one thread, everything else by any.

    Args:
        store: Where alerts are noted.
        rules: When a board needs somebody.
        baselines: What releases promise.
        problem: Why nothing can be heard of any board now; None while all is well.
        now: Seconds since 1970.
        ends: What of the fleet's own signatures and certificates ends soon, told the time: (severity, text).
    """

    def __init__(
        self,
        store: Store,
        rules: Rules,
        baselines: Mapping[str, Baseline] | None = None,
        problem: Callable[[], str | None] = lambda: None,
        now: Callable[[], float] = time.time,
        ends: Callable[[float], Sequence[tuple[str, str]]] = lambda _: (),
    ) -> None:
        self._store, self.rules, self.baselines = store, rules, dict(baselines or {})
        self._problem, self._now, self._ends = problem, now, ends
        self._lock = threading.Lock()
        self._ledger = Ledger(records.standing(store, int(now() * 1000)))
        self._findings: dict[BoardKey, tuple[Finding, ...]] = {}
        self._judged: Mapping[BoardKey, BoardNow] = {}
        self._unwritten: list[Change] = []
        self.sender = Sender([])

    def findings(self) -> Mapping[BoardKey, tuple[Finding, ...]]:
        """What is wrong now, held long or not; boards with nothing are left out."""
        return self._findings

    def standing(self) -> list[Alert]:
        """Alerts that stand, worst first."""
        return self._ledger.standing()

    def baseline(self, release: str | None) -> Baseline:
        """What a release promises."""
        return self.baselines.get(release or "", NOTHING)

    def step(self, picture: Picture) -> list[Change]:
        """Judge the fleet once; returns what began and what is over."""
        now_ms = int(self._now() * 1000)
        findings: dict[BoardKey, tuple[Finding, ...]] = {}
        for key, board in picture.boards.items():
            last = self._findings.get(key, ())
            if not last and self._judged.get(key) is board and not board.silent(now_ms):
                continue  # Nothing was wrong, and nothing is new.
            before = frozenset(f.kind for f in last)
            found = judge(board, self.rules, now_ms, self.baseline(board.release), before)
            if found:
                findings[key] = found
        self._findings, self._judged = findings, picture.boards
        flat = [(key, finding) for key, some in findings.items() for finding in some]
        flat += self._ending()
        problem = picture.problem or self._problem() or _mass_silence(picture, findings, now_ms)
        with self._lock:
            self._ledger, changes = advance(self._ledger, flat, problem, self.rules, now_ms)
        self._write(changes, now_ms)
        for message in messages(worth_sending(changes, now_ms), self.rules.digest_over):
            self.sender.put(message)
        return changes

    def _ending(self) -> list[tuple[BoardKey, Finding]]:
        """One alert for everything that ends: the worst severity, each in words."""
        ends = [] if EXPIRY_KIND in self.rules.off else sorted(self._ends(self._now()))
        if not ends:
            return []
        severity = min((found for found, _ in ends), key=SEVERITIES.index)
        return [(FLEET, Finding(EXPIRY_KIND, severity, "; ".join(text for _, text in ends)))]

    def acknowledge(self, key: AlertKey, who: str) -> bool:
        """Somebody knows; the end is not sent any more. False if there is no such alert."""
        done = records.acknowledge(self._store, key, who, int(self._now() * 1000))
        self._change(key, lambda alert: replace(alert, acknowledged_by=who))
        return done

    def silence(self, key: AlertKey, who: str, minutes: float) -> None:
        """Send nothing about this for a while; 0 lifts it."""
        now_ms = int(self._now() * 1000)
        until_ms = now_ms + int(minutes * 60_000)
        records.silence(self._store, key, who, until_ms, now_ms)
        self._change(key, lambda alert: replace(alert, silent_until_ms=until_ms if minutes else 0))

    def _change(self, key: AlertKey, change: Callable[[Alert], Alert]) -> None:
        with self._lock:
            if key in self._ledger.alerts:
                alerts = {**self._ledger.alerts, key: change(self._ledger.alerts[key])}
                self._ledger = replace(self._ledger, alerts=alerts)

    def _write(self, changes: list[Change], now_ms: int) -> None:
        self._unwritten = [*self._unwritten, *changes][-10_000:]
        try:
            if self._unwritten:
                records.note(self._store, self._unwritten, now_ms)
                self._unwritten = []
            quiet = records.silenced(self._store, now_ms)
        except EdgeKitError:
            return  # The database is away, which is an alert itself; what is unwritten is written when it answers.
        with self._lock:
            alerts = {k: replace(a, silent_until_ms=quiet.get(k, 0)) for k, a in self._ledger.alerts.items()}
            self._ledger = replace(self._ledger, alerts=alerts)


def _mass_silence(picture: Picture, findings: Mapping[BoardKey, Sequence[Finding]], now_ms: int) -> str | None:
    """Where nobody told us that the broker is away, half the fleet falling silent at once tells it."""
    silent = sum(board.silent(now_ms) for board in picture.boards.values())
    claimed = sum(board.state == "online" for board in picture.boards.values())
    if silent >= _MASS and silent >= _MASS_SHARE * claimed:
        return f"{silent} of {claimed} boards fell silent at once: look at the broker, the network or the collector"
    return None


class Sender:
    """Sends on a thread of its own, so that a slow mail server holds up no judgement.

    Args:
        ways: Where to.
    """

    def __init__(self, ways: Sequence[Way]) -> None:
        self._ways = list(ways)
        self._waiting: deque[Message] = deque(maxlen=_WAITING)
        self._some = threading.Condition()
        self._stopped = False
        self.sent = 0
        self.problems: dict[str, str] = {}
        self._thread = threading.Thread(target=self._run, name="alerts", daemon=True)

    @property
    def names(self) -> list[str]:
        """Of the ways out."""
        return [way.name for way in self._ways]

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self) -> None:
        """Send no more; what waits is dropped, and stands on the alerts page."""
        with self._some:
            self._stopped = True
            self._some.notify_all()
        if self._thread.is_alive():
            self._thread.join(15)

    def put(self, message: Message) -> None:
        """Send this soon."""
        with self._some:
            self._waiting.append(message)
            self._some.notify()

    def _run(self) -> None:
        while True:
            with self._some:
                self._some.wait_for(lambda: self._stopped or self._waiting)
                if self._stopped:
                    return
                message = self._waiting.popleft()
            for way in self._ways:
                self._send(way, message)

    def _send(self, way: Way, message: Message) -> None:
        for wait_s in (*_RETRY_S, None):
            try:
                way.send(message)
            except Exception as error:  # Whatever a mail server or a plug-in of Apprise raises: others must still hear.
                _LOG.warning("%s: %s", way.name, type(error).__name__)
                self.problems[way.name] = f"{type(error).__name__}: {error}"[:200]
                with self._some:
                    if wait_s is None or self._some.wait_for(lambda: self._stopped, wait_s):
                        return
            else:
                self.sent += 1
                self.problems.pop(way.name, None)
                return
