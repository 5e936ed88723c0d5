"""One board as it is now: a value made from rows, and the same for the wall, the alerts and the API."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from edgekit.fleet.batch import BoardKey

# A board that says it is online and sends nothing for three windows and this long is silent.
SILENCE_MS = 60_000
# What the label mix is judged on: counts fade, so that it follows what the camera sees now.
MIX_FADE_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class BoardNow:
    """The last that is known of one board; what is unknown is None. Text comes from the board and is hostile.

    Attributes:
        number: Row id.
        state: ``online``, ``stopped``, ``offline`` or None.
        at_ms: When the last Reading was made, by the board's clock; UTC, ms since 1970.
        received_ms: When it was stored, by the host's clock.
        window_s: Length of its window.
        mix: Fading counts of frames per top-1 class index, over about the last hour.
        missing: Messages that never came, in boots of the last day.
        dropped: Messages that the board says it dropped, in boots of the last day.
        update_failed: Why its last update was not taken; None if it was.
    """

    site: str
    device: str
    number: int = 0
    state: str | None = None
    boot: str | None = None
    reason: str | None = None
    at_ms: int | None = None
    received_ms: int | None = None
    window_s: float = 30.0
    clock: str | None = None
    fps: float | None = None
    capture_fps: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None
    label: str | None = None
    score: float | None = None
    delegate: str | None = None
    delegate_reason: str | None = None
    release: str | None = None
    temp_c: float | None = None
    throttled: tuple[str, ...] = ()
    rss_bytes: int | None = None
    disk_free_bytes: int | None = None
    load_1m: float | None = None
    source: str | None = None
    mix: Mapping[str, float] = field(default_factory=dict)
    missing: int = 0
    dropped: int = 0
    update_failed: str | None = None

    @property
    def key(self) -> BoardKey:
        """Site and device."""
        return BoardKey(self.site, self.device)

    def silent(self, now_ms: int) -> bool:
        """Whether a board that calls itself online has stopped sending."""
        if self.state != "online" or self.received_ms is None:
            return False
        return now_ms - self.received_ms > SILENCE_MS + 3000 * min(self.window_s, 3600.0)

    def standing(self, now_ms: int) -> str:
        """``online``, ``silent``, ``stopped``, ``offline`` or ``unknown``."""
        if self.silent(now_ms):
            return "silent"
        return self.state or "unknown"


def with_reading(board: BoardNow, at_ms: int, received_ms: int, payload: bytes) -> BoardNow:
    """What is known after a stored Reading.

    Args:
        board: What was known.
        at_ms: When it was made.
        received_ms: When it was stored.
        payload: The row's payload: JSON, zlib; valid, because only valid ones are stored.
    """
    values: dict[str, Any] = json.loads(zlib.decompress(payload))
    latency = values.get("latency_ms", {}).get("end_to_end", {})
    # Mending the mix at every Reading would make it depend on how often we look; fading by time does not.
    fade = 0.5 ** (max(0, at_ms - board.at_ms) / MIX_FADE_MS) if board.at_ms is not None else 0.0
    mix = {name: count * fade for name, count in board.mix.items() if count * fade > 0.01}
    if board.release == values.get("bundle") or board.release is None:
        for name, count in values.get("class_counts", {}).items():
            mix[name] = mix.get(name, 0.0) + count
    else:
        mix = {name: float(count) for name, count in values.get("class_counts", {}).items()}
    return replace(
        board,
        at_ms=at_ms,
        received_ms=received_ms,
        window_s=values["window_s"],
        clock=values["clock"],
        fps=values["fps"],
        capture_fps=values["capture_fps"],
        p50_ms=latency.get("p50"),
        p95_ms=latency.get("p95"),
        label=values.get("label"),
        score=values.get("score"),
        delegate=values.get("delegate"),
        delegate_reason=values.get("delegate_reason"),
        release=values.get("bundle"),
        temp_c=values.get("cpu_temp_c"),
        throttled=tuple(values.get("throttled_now") or ()),
        rss_bytes=values.get("rss_bytes"),
        disk_free_bytes=values.get("disk_free_bytes"),
        load_1m=values.get("load_1m"),
        source=values.get("source"),
        mix=mix,
    )


def with_status(board: BoardNow, row: Any) -> BoardNow:
    """What is known after a row of ``statuses``."""
    return replace(
        board,
        state=row.state,
        boot=row.boot,
        reason=row.reason,
        release=board.release or row.bundle,
        delegate=board.delegate or row.delegate,
    )
