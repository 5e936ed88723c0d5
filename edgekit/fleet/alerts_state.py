"""From findings to alerts: what has held long enough, what is over, what somebody has seen. No clock, no network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from edgekit.fleet.alerts_judging import Finding
from edgekit.fleet.alerts_rules import FLEET_KIND, Rules
from edgekit.fleet.batch import BoardKey

# The fleet itself, for what is not about one board. No board can be called so.
FLEET = BoardKey("*", "*")


class AlertKey(NamedTuple):
    """One kind of trouble of one board."""

    board: BoardKey
    kind: str


@dataclass(frozen=True)
class Alert:
    """One trouble, from when it was first found.

    Attributes:
        severity: ``critical``, ``warning`` or ``notice``.
        text: What is wrong, as found last.
        since_ms: When it was first found.
        raised_ms: When it had held long enough; None before.
        gone_ms: When it was first not found any more; None while it is.
        ended_ms: When the alert was over; None before.
        acknowledged_by: Who said that they know.
        silent_until_ms: Nothing is sent about it before.
    """

    key: AlertKey
    severity: str
    text: str
    since_ms: int
    raised_ms: int | None = None
    gone_ms: int | None = None
    ended_ms: int | None = None
    acknowledged_by: str | None = None
    silent_until_ms: int = 0


class Change(NamedTuple):
    """What is worth telling: an alert that began, or one that is over."""

    alert: Alert
    began: bool


@dataclass(frozen=True)
class Ledger:
    """All alerts that stand, and what held offline judgement back.

    Attributes:
        alerts: What is found now or was a moment ago.
        unsettled_until_ms: Boards are not called offline before: their broker or store has just come back.
    """

    alerts: Mapping[AlertKey, Alert] = field(default_factory=dict)
    unsettled_until_ms: int = 0

    def standing(self) -> list[Alert]:
        """Alerts that were raised and are not over, worst and oldest first."""
        order = {"critical": 0, "warning": 1, "notice": 2}
        raised = [alert for alert in self.alerts.values() if alert.raised_ms is not None]
        return sorted(raised, key=lambda a: (order[a.severity], a.raised_ms or 0, a.key))


def advance(
    ledger: Ledger,
    findings: Iterable[tuple[BoardKey, Finding]],
    problem: str | None,
    rules: Rules,
    now_ms: int,
) -> tuple[Ledger, list[Change]]:
    """One step.

    Args:
        ledger: What stood.
        findings: What is wrong now.
        problem: Why nothing can be heard of any board now: the broker or the store is away. Then this is the one
            alert, and no board is called offline for it.
        rules: How long what must hold.
        now_ms: UTC, ms since 1970.

    Returns:
        What stands now, and what to tell.
    """
    unsettled = now_ms + int(rules.settle_s * 1000) if problem else ledger.unsettled_until_ms
    found = {AlertKey(board, finding.kind): finding for board, finding in findings}
    if problem:
        found[AlertKey(FLEET, FLEET_KIND)] = Finding(FLEET_KIND, "critical", problem)
    if now_ms < unsettled:
        # What was an alert before stays one; silence that begins now is the broker's.
        found = {
            key: finding
            for key, finding in found.items()
            if key.kind != "offline" or (key in ledger.alerts and ledger.alerts[key].raised_ms is not None)
        }
    alerts: dict[AlertKey, Alert] = {}
    changes: list[Change] = []
    for key, finding in found.items():
        alert = ledger.alerts.get(key) or Alert(key, finding.severity, finding.text, now_ms)
        alert = replace(alert, severity=finding.severity, text=finding.text, gone_ms=None)
        if alert.raised_ms is None and now_ms - alert.since_ms >= rules.raise_s.get(key.kind, 0.0) * 1000:
            alert = replace(alert, raised_ms=now_ms)
            changes.append(Change(alert, began=True))
        alerts[key] = alert
    for key, alert in ledger.alerts.items():
        if key in found:
            continue
        if alert.raised_ms is None:
            continue  # It never held long enough: nobody heard of it.
        alert = replace(alert, gone_ms=alert.gone_ms or now_ms)
        if now_ms - (alert.gone_ms or now_ms) >= rules.clear_s * 1000:
            changes.append(Change(replace(alert, ended_ms=now_ms), began=False))
        else:
            alerts[key] = alert
    return Ledger(alerts, unsettled), changes


def worth_sending(changes: Iterable[Change], now_ms: int) -> list[Change]:
    """Without what is silenced, and without the end of what somebody acknowledged."""
    return [c for c in changes if c.alert.silent_until_ms <= now_ms and (c.began or c.alert.acknowledged_by is None)]


class Message(NamedTuple):
    """What goes out: one alert, or many of one kind as one.

    Attributes:
        began: Whether it begins or is over.
        alerts: Those it speaks of.
    """

    began: bool
    kind: str
    alerts: tuple[Alert, ...]

    @property
    def title(self) -> str:
        """One line."""
        word = "" if self.began else "over: "
        if len(self.alerts) == 1:
            alert = self.alerts[0]
            who = "the fleet" if alert.key.board == FLEET else "/".join(alert.key.board)
            return f"{word}{who}: {alert.text}"
        return f"{word}{len(self.alerts)} boards: {self.kind.replace('_', ' ')}"

    @property
    def body(self) -> str:
        """Up to twenty lines."""
        lines = [f"{'/'.join(alert.key.board)}: {alert.text}" for alert in self.alerts[:20]]
        more = len(self.alerts) - len(lines)
        return "\n".join([*lines, f"and {more} more"] if more else lines)


def messages(changes: Iterable[Change], digest_over: int) -> list[Message]:
    """Put changes into as few messages as say it: a thousand boards at once are one."""
    groups: dict[tuple[bool, str], list[Alert]] = {}
    for change in changes:
        groups.setdefault((change.began, change.alert.key.kind), []).append(change.alert)
    made: list[Message] = []
    for (began, kind), alerts in groups.items():
        if len(alerts) > digest_over:
            made.append(Message(began, kind, tuple(alerts)))
        else:
            made += [Message(began, kind, (alert,)) for alert in alerts]
    return made
