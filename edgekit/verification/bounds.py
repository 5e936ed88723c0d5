"""How much accuracy a candidate may have lost at most: counts in, bound and verdict out.

Both models judge the same images, so only the images on which one is right and the other wrong speak of the drop:
`lost` (reference right, candidate wrong) and `gained` (the other way round) of n. The drop is the difference of
their probabilities. Its upper bound is exact: over all populations it covers the true drop with at least the stated
confidence, whatever n and however few images differ.

Method: outcomes are ordered by Tango's approximate score limit (T. Tango, "Equivalence test and confidence interval
for the difference in proportions for the paired-sample design", Statistics in Medicine 17, 1998, 891-908), and the
limit of that ordering that is exact is Buehler's: the largest drop at which an outcome as good as this one is still
likelier than 1 - confidence (R. J. Buehler, JASA 52, 1957; for paired proportions C. J. Lloyd and M. V. Moldovan,
Statistics in Medicine 26, 2007, 3369-3384). The share of gained images is a nuisance: the likeliest value is taken,
over an interval that holds the true one with all but a hundredth of the error (R. L. Berger and D. D. Boos, "P values
maximized over a confidence set for the nuisance parameter", JASA 89, 1994), which the bound pays for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

CONFIDENCE = 0.95
# With this probability the images that `images_missing` asks for settle the question, if the rates stay as they are.
POWER = 0.8
# Of the error: what the interval of the nuisance may miss.
_NUISANCE_SHARE = 0.01
_NUISANCE_POINTS = 41
# Beyond this many standard deviations a count has a probability below 1e-10.
_WINDOW = 6.6
_STEPS = 32
# A thousandth of a point: the bound is rounded up by no more.
_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Drop:
    """What a paired comparison says about the accuracy that was lost; all shares 0..1, a gain is negative.

    Attributes:
        n: Images.
        lost: Images that the reference knows and the candidate does not.
        gained: The other way round.
        observed: (lost - gained) / n.
        upper: The drop is at most this, at `confidence` (one-sided).
        lower: The drop is at least this, at `confidence` (one-sided).
        epsilon: The drop that was to be certified; None if none was named.
        verdict: ``certified`` (upper <= epsilon), ``refuted`` (lower > epsilon), ``undecided``; None without epsilon.
        images_missing: While undecided: how many more images will probably (`POWER`) decide it, if the rates stay
            as they are; None if it is decided, or if the observed drop is too close to epsilon to tell.
        confidence: Of each bound.
    """

    n: int
    lost: int
    gained: int
    observed: float
    upper: float
    lower: float
    epsilon: float | None
    verdict: str | None
    images_missing: int | None
    confidence: float


def judge_drop(n: int, lost: int, gained: int, epsilon: float | None = None, confidence: float = CONFIDENCE) -> Drop:
    """Bound the drop, and hold the bound against a limit.

    Args:
        n: Images that both models judged.
        lost: Of these, those that only the reference got right.
        gained: Of these, those that only the candidate got right.
        epsilon: Largest drop that is acceptable, as a share (0.01 is one point).
        confidence: One-sided, of each bound.
    """
    upper = drop_upper(n, lost, gained, confidence)
    lower = -drop_upper(n, gained, lost, confidence)
    verdict = missing = None
    if epsilon is not None:
        verdict = "certified" if upper <= epsilon else "refuted" if lower > epsilon else "undecided"
    if epsilon is not None and verdict == "undecided":
        missing = images_missing(n, lost, gained, epsilon, confidence)
    observed = (lost - gained) / n if n else 0.0
    return Drop(n, lost, gained, observed, upper, lower, epsilon, verdict, missing, confidence)


def drop_upper(n: int, lost: int, gained: int, confidence: float = CONFIDENCE) -> float:
    """Exact one-sided upper bound on the drop; see the module's docstring.

    Args:
        n: Images; 0 gives 1.
        lost: Images that only the reference got right.
        gained: Images that only the candidate got right.
        confidence: Probability, at least, that the bound is not below the true drop.

    Returns:
        A share, -1..1.

    Raises:
        ValueError: The counts do not fit together.
    """
    if lost < 0 or gained < 0 or lost + gained > n or not 0.5 <= confidence < 1:
        raise ValueError(f"no outcome of {n} images: {lost} lost, {gained} gained, confidence {confidence}")
    if lost == n:
        return 1.0
    region = _Region(n, tango_upper(n, lost, gained, confidence), confidence)
    gamma = (1 - confidence) * _NUISANCE_SHARE
    nuisance = np.linspace(*_clopper_pearson(n, gained, gamma), _NUISANCE_POINTS)

    def likely(drop: float) -> bool:
        return any(region.probability(drop, float(share)) + gamma > 1 - confidence for share in nuisance)

    # The exact limit lies close to the approximate one: the bracket grows from there.
    step = max(1e-3, 2.0 / n)
    low = high = max(-1.0, min(1.0, region.limit))
    while low > -1 and not likely(low):
        low, high, step = max(-1.0, low - step), low, 2 * step
    while high < 1 and likely(high):
        low, high, step = high, min(1.0, high + step), 2 * step
    for _ in range(_STEPS):
        if high - low <= _TOLERANCE:
            break
        middle = (low + high) / 2
        low, high = (middle, high) if likely(middle) else (low, middle)
    return high


def tango_upper(n: int, lost: int, gained: int, confidence: float = CONFIDENCE) -> float:
    """Tango's approximate upper limit: the drop at which the score statistic is -z."""
    z = NormalDist().inv_cdf(confidence)
    low, high = (lost - gained) / n, 1.0
    while high - low > _TOLERANCE / 100:
        middle = (low + high) / 2
        statistic = float(_score(n, np.array([float(lost)]), np.array([float(gained)]), middle)[0])
        low, high = (middle, high) if statistic > -z else (low, middle)
    return high


def images_missing(n: int, lost: int, gained: int, epsilon: float, confidence: float = CONFIDENCE) -> int | None:
    """How many images more settle whether the drop is within epsilon, if the rates stay as they are.

    The usual sample size of a one-sided test, ((z_confidence + z_power) * sd / distance)^2, with half an image added
    to each count, and never fewer than certify a candidate that loses nothing at all.

    Returns:
        None where the observed drop is epsilon itself, as far as one can see.
    """
    shares = (lost + 0.5) / (n + 1), (gained + 0.5) / (n + 1)
    distance = abs(epsilon - (lost - gained) / n) if n else epsilon
    if distance < 1e-4:
        return None
    normal = NormalDist()
    z = normal.inv_cdf(confidence) + normal.inv_cdf(POWER)
    variance = sum(shares) - (shares[0] - shares[1]) ** 2
    needed = z * z * variance / distance**2
    if (lost - gained) / max(n, 1) < epsilon < 1:
        needed = max(needed, math.log(1 - confidence) / math.log(1 - epsilon)) if epsilon > 0 else needed
    return max(1, math.ceil(needed) - n)


class _Region:
    """Every outcome (lost, gained) whose approximate limit is no higher than a given one.

    For each number gained it holds all numbers lost up to a border: that is all the sums below need.
    """

    def __init__(self, n: int, limit: float, confidence: float) -> None:
        self.n, self.limit = n, limit
        # An outcome's own limit was found by bisection: it must lie inside, and so must its equals.
        edge = min(1.0, limit + _TOLERANCE / 10)
        z = NormalDist().inv_cdf(confidence)
        gained = np.arange(n + 1, dtype=np.float64)
        # The score rises with the number lost: bisection for all gained at once.
        inside, outside = np.full(n + 1, -1.0), n - gained + 1
        for _ in range(math.ceil(math.log2(n + 2)) + 1):
            middle = np.floor((inside + outside) / 2)
            good = _score(n, np.maximum(middle, 0.0), gained, edge) <= -z
            good |= middle < 0
            open_ended = outside - inside > 1
            inside = np.where(open_ended & good, middle, inside)
            outside = np.where(open_ended & ~good, middle, outside)
        self.border = inside.astype(np.int64)

    def probability(self, drop: float, share: float) -> float:
        """Probability of the region, were `drop` true and this the share of gained images."""
        gained = max(share, -drop, 0.0)
        lost = max(gained + drop, 0.0)
        if lost + gained > 1.0 + 1e-12:
            return 0.0
        n = self.n
        g = _window(n, gained)
        b = _window(n, lost)
        border = self.border[g]
        # Nothing below the window counts: where the border lies above it, the whole column is inside.
        b = b[b <= border.max(initial=-1)]
        if not b.size:
            return 0.0
        logs = _log_factorials(n)
        rest = n - g[:, None] - b[None, :]
        inside = (b[None, :] <= border[:, None]) & (rest >= 0)
        rest = np.maximum(rest, 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            log_p = logs[n] - logs[g][:, None] - logs[b][None, :] - logs[rest]
            log_p += _times_log(g, gained)[:, None] + _times_log(b, lost)[None, :]
            log_p += _times_log(rest, max(0.0, 1 - lost - gained))
        return float(np.exp(log_p[inside]).sum())


def _score(n: int, lost: Floats, gained: Floats, drop: float) -> Floats:
    """Tango's statistic: how many standard errors the observed drop lies above `drop`, were `drop` true."""
    a = 2.0 * n
    b = -lost - gained + (2 * n - lost + gained) * drop
    c = -gained * drop * (1 - drop)
    share = np.maximum((np.sqrt(np.maximum(b * b - 4 * a * c, 0.0)) - b) / (2 * a), max(0.0, -drop))
    variance = n * np.maximum(2 * share + drop * (1 - drop), 0.0)
    distance = lost - gained - n * drop
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = distance / np.sqrt(variance)
    return np.where(variance > 0, statistic, np.where(distance == 0, 0.0, np.copysign(np.inf, distance)))


def _window(n: int, share: float) -> npt.NDArray[np.int64]:
    """The counts that a binomial variable takes, but for a probability that does not matter."""
    middle, spread = n * share, _WINDOW * math.sqrt(n * share * (1 - share)) + 20
    return np.arange(max(0, math.floor(middle - spread)), min(n, math.ceil(middle + spread)) + 1)


def _times_log(count: npt.NDArray[np.int64], share: float) -> Floats:
    """Return count * log(share), with 0 * log(0) = 0."""
    if share > 0:
        return count.astype(np.float64) * math.log(share)
    return np.where(count == 0, 0.0, -np.inf)


@lru_cache(maxsize=8)
def _log_factorials(n: int) -> Floats:
    """Return log k! for k = 0..n."""
    steps: Floats = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, n + 1, dtype=np.float64)))))
    return steps


def _clopper_pearson(n: int, count: int, error: float) -> tuple[float, float]:
    """Exact two-sided interval for a binomial share that misses with a probability of at most `error`."""
    logs = _log_factorials(n)

    def tail(share: float, counts: npt.NDArray[np.int64]) -> float:
        log_p = logs[n] - logs[counts] - logs[n - counts] + _times_log(counts, share)
        return float(np.exp(log_p + _times_log(n - counts, 1 - share)).sum())

    def solve(counts: npt.NDArray[np.int64], rising: bool) -> float:
        low, high = 0.0, 1.0
        for _ in range(50):
            middle = (low + high) / 2
            if (tail(middle, counts) > error / 2) == rising:
                high = middle
            else:
                low = middle
        return low if rising else high

    lower = solve(np.arange(count, n + 1), rising=True) if count else 0.0
    upper = solve(np.arange(count + 1), rising=False) if count < n else 1.0
    return lower, upper
