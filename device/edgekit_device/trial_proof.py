"""The proof of a release that is on trial: the checks that cost time and may crash, away from the supervisor's loop."""

from __future__ import annotations

from dataclasses import dataclass

from edgekit_device.contract.errors import EdgeKitError, SelfTestError
from edgekit_device.ground import Ground, Host, Release, open_release
from edgekit_device.ladder import CPU_RUNGS, EDGETPU
from edgekit_device.releases import Slot
from edgekit_device.selftest import self_test, try_rung


@dataclass(frozen=True)
class Proof:
    """What was found.

    Attributes:
        problem: Why the release does not serve here; None when it does.
        release: The release, opened; None with a problem.
        rung: The CPU rung that reproduced its golden photos.
        old_bytes: Peak memory of the self-test of the release before; 0 if unknown.
        new_bytes: The same of this one.
    """

    problem: str | None
    release: Release | None = None
    rung: str = ""
    old_bytes: int = 0
    new_bytes: int = 0


def prove(ground: Ground, host: Host, base: Release, slot: Slot, *, rung: str, edgetpu: bool, forced: bool) -> Proof:
    """Open and check a release, prove it in a child, and the one before for comparison; blocks.

    Args:
        ground: Keys and limits.
        host: Proves the Edge TPU, with `edgetpu`.
        base: The release that serves.
        slot: The release to prove.
        rung: The rung that serves.
        edgetpu: The release before serves on the Edge TPU, which its worker has given back.
        forced: A lower rung than the one before had will do.
    """
    limit_s = ground.rules.proof_s
    try:
        release = open_release(slot, ground.keys)
        lower = CPU_RUNGS[CPU_RUNGS.index(rung) :] if rung in CPU_RUNGS else (rung,)
        found = self_test(release.bundle, release.data, deadline_s=limit_s, rungs=lower if forced else lower[:1])
        problem = _edgetpu_problem(release, host, forced) if edgetpu else None
        before = try_rung(base.bundle, base.data, rung, limit_s).get("peak_bytes", 0)
    except SelfTestError as error:
        return Proof("golden: " + "; ".join(f"{name}: {reason}" for name, reason in error.reasons.items()))
    except (EdgeKitError, OSError) as error:
        return Proof(f"{type(error).__name__}: {error}")
    return Proof(problem, None if problem else release, found["rung"], before, found["peak_bytes"])


def _edgetpu_problem(release: Release, host: Host, forced: bool) -> str | None:
    if EDGETPU not in release.bundle.manifest.models:
        return None if forced else "rung: it has no Edge TPU twin, and the model before serves there"
    why = host.probe(release, EDGETPU)
    return f"golden: {EDGETPU}: {why}" if why else None
