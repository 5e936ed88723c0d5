"""When to try again: a fleet that lost its broker at one moment must not come back at one moment."""

from __future__ import annotations

import random
from typing import Any

FIRST_DELAY_S, DELAY_CAP_S = 10.0, 60.0


def reconnect_delay_s(attempt: int, uniform: Any = random.uniform) -> float:
    """Full jitter: a random time up to a bound that doubles from 10 s to 60 s.

    AWS Architecture Blog, "Exponential Backoff And Jitter".

    Args:
        attempt: 0 for the first try after a loss.
        uniform: Draws from [low, high].
    """
    return float(uniform(0.0, min(DELAY_CAP_S, FIRST_DELAY_S * 2 ** min(attempt, 10))))
