"""A9: a release that is bad on every board is stopped in its canary, and nobody else ever hears of it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from edgekit.fleet.rollouts.plan import Plan
from edgekit.fleet.simulated_updates import Updating
from edgekit.fleet.simulation import BUNDLE
from tests.worlds.fleets import wait_until
from tests.worlds.rollout_swarm import NEW, rolling_out

CANARY, MOST_FAILURES = "10%", "20%"
LIMIT_S = 30.0


def run(arguments: Sequence[str]) -> dict[str, Any]:
    """A rollout on `--boards` boards (50), stopped above 20 % failures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--boards", type=int, default=50)
    parser.add_argument("--trial-s", type=float, default=8.0)
    args = parser.parse_args(arguments)
    most = max(1, args.boards // 10)
    plan = Plan((CANARY, "50%", "100%"), MOST_FAILURES, readings=2)
    updating = Updating(download_s=args.trial_s / 2, trial_s=args.trial_s, bad=frozenset({NEW}))
    with rolling_out(args.boards, plan, updating, every_s=2.0) as scene:
        shown = scene.ended(180)
        witness = scene.witness
        touched = [board for board, words in witness.told.items() if NEW in words]
        wait_until(lambda: all(board in witness.back_s for board in touched), 30)
        # Whoever would be told late is told within two looks of the engine.
        wait_until(lambda: len(witness.told) > len(touched), 6)
        others = sorted(witness.told.keys() - set(touched))
        running_new = sorted(board for board, release in witness.running.items() if release == NEW)
    failed_s = sorted(witness.failed_s[board] for board in touched if board in witness.failed_s)
    # The report that crosses the limit is the first by which more than a fifth of those touched have failed.
    crossing = next((s for n, s in enumerate(failed_s, 1) if n * 5 > len(touched)), None)
    told_back = [board for board in touched if witness.told[board][-1] == BUNDLE]
    stopped_s = None if crossing is None else max(witness.back_s[board] for board in told_back) - crossing
    passed = (
        shown.rollout.state == "stopped"
        and 0 < len(touched) <= most
        and len(told_back) == len(touched)
        and not running_new
        and not others
        and stopped_s is not None
        and stopped_s <= LIMIT_S
    )
    return {
        "gate": "A9",
        "passed": passed,
        "figure": (
            f"{args.boards} boards, canary {CANARY}, at most {MOST_FAILURES} failures: {len(touched)} touched, "
            f"{len(told_back)} taken back, {len(running_new)} left on the bad one, {len(others)} others told anything; "
            f"stopped and everybody told {-1.0 if stopped_s is None else max(0.0, stopped_s):.1f} s after the report "
            "that crossed the limit"
        ),
        "detail": {"reason": shown.rollout.reason, "counts": dict(shown.counts), "phase": shown.phase},
    }
