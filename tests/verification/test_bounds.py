"""The bound on a drop holds as often as it says, and its verdicts follow from it."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from edgekit.verification.bounds import CONFIDENCE, drop_upper, images_missing, judge_drop, tango_upper
from tests.verification.coverage import coverage

DRAWS = 20_000
# Three standard errors of a share of 95 % over so many draws: the simulation's own noise, not the bound's.
NOISE = 3 * math.sqrt(0.95 * 0.05 / DRAWS)


def test_the_approximate_limits_are_those_of_the_literature() -> None:
    # Airway reactivity of 21 children: 1 and 7 discordant pairs. M. W. Fagerland, S. Lydersen and P. Laake,
    # "Recommended tests and confidence intervals for paired binomial proportions", Stat. Med. 33 (2014): Tango's
    # two-sided 95 % interval is -0.517 to -0.026.
    assert tango_upper(21, 1, 7, 0.975) == pytest.approx(-0.026, abs=5e-4)
    assert -tango_upper(21, 7, 1, 0.975) == pytest.approx(-0.517, abs=5e-4)


@pytest.mark.parametrize("n", [50, 299, 1000])
def test_without_a_single_difference_the_bound_is_the_rule_of_three(n: int) -> None:
    # Then the exact limit is known in closed form; the nuisance interval costs a hundredth of the error.
    known = 1 - (1 - CONFIDENCE) ** (1 / n)
    assert known <= drop_upper(n, 0, 0) <= 1.01 * known


@pytest.mark.parametrize("differing", [0.01, 0.03, 0.10])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("n", [50, 200, 1000])
def test_the_bound_covers_the_true_drop_at_least_as_often_as_it_says(n: int, share: float, differing: float) -> None:
    exact, _ = coverage(n, differing, share * differing, DRAWS)
    assert exact >= CONFIDENCE - NOISE


@pytest.mark.slow
@pytest.mark.parametrize(("differing", "drop"), [(0.01, 0.01), (0.04, 0.01)])
def test_the_bound_covers_a_drop_of_one_point_on_5000_images(differing: float, drop: float) -> None:
    exact, _ = coverage(5000, differing, drop, DRAWS)
    assert exact >= CONFIDENCE - NOISE
    # Not by being useless: an exact bound need not be far above the nominal confidence at this size.
    assert exact <= 0.97


def test_the_approximate_bound_alone_would_promise_too_much() -> None:
    """Why the exact one is computed at all; if this fails, the simulation sees nothing."""
    exact, approximate = coverage(200, 0.03, 0.03, DRAWS)
    assert approximate < CONFIDENCE - NOISE <= exact


def test_coverage_without_the_shortcut_of_the_ordering() -> None:
    n, lost, gained = 60, 0.06, 0.02
    drawn = np.random.default_rng(3).multinomial(n, [lost, gained, 1 - lost - gained], DRAWS)[:, :2]
    outcomes, counts = np.unique(drawn, axis=0, return_counts=True)
    held = [drop_upper(n, int(b), int(c)) >= lost - gained for b, c in outcomes]
    assert counts[held].sum() / DRAWS >= CONFIDENCE - NOISE


def test_the_bound_rises_with_images_lost_and_falls_with_images_gained_and_with_more_images() -> None:
    bounds = [drop_upper(300, lost, 3) for lost in range(20)]
    assert all(one < two for one, two in itertools.pairwise(bounds))
    assert drop_upper(300, 5, 9) < drop_upper(300, 5, 3)
    assert drop_upper(3000, 50, 30) < drop_upper(300, 5, 3)


@pytest.mark.parametrize("counts", [(1, 1, 0), (1, 0, 0), (7, 7, 0), (7, 0, 7)])
def test_the_smallest_samples_have_bounds(counts: tuple[int, int, int]) -> None:
    n, lost, gained = counts
    assert (lost - gained) / n <= drop_upper(n, lost, gained) <= 1


@pytest.mark.parametrize("counts", [(5, 3, 3), (5, -1, 0)])
def test_counts_that_do_not_fit_are_refused(counts: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="no outcome"):
        drop_upper(*counts)


def test_verdicts() -> None:
    assert judge_drop(5000, 20, 18, 0.01).verdict == "certified"
    assert judge_drop(5000, 400, 100, 0.01).verdict == "refuted"
    few = judge_drop(300, 6, 5, 0.01)
    assert few.verdict == "undecided"
    assert few.images_missing is not None and few.images_missing > 1000
    assert judge_drop(300, 6, 5).verdict is None
    for drop in (judge_drop(5000, 20, 18, 0.01), judge_drop(5000, 400, 100, 0.01)):
        assert drop.images_missing is None


def test_no_images_certify_nothing() -> None:
    drop = judge_drop(0, 0, 0, 0.01)
    assert (drop.verdict, drop.upper, drop.lower) == ("undecided", 1.0, -1.0)


@pytest.mark.parametrize(("lost", "gained"), [(0.015, 0.010), (0.03, 0.025), (0.02, 0.0)])
def test_the_images_that_are_missing_decide_it_about_as_often_as_promised(lost: float, gained: float) -> None:
    n, epsilon = 400, 0.01
    missing = images_missing(n, round(n * lost), round(n * gained), epsilon)
    assert missing is not None
    whole = n + missing
    drawn = np.random.default_rng(1).multinomial(whole, [lost, gained, 1 - lost - gained], 400)
    # At these numbers of images the quick approximate bound is the exact one to 0.01 points.
    if lost - gained < epsilon:
        decided = [tango_upper(whole, int(b), int(c)) <= epsilon for b, c, _ in drawn]
    else:
        decided = [-tango_upper(whole, int(c), int(b)) > epsilon for b, c, _ in drawn]
    # 80 % are promised, and 400 draws have a standard error of 2 %. It may be more: half an image is added to each
    # count, which weighs where one model never gains.
    assert sum(decided) / 400 > 0.74


def test_a_drop_that_is_the_limit_itself_has_no_number_of_missing_images() -> None:
    assert images_missing(1000, 20, 10, 0.01) is None
