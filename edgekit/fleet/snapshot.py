"""How the fleet looks now: what a live view draws, and nothing it would have to ask for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from edgekit.fleet.batch import Received, Standing, supersedes
from edgekit.fleet.lag import Lag
from edgekit_device.contract.telemetry import Reading, Result, Status


@dataclass(frozen=True)
class BoardSnapshot:
    """The last that is known of one board; what is unknown is None.

    Attributes:
        state: ``online``, ``stopped``, ``offline`` or None.
        p50_ms: Latency end to end, median of the last window.
        p95_ms: Latency end to end, 95th percentile of the last window.
        release: Bundle that serves.
        stored: Messages in committed rows.
        rejected: Messages kept aside since the collector started.
    """

    site: str
    device: str
    state: str | None = None
    boot: str | None = None
    session: int | None = None
    reason: str | None = None
    label: str | None = None
    score: float | None = None
    fps: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None
    delegate: str | None = None
    release: str | None = None
    at: str | None = None
    stored: int = 0
    rejected: int = 0


@dataclass(frozen=True)
class FleetSnapshot:
    """All boards, sorted by site and device.

    Attributes:
        received: Messages taken from the broker since the collector started.
        stored: Messages in committed rows.
        duplicates: Messages that were stored before, since the collector started.
        rejected: Messages kept aside since the collector started.
        lag: From made to committed, since the collector started.
        problem: What keeps the collector from storing now; None if nothing.
    """

    boards: tuple[BoardSnapshot, ...] = ()
    received: int = 0
    stored: int = 0
    duplicates: int = 0
    rejected: int = 0
    lag: Lag = field(default_factory=Lag)
    problem: str | None = None


def after(board: BoardSnapshot, messages: Iterable[Received], stored: int = 0) -> BoardSnapshot:
    """What is known of a board after more messages.

    Args:
        board: What was known.
        messages: Valid messages of this board, in the order they came.
        stored: How many of them are new rows.
    """
    known: dict[str, Any] = {"stored": board.stored + stored}
    standing, at = Standing(board.boot, board.session), board.at
    for _, document, _ in messages:
        if isinstance(document, Reading):
            # A backlog is history: it must not push what is shown as "now" back. Contract times sort as text.
            if at is None or document.at >= at:
                at = document.at
                known |= _measured(document)
        elif isinstance(document, Result):
            known |= {"label": document.label, "score": document.score}
        elif isinstance(document, Status) and supersedes(document, standing):
            standing = Standing(document.boot, document.session)
            known |= {name: getattr(document, name) for name in ("state", "boot", "session", "reason")}
            serves = {"delegate": document.delegate, "release": document.bundle}
            known |= {name: value for name, value in serves.items() if value}
    return replace(board, **known)


def _measured(reading: Reading) -> dict[str, Any]:
    latency = reading.latency_ms.get("end_to_end", {})
    return {
        "label": reading.label,
        "score": reading.score,
        "fps": reading.fps,
        "p50_ms": latency.get("p50"),
        "p95_ms": latency.get("p95"),
        "delegate": reading.delegate,
        "release": reading.bundle,
        "at": reading.at,
    }
