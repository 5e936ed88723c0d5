"""How often the bound on the drop holds, by drawing images from populations whose true drop is known."""

from __future__ import annotations

import numpy as np

from edgekit.verification.bounds import drop_upper, tango_upper


def coverage(n: int, differing: float, drop: float, draws: int, seed: int = 0) -> tuple[float, float]:
    """Share of draws whose bound is at or above the true drop: (exact bound, Tango's approximate one).

    Args:
        n: Images a draw.
        differing: Share of images on which one model is right and the other wrong.
        drop: True drop, as a share; at most `differing`.
        draws: How often n images are drawn.
        seed: Of the draws.
    """
    lost, gained = (differing + drop) / 2, (differing - drop) / 2
    drawn = np.random.default_rng(seed).multinomial(n, [lost, gained, 1 - differing], draws)[:, :2]
    outcomes, counts = np.unique(drawn, axis=0, return_counts=True)
    approximate = np.array([tango_upper(n, int(b), int(c)) for b, c in outcomes])
    # The exact bound rises with the approximate one, by construction: the first outcome that is covered is found by
    # bisection. Small n are tested without this shortcut.
    order = np.argsort(approximate, kind="stable")
    low, high = 0, len(order)
    while low < high:
        middle = (low + high) // 2
        b, c = (int(value) for value in outcomes[order[middle]])
        if drop_upper(n, b, c) >= drop:
            high = middle
        else:
            low = middle + 1
    return float(counts[order[low:]].sum() / draws), float(counts[approximate >= drop].sum() / draws)
