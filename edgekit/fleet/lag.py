"""How long messages take from the board to the committed row: a histogram that never grows."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

# Bins of 10 %, from 1 ms to 17 minutes: a quantile is right to 10 %.
_BINS, _BASE = 146, 1.1


@dataclass(frozen=True)
class Lag:
    """Counts per bin; a value, so that a snapshot of it stays what it was.

    Attributes:
        counts: Messages whose lag is below 1.1 ** bin milliseconds, and not below the bin before.
    """

    counts: tuple[int, ...] = (0,) * _BINS

    def plus(self, lags_ms: Iterable[float]) -> Lag:
        """With more messages; what came from the future counts as 1 ms."""
        counts = list(self.counts)
        for lag_ms in lags_ms:
            counts[min(_BINS - 1, math.ceil(math.log(lag_ms, _BASE)) if lag_ms > 1 else 0)] += 1
        return Lag(tuple(counts))

    def quantile_ms(self, share: float) -> float | None:
        """The lag that this share of the messages stayed below; None while there are none.

        Args:
            share: 0.99 for the 99th percentile.
        """
        wanted = share * sum(self.counts)
        seen = 0
        for number, count in enumerate(self.counts):
            seen += count
            if count and seen >= wanted:
                return round(_BASE**number, 1)
        return None
