"""Wall-clock time as the contract writes it. Durations never come from here: they are monotonic."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def utc_text(seconds: float | None = None) -> str:
    """UTC with milliseconds, e.g. ``2026-11-22T10:00:05.120Z``.

    Args:
        seconds: Since 1970; now if None.
    """
    moment = datetime.fromtimestamp(time.time() if seconds is None else seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"
